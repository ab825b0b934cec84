//! The items that wait: what is to be written, and who is to be told.

use super::queue::Item;
use super::reply::Reply;
use super::slot::Class;
use crate::metrics::HeartbeatSource;
use crate::node::Shown;
use crate::registry::{Registered, RegistryError, SignOfLife};
use crate::store::{DeregisterWrite, Deregistered, MaintenanceWrite, RegisterWrite};

/// What an item weighs beside its JSON.
const FRAME_BYTES: usize = 256;

/// Something to be written for an id, and who is to be told. Boxed, because many can wait in one line.
pub(super) enum Work {
    Register(Box<RegisterWrite>, Reply<Registered>),
    Deregister(Box<DeregisterWrite>, Reply<Deregistered>),
    Maintain(Box<MaintenanceWrite>, Reply<Shown>),
    Heartbeat(Callers),
}

/// Those who wait for a sign of life of one id to be noted.
pub(super) struct Callers {
    pub(super) first: Caller,
    pub(super) more: Vec<Caller>,
}

/// One of them.
pub(super) struct Caller {
    pub(super) source: HeartbeatSource,
    pub(super) reply: Reply<SignOfLife>,
}

impl Work {
    pub(super) fn heartbeat(source: HeartbeatSource, reply: Reply<SignOfLife>) -> Self {
        Self::Heartbeat(Callers { first: Caller { source, reply }, more: Vec::new() })
    }

    /// `None` if it is a write.
    pub(super) fn into_callers(self) -> Option<Callers> {
        if let Self::Heartbeat(callers) = self { Some(callers) } else { None }
    }

    /// Tells everybody why it wasn't done. Returns how many are woken by that.
    pub(super) fn refuse(self, error: RegistryError) -> usize {
        let is_woken = match self {
            Self::Register(_, reply) => reply.send(Err(error)),
            Self::Deregister(_, reply) => reply.send(Err(error)),
            Self::Maintain(_, reply) => reply.send(Err(error)),
            Self::Heartbeat(callers) => {
                return callers.replies().map(|reply| usize::from(reply.send(Err(error.clone())))).sum();
            }
        };
        usize::from(is_woken)
    }
}

impl Callers {
    pub(super) fn all(&self) -> impl Iterator<Item = &Caller> {
        std::iter::once(&self.first).chain(&self.more)
    }

    pub(super) fn replies(self) -> impl Iterator<Item = Reply<SignOfLife>> {
        std::iter::once(self.first).chain(self.more).map(|caller| caller.reply)
    }
}

impl Item for Work {
    fn class(&self) -> Class {
        match self {
            Self::Register(..) => Class::Register,
            Self::Deregister(..) => Class::Deregister,
            Self::Maintain(..) => Class::Maintain,
            Self::Heartbeat(_) => Class::Heartbeat,
        }
    }

    fn callers(&self) -> usize {
        match self {
            Self::Heartbeat(callers) => 1 + callers.more.len(),
            _ => 1,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Register(write, _) => {
                let json = [
                    &write.registration.capabilities,
                    &write.registration.endpoints,
                    &write.registration.metadata,
                ];
                FRAME_BYTES + json.iter().map(|json| json.as_str().len()).sum::<usize>()
            }
            Self::Deregister(..) | Self::Maintain(..) => FRAME_BYTES,
            Self::Heartbeat(_) => FRAME_BYTES * self.callers(),
        }
    }

    fn join(&mut self, other: Self) {
        if let (Self::Heartbeat(callers), Self::Heartbeat(others)) = (self, other) {
            callers.more.push(others.first);
            callers.more.extend(others.more);
        }
    }
}
