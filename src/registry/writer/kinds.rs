//! The kinds of writes: how each is taken out of the queue, given to the store, counted, told to the catalog, answered.

use futures_util::future::BoxFuture;

use super::count;
use super::reply::Reply;
use super::work::Work;
use crate::metrics::Metrics;
use crate::node::{Origin, Shown, Ttl};
use crate::registry::catalog::Outcome;
use crate::registry::{Registered, RegistryError, reads};
use crate::store::{
    self, DeregisterWrite, Deregistered, IfHeld, Maintained, MaintenanceWrite, RegisterWrite, Store, Written,
};

/// A kind of writes.
pub(super) trait Kind: 'static {
    /// What it is called in the log.
    const OPERATION: &'static str;
    /// What is written.
    type Write: Send + Sync + 'static;
    /// What the store says of it.
    type Done: Send + 'static;
    /// What the caller gets.
    type Answer: Send + 'static;

    /// `None` if it is of another kind.
    fn open(work: Work) -> Option<(Self::Write, Reply<Self::Answer>)>;
    fn close(write: Self::Write, reply: Reply<Self::Answer>) -> Work;
    fn origin(write: &Self::Write) -> &Origin;
    fn call<'a>(
        store: &'a dyn Store,
        writes: &'a [Self::Write],
        if_held: IfHeld,
    ) -> BoxFuture<'a, Written<Self::Done>>;
    fn count(metrics: &Metrics, results: &[Result<Self::Done, RegistryError>]);
    /// What the catalog and the caller are told.
    fn tell(write: Self::Write, done: Self::Done, ttl: Ttl) -> (Outcome, Self::Answer);
}

pub(super) struct Registrations;

impl Kind for Registrations {
    const OPERATION: &'static str = "register";
    type Write = RegisterWrite;
    type Done = store::Registered;
    type Answer = Registered;

    fn open(work: Work) -> Option<(RegisterWrite, Reply<Registered>)> {
        if let Work::Register(write, reply) = work { Some((*write, reply)) } else { None }
    }

    fn close(write: RegisterWrite, reply: Reply<Registered>) -> Work {
        Work::Register(Box::new(write), reply)
    }

    fn origin(write: &RegisterWrite) -> &Origin {
        &write.origin
    }

    fn call<'a>(
        store: &'a dyn Store,
        writes: &'a [RegisterWrite],
        if_held: IfHeld,
    ) -> BoxFuture<'a, Written<store::Registered>> {
        store.register(writes, if_held)
    }

    fn count(metrics: &Metrics, results: &[Result<store::Registered, RegistryError>]) {
        count::registrations(metrics, results);
    }

    fn tell(_: RegisterWrite, done: store::Registered, ttl: Ttl) -> (Outcome, Registered) {
        let node = reads::show(&done.record, &done.horizon, ttl);
        (Outcome::Present(done.record, node.record.clone()), Registered { created: done.created, node })
    }
}

pub(super) struct Deregistrations;

impl Kind for Deregistrations {
    const OPERATION: &'static str = "deregister";
    type Write = DeregisterWrite;
    type Done = Deregistered;
    type Answer = Deregistered;

    fn open(work: Work) -> Option<(DeregisterWrite, Reply<Deregistered>)> {
        if let Work::Deregister(write, reply) = work { Some((*write, reply)) } else { None }
    }

    fn close(write: DeregisterWrite, reply: Reply<Deregistered>) -> Work {
        Work::Deregister(Box::new(write), reply)
    }

    fn origin(write: &DeregisterWrite) -> &Origin {
        &write.origin
    }

    fn call<'a>(
        store: &'a dyn Store,
        writes: &'a [DeregisterWrite],
        if_held: IfHeld,
    ) -> BoxFuture<'a, Written<Deregistered>> {
        store.deregister(writes, if_held)
    }

    fn count(metrics: &Metrics, results: &[Result<Deregistered, RegistryError>]) {
        count::deregistrations(metrics, results);
    }

    fn tell(write: DeregisterWrite, done: Deregistered, _: Ttl) -> (Outcome, Deregistered) {
        (Outcome::Gone(write.node_id, done.revision), done)
    }
}

pub(super) struct Maintenance;

impl Kind for Maintenance {
    const OPERATION: &'static str = "maintenance";
    type Write = MaintenanceWrite;
    type Done = Maintained;
    type Answer = Shown;

    fn open(work: Work) -> Option<(MaintenanceWrite, Reply<Shown>)> {
        if let Work::Maintain(write, reply) = work { Some((*write, reply)) } else { None }
    }

    fn close(write: MaintenanceWrite, reply: Reply<Shown>) -> Work {
        Work::Maintain(Box::new(write), reply)
    }

    fn origin(write: &MaintenanceWrite) -> &Origin {
        &write.origin
    }

    fn call<'a>(
        store: &'a dyn Store,
        writes: &'a [MaintenanceWrite],
        if_held: IfHeld,
    ) -> BoxFuture<'a, Written<Maintained>> {
        store.set_maintenance(writes, if_held)
    }

    fn count(_: &Metrics, _: &[Result<Maintained, RegistryError>]) {}

    fn tell(_: MaintenanceWrite, done: Maintained, ttl: Ttl) -> (Outcome, Shown) {
        let node = reads::show(&done.record, &done.horizon, ttl);
        (Outcome::Present(done.record, node.record.clone()), node)
    }
}
