//! A network between a server and its database that can fall silent: nothing arrives any more, and no connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TestDatabase;

/// What the notification has in it by which who has asked for them finds out whether any arrive.
const TRIAL: &[u8] = b"onex_registry\0trial:";

/// Passes on what comes to a database. Its connections last as long as the runtime.
pub(crate) struct Proxy {
    url: String,
    silence: watch::Sender<Silence>,
    /// How many of the next notifications that are trials get lost.
    to_lose: Arc<AtomicUsize>,
    /// How many connections have asked to be notified, and found out that they are.
    listening: Arc<AtomicUsize>,
    /// How many connections have ended.
    ended: watch::Receiver<u32>,
}

/// Which of the connections that there are have fallen silent. Those that come later are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Nobody,
    Listening,
    Everybody,
}

/// What is known of one connection.
#[derive(Default)]
struct Connection {
    /// Whether it has asked to be notified.
    listens: AtomicBool,
    /// Whether it has found out that notifications arrive. Later trials are those of others.
    is_notified: AtomicBool,
    /// How many have.
    listening: Arc<AtomicUsize>,
    /// How many of the next notifications that are trials get lost.
    to_lose: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn to(database: &TestDatabase) -> Self {
        let mut url = url::Url::parse(&database.url()).unwrap();
        let to = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (silence, silent) = watch::channel(Silence::Nobody);
        let (ending, ended) = watch::channel(0);
        let ending = Arc::new(ending);
        let listening = Arc::<AtomicUsize>::default();
        let to_lose = Arc::<AtomicUsize>::default();
        let (count, lost) = (Arc::clone(&listening), Arc::clone(&to_lose));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, ending) = (to.clone(), Arc::clone(&ending));
                let connection = Connection {
                    listening: Arc::clone(&count),
                    to_lose: Arc::clone(&lost),
                    ..Connection::default()
                };
                let mut silent = silent.clone();
                silent.mark_unchanged();
                tokio::spawn(async move {
                    let server = TcpStream::connect(to).await.unwrap();
                    pass_on(client, server, silent, &connection).await;
                    ending.send_modify(|ended| *ended += 1);
                });
            }
        });
        Self { url: url.to_string(), silence, to_lose, listening, ended }
    }

    /// The database's URL through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The connections that there are fall silent.
    pub(crate) fn silence(&self) {
        self.silence.send_replace(Silence::Everybody);
    }

    /// Those fall silent that have asked to be notified.
    pub(crate) fn silence_listening(&self) {
        self.silence.send_replace(Silence::Listening);
    }

    /// The next trial of notifications gets lost, and nothing else.
    pub(crate) fn lose_a_trial(&self) {
        self.to_lose.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether it has.
    pub(crate) fn has_lost_it(&self) -> bool {
        self.to_lose.load(Ordering::SeqCst) == 0
    }

    /// How many connections have asked to be notified so far, and found out that they are.
    pub(crate) fn listening(&self) -> usize {
        self.listening.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have ended, of all that there were.
    pub(crate) async fn has_ended(&mut self, connections: u32) {
        self.ended.wait_for(|ended| *ended >= connections).await.unwrap();
    }
}

/// Until the client ends the connection, or the server does while it is heard.
async fn pass_on(
    mut client: TcpStream,
    mut server: TcpStream,
    mut silent: watch::Receiver<Silence>,
    connection: &Connection,
) {
    let (asking, told) = client.split();
    let (telling, asked) = server.split();
    tokio::select! {
        () = connection.ask(asking, asked) => return,
        () = connection.tell(telling, told) => return,
        () = connection.is_silenced(&mut silent) => {}
    }
    // What the client still says is read and goes nowhere.
    copy(&mut client, &mut sink()).await.ok();
}

impl Connection {
    async fn ask(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut asked = vec![0; 1 << 16];
        while let Ok(bytes @ 1..) = from.read(&mut asked).await {
            if asked[..bytes].windows(7).any(|part| part == b"LISTEN ") {
                self.listens.store(true, Ordering::SeqCst);
            }
            if to.write_all(&asked[..bytes]).await.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) {
        let mut told = vec![0; 1 << 16];
        while let Ok(bytes @ 1..) = from.read(&mut told).await {
            let is_trial = self.listens.load(Ordering::SeqCst)
                && told[..bytes].windows(TRIAL.len()).any(|part| part == TRIAL);
            let one_less = |left: usize| left.checked_sub(1);
            if is_trial && self.to_lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                continue;
            }
            if to.write_all(&told[..bytes]).await.is_err() {
                return;
            }
            if is_trial && !self.is_notified.swap(true, Ordering::SeqCst) {
                self.listening.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn is_silenced(&self, silent: &mut watch::Receiver<Silence>) {
        while silent.changed().await.is_ok() {
            match *silent.borrow_and_update() {
                Silence::Everybody => return,
                Silence::Listening if self.listens.load(Ordering::SeqCst) => return,
                _ => {}
            }
        }
        // Nobody is left who could silence it.
        std::future::pending::<()>().await;
    }
}
