//! From names to addresses, without threads: the system's own resolver blocks one for each name, and names that hang
//! would take all the threads that others need.

use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};

/// Where addresses of names come from. The time-out is the caller's.
#[async_trait]
pub(super) trait Resolve: Send + Sync + 'static {
    /// The addresses of a name; what is wrong with it in words.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String>;
}

/// The resolver as the system configures it in `/etc/hosts` and `/etc/resolv.conf`, both read once. Answers are kept as
/// long as their TTL says.
pub(super) struct SystemNames(TokioResolver);

impl SystemNames {
    /// # Errors
    /// If the resolver can't be set up. That no server is configured is no error: addresses can be probed all the same.
    pub(super) fn new() -> Result<Self, NetError> {
        Self::from(TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no name server is configured: health checks try the one on this host");
            // As resolv.conf(5) has it.
            builder(NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into()))
        }))
    }

    fn from(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, NetError> {
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Ok(Self(builder.build()?))
    }
}

#[async_trait]
impl Resolve for SystemNames {
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        match self.0.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn builder(server: NameServerConfig) -> ResolverBuilder<TokioRuntimeProvider> {
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::StreamExt;
    use futures_util::future::select_all;
    use futures_util::stream::FuturesUnordered;
    use tokio::net::UdpSocket;

    use super::*;

    /// The names that this server knows have the address 127.7.7.7. About names that begin with `h`, it never answers.
    async fn serve(socket: UdpSocket) {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let first_letter = query[13].to_ascii_lowercase();
            if first_letter != b'h' {
                socket.send_to(&answer(&query[..length]), from).await.unwrap();
            }
        }
    }

    /// RFC 1035, section 4.1.
    fn answer(query: &[u8]) -> Vec<u8> {
        let question_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_a = query[question_end - 4..question_end - 2] == [0, 1];
        let mut answer = query[..question_end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 7, 7, 7]);
        }
        answer
    }

    fn names_of(socket: &UdpSocket) -> SystemNames {
        let SocketAddr::V4(address) = socket.local_addr().unwrap() else { unreachable!() };
        let mut server = NameServerConfig::udp((*address.ip()).into());
        server.connections[0].port = address.port();
        SystemNames::from(builder(server)).unwrap()
    }

    #[tokio::test]
    async fn names_that_hang_delay_no_others() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let names = names_of(&socket);
        let _server = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serve(socket)));
        let hanging: Vec<String> = (0..200).map(|number| format!("h{number}.example.")).collect();
        let hanging = select_all(hanging.iter().map(|name| names.resolve(name)));
        let known = ["a.example.", "b.example.", "c.example."];
        let known: FuturesUnordered<_> = known.into_iter().map(|name| names.resolve(name)).collect();
        let found = async { known.collect::<Vec<_>>().await };
        tokio::select! {
            (result, ..) = hanging => panic!("{result:?} came first"),
            found = found => {
                let expected: IpAddr = "127.7.7.7".parse().unwrap();
                assert!(found.iter().all(|result| result.as_deref() == Ok(&[expected])), "{found:?}");
            }
        }
    }

    #[tokio::test]
    async fn the_names_of_this_host_need_no_server() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let found = names_of(&socket).resolve("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
