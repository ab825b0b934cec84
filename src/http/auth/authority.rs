//! What the client of the request at hand may do.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;

use super::Guard;
use crate::http::problem::Problem;
use crate::keys::Key;
use crate::metrics::AuthFailure;
use crate::node::Actor;

/// What the client of the request at hand may do: anything if there are no keys, else what its key may.
#[derive(Debug, Default)]
pub(in crate::http) struct Authority {
    /// `None`: there are no keys.
    guard: Option<Arc<Guard>>,
    /// Set once, by the guard. Who shows no key where none is needed has none.
    key: OnceLock<Arc<Key>>,
}

impl Authority {
    /// That of a request of which nothing is known yet.
    pub(in crate::http) fn new(guard: Option<&Arc<Guard>>) -> Self {
        Self { guard: guard.cloned(), key: OnceLock::new() }
    }

    pub(super) fn identify(&self, key: Arc<Key>) {
        // The guard looks at a request once.
        let _ = self.key.set(key);
    }

    /// Who makes the changes of this request.
    pub(in crate::http) fn actor(&self) -> Actor {
        self.key.get().map_or_else(Actor::anonymous, |key| Actor::of_key(key.name().as_str()))
    }

    /// Whether it may change this node. It is counted if it may not.
    pub(in crate::http) fn may_change(&self, node_id: &str) -> bool {
        let Some(guard) = &self.guard else { return true };
        // Nobody changes anything without a key. The guard has seen to it, and this does not rely on it.
        let may = self.key.get().is_some_and(|key| key.may_change(node_id));
        if !may {
            guard.count(AuthFailure::NotCovered);
        }
        may
    }

    /// Refuses the request unless it may change this node. The key may have ended while the body was on its way.
    pub(in crate::http) fn to_change(&self, node_id: &str) -> Result<(), Problem> {
        if self.revoked().now_or_never().is_some() {
            return Err(Problem::key_not_valid());
        }
        if self.may_change(node_id) { Ok(()) } else { Err(Problem::not_covered()) }
    }

    /// Waits until the key that was shown is not valid any more; for ever if none was needed.
    pub(in crate::http) fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        let shown = self.guard.clone().zip(self.key.get().cloned());
        async move {
            match shown {
                Some((guard, key)) => guard.keys().revoked(&key).await,
                None => std::future::pending().await,
            }
        }
    }
}
