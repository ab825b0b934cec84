//! Who a request is counted for.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::Request;

use super::peer::Peer;
use crate::keys::Key;

/// Who a request is counted for: the key that it shows, or else where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// The name of an API key.
    Key(Arc<str>),
    /// An IPv4 address, or a network of IPv6.
    Address(IpAddr),
}

impl Client {
    /// Who sends a request, with this key if with any; `None` if it came by no connection.
    pub(super) fn of(request: &Request, key: Option<&Key>) -> Option<Self> {
        let address = || request.extensions().get::<Peer>().map(|peer| network_of(peer.address()));
        match key {
            Some(key) => Some(Self::Key(key.name().as_str().into())),
            None => address().map(Self::Address),
        }
    }
}

/// What counts as one address. Whoever has an IPv6 address has a network of 64 bits, and could come from another address
/// each time (RFC 4291, section 2.5.4).
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}
