//! How many connections there may be, in all and from one address.
//!
//! Who comes when there is no room is told so at once, and not left to wait where it can't be seen: a load balancer goes
//! elsewhere, and a client tries again later. Within TLS it is hung up on: to agree upon a way to say it is the very work
//! that there is no room for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::client::network_of;
use super::seldom::Seldom;
use crate::config::ConnectionLimits;
use crate::metrics::{Metrics, Open, Refusal};

/// Counts who comes in and who leaves.
pub(super) struct Gate {
    limits: ConnectionLimits,
    /// A std mutex: it is held for a look-up, and never over an await.
    inside: Mutex<Inside>,
    metrics: Arc<Metrics>,
    /// That it is full, and that one address has too many.
    told: [Seldom; 2],
}

#[derive(Default)]
struct Inside {
    all: usize,
    /// Only where there is a limit to it. No longer than there are connections.
    by_network: HashMap<IpAddr, usize>,
}

impl Gate {
    pub(super) fn new(limits: ConnectionLimits, metrics: Arc<Metrics>) -> Self {
        Self { limits, inside: Mutex::default(), metrics, told: Default::default() }
    }

    /// Lets a connection in, as long as the value lives, or says why not.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Entered, Refusal> {
        let network = self.limits.per_address.map(|most| (network_of(address), most));
        let entered = self.inside().enter(self.limits.most, network);
        entered.inspect_err(|why| self.refused(*why, address))?;
        Ok(Entered {
            gate: Arc::clone(self),
            network: network.map(|(network, _)| network),
            _open: self.metrics.door.opened(),
        })
    }

    fn refused(&self, why: Refusal, client: IpAddr) {
        self.metrics.door.refused(why);
        let [full, address] = &self.told;
        match why {
            Refusal::Full if full.is_due() => tracing::warn!(
                %client, most = self.limits.most,
                "there are as many connections as may be (ONEX_REGISTRY_MAX_CONNECTIONS): clients are turned away"
            ),
            Refusal::Address if address.is_due() => tracing::warn!(
                %client, most = self.limits.per_address,
                "a client has as many connections as it may (ONEX_REGISTRY_MAX_CONNECTIONS_PER_ADDRESS), and is turned away"
            ),
            Refusal::Full | Refusal::Address => {}
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // No panic leaves it half changed.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn enter(&mut self, most: usize, network: Option<(IpAddr, usize)>) -> Result<(), Refusal> {
        if self.all >= most {
            return Err(Refusal::Full);
        }
        if let Some((network, most)) = network {
            let from_it = self.by_network.entry(network).or_default();
            if *from_it >= most {
                return Err(Refusal::Address);
            }
            *from_it += 1;
        }
        self.all += 1;
        Ok(())
    }

    fn leave(&mut self, network: Option<IpAddr>) {
        self.all -= 1;
        let Some(network) = network else { return };
        if let Some(from_it) = self.by_network.get_mut(&network) {
            *from_it -= 1;
            if *from_it == 0 {
                self.by_network.remove(&network);
            }
        }
    }
}

/// A connection that was let in.
pub(super) struct Entered {
    gate: Arc<Gate>,
    network: Option<IpAddr>,
    _open: Open,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.gate.inside().leave(self.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(most: usize, per_address: Option<usize>) -> Arc<Gate> {
        let metrics = Arc::new(Metrics::new().unwrap());
        Arc::new(Gate::new(ConnectionLimits { most, per_address }, metrics))
    }

    fn enter(gate: &Arc<Gate>, address: &str) -> Result<Entered, Refusal> {
        gate.enter(address.parse().unwrap())
    }

    #[test]
    fn who_leaves_makes_room() {
        let gate = gate(2, None);
        let first = enter(&gate, "10.0.0.1").ok().unwrap();
        let _second = enter(&gate, "10.0.0.1").ok().unwrap();
        assert_eq!(enter(&gate, "10.0.0.2").err(), Some(Refusal::Full));
        drop(first);
        assert!(enter(&gate, "10.0.0.2").is_ok());
    }

    #[test]
    fn an_address_has_its_share_and_a_network_of_ipv6_is_one() {
        let gate = gate(100, Some(1));
        let _held = [enter(&gate, "10.0.0.1"), enter(&gate, "10.0.0.2"), enter(&gate, "2001:db8::1")]
            .map(|entered| entered.ok().unwrap());
        for again in ["10.0.0.1", "::ffff:10.0.0.2", "2001:db8::ffff:1"] {
            assert_eq!(enter(&gate, again).err(), Some(Refusal::Address), "{again}");
        }
        drop(enter(&gate, "2001:db8:0:1::1").ok().unwrap());
        assert_eq!(gate.inside().by_network.len(), 3, "who has left is forgotten");
    }
}
