//! A proxy in front of a server that can fall silent: then nothing arrives any more, and no connection ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::TestDatabase;

/// Passes on what comes to a database. Its connections last as long as the runtime.
pub(crate) struct Proxy {
    url: String,
    silence: watch::Sender<Silence>,
    /// How many connections have asked to be notified.
    listening: Arc<AtomicUsize>,
    ended: mpsc::UnboundedReceiver<()>,
}

/// Which of the connections that there are have fallen silent. Those that come later are well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    Nobody,
    Listening,
    Everybody,
}

impl Proxy {
    pub(crate) async fn start(database: &TestDatabase) -> Self {
        let mut url = url::Url::parse(&database.url()).unwrap();
        let to = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (silence, silent) = watch::channel(Silence::Nobody);
        let (tell, ended) = mpsc::unbounded_channel();
        let listening = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&listening);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, tell, count) = (to.clone(), tell.clone(), Arc::clone(&count));
                let mut silent = silent.clone();
                silent.mark_unchanged();
                tokio::spawn(async move {
                    let server = TcpStream::connect(to).await.unwrap();
                    pass_on(client, server, silent, &count).await;
                    tell.send(()).ok();
                });
            }
        });
        Self { url: url.to_string(), silence, listening, ended }
    }

    /// The database's URL through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// All connections fall silent.
    pub(crate) fn silence_everybody(&self) {
        self.silence.send_replace(Silence::Everybody);
    }

    /// Those fall silent that have asked to be notified.
    pub(crate) fn silence_listening(&self) {
        self.silence.send_replace(Silence::Listening);
    }

    /// How many connections have asked to be notified so far.
    pub(crate) fn listening(&self) -> usize {
        self.listening.load(Ordering::SeqCst)
    }

    /// Waits until a client has ended a connection.
    pub(crate) async fn ended(&mut self) {
        self.ended.recv().await.expect("the proxy lives");
    }
}

/// Until the client ends the connection, or the server does while it is heard.
async fn pass_on(
    mut client: TcpStream,
    mut server: TcpStream,
    mut silent: watch::Receiver<Silence>,
    count: &AtomicUsize,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut listens = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read {
                Ok(bytes) if bytes > 0 => {
                    if !listens && asked[..bytes].windows(7).any(|part| part == b"LISTEN ") {
                        listens = true;
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    if server.write_all(&asked[..bytes]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut answered) => match read {
                Ok(bytes) if bytes > 0 => if client.write_all(&answered[..bytes]).await.is_err() {
                    return;
                },
                _ => return,
            },
            Ok(()) = silent.changed() => {
                let silence = *silent.borrow_and_update();
                if silence == Silence::Everybody || silence == Silence::Listening && listens {
                    break;
                }
            }
        }
    }
    // What the client still says is read and goes nowhere.
    tokio::io::copy(&mut client, &mut tokio::io::sink()).await.ok();
}
