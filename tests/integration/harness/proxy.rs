//! A network between a server and its database that can go silent: nothing arrives any more, and no connection ends.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TestDatabase;

pub(crate) struct Proxy {
    /// The URL of the database through it.
    url: String,
    /// How often it went silent. A connection ends to pass anything on when this is not what it was at its begin.
    silences: Arc<watch::Sender<u32>>,
    /// How many connections the client has ended.
    ended: watch::Receiver<u32>,
}

impl Proxy {
    pub(crate) async fn to(database: &TestDatabase) -> Self {
        let mut url = url::Url::parse(&database.url()).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let silences = Arc::new(watch::Sender::new(0));
        let (ending, ended) = watch::channel(0);
        let ending = Arc::new(ending);
        let beginning = Arc::clone(&silences);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, silences, ending) = (server.clone(), beginning.subscribe(), Arc::clone(&ending));
                tokio::spawn(async move {
                    pass_on(client, &server, silences).await;
                    ending.send_modify(|ended| *ended += 1);
                });
            }
        });
        Self { url: url.to_string(), silences, ended }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The connections that there are go silent. Those that are made from now on are well.
    pub(crate) fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// Waits until the client has ended so many connections, of all that there were.
    pub(crate) async fn has_ended(&mut self, connections: u32) {
        self.ended.wait_for(|ended| *ended >= connections).await.unwrap();
    }
}

async fn pass_on(mut client: TcpStream, server: &str, mut silences: watch::Receiver<u32>) {
    let before = *silences.borrow_and_update();
    let mut server = TcpStream::connect(server).await.unwrap();
    let is_silent = tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => false,
        _ = silences.wait_for(|silences| *silences > before) => true,
    };
    if is_silent {
        // What the client still says is read and goes nowhere.
        tokio::io::copy(&mut client, &mut tokio::io::sink()).await.ok();
    }
}
