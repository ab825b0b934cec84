//! The end of listening, without a connection that the system has made and nobody serves.
//!
//! The system makes connections on its own, and keeps them until they are accepted. Whatever it has when the socket is
//! closed is reset, with the request that is on it: the client can't know whether that was carried out. So, connections
//! stop beginning first, then all there are is accepted, and then the socket is closed. Who tries to connect meanwhile
//! tries again, as after any lost packet, and is refused then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// For so long, what had begun comes to be a connection: a round trip.
const HANDSHAKE: Duration = Duration::from_millis(20);

/// Closes the socket, after it has handed over all connections that it has.
pub(super) async fn close(
    listener: TcpListener,
    limit: Duration,
    mut take: impl FnMut((TcpStream, SocketAddr)),
) {
    match begin_no_more(&listener) {
        Ok(()) => tokio::time::sleep(HANDSHAKE.min(limit / 100)).await,
        // A few microseconds between the last look and the end are left.
        Err(error) => tracing::debug!(%error, "connections that begin can't be kept off"),
    }
    // What the runtime knows to be there is not all that is there: ask the system itself.
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "the last connections can't be accepted"),
    };
    loop {
        match listener.accept().and_then(|(stream, address)| Ok((into_tokio(stream)?, address))) {
            Ok(accepted) => take(accepted),
            // It was given up meanwhile.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::warn!(%error, "the last connections can't be accepted"),
        }
    }
}

fn into_tokio(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// From now on, the system throws away what would begin a connection. It goes on with those that have begun.
#[cfg(target_os = "linux")]
fn begin_no_more(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;

    // Classic BPF, as in linux/bpf_common.h, over the TCP header.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    socket2::SockRef::from(listener).attach_filter(&filter)
}

#[cfg(not(target_os = "linux"))]
fn begin_no_more(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream as Client;

    use super::*;

    #[tokio::test]
    async fn whoever_is_connected_is_handed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // The runtime has not looked yet, and doesn't until these are there.
        let clients: Vec<_> = (0..5).map(|_| Client::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        close(listener, Duration::ZERO, |(_, address)| taken.push(address)).await;
        assert_eq!(taken, clients.iter().map(|client| client.local_addr().unwrap()).collect::<Vec<_>>());
        assert_eq!(Client::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn nobody_gets_connected_who_would_be_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        begin_no_more(&listener).unwrap();
        let connecting = Client::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(connecting.unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
