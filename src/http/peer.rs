//! The client at the other end of a connection.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::Extensions;
use tokio::net::TcpStream;

use super::certified::CertifiedName;

/// The client at the other end of a connection. It is in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    address: IpAddr,
    /// `None` where HTTP itself sees that the client hangs up: it reads all the time, and ends the request.
    socket: Option<Arc<TcpStream>>,
}

impl Peer {
    pub(super) fn new(address: IpAddr, socket: Option<Arc<TcpStream>>) -> Self {
        // An IPv4 client of a socket that listens for both.
        Self { address: address.to_canonical(), socket }
    }

    /// Where it is.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Waits until the client has hung up. One that has closed only its own side counts too: whoever waits for changes
    /// can't be told from one that has gone.
    async fn hung_up(&self) {
        // What has come already is its next request. It is there still, as far as can be seen.
        let seen = match &self.socket {
            Some(socket) => socket.peek(&mut [0]).await,
            None => Ok(1),
        };
        if let Ok(1..) = seen {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits until the client has hung up; for ever, if it isn't known who it is.
pub(super) async fn hung_up(peer: Option<&Peer>) {
    match peer {
        Some(peer) => peer.hung_up().await,
        None => std::future::pending().await,
    }
}

/// Who sends the requests of a connection.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) peer: Peer,
    pub(super) name: Option<CertifiedName>,
}

impl Sender {
    /// Says in a request who has sent it.
    pub(super) fn sign(&self, extensions: &mut Extensions) {
        extensions.insert(self.peer.clone());
        if let Some(name) = &self.name {
            extensions.insert(name.clone());
        }
    }
}
