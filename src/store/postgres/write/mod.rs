//! Writing to PostgreSQL: batches in one transaction each, numbered in commit order.
//!
//! The order of locks is the same in every transaction: node rows first, sorted by id; then the advisory lock of the
//! revisions; then numbers and events; commit. Nothing that may wait for a row comes after the advisory lock, so who
//! holds it is on its way to commit.
//!
//! The two busiest writes, registrations and heartbeats, are functions in the database.

pub(super) mod batch;
mod call;
mod deregister;
mod events;
mod heartbeat;
pub(super) mod lock;
mod maintenance;
mod register;

use std::sync::Arc;

pub(super) use self::deregister::deregister;
pub(super) use self::events::{Events, lock_revisions, record};
pub(super) use self::heartbeat::heartbeat;
pub(super) use self::maintenance::set_maintenance;
pub(super) use self::register::register;
use crate::store::StoreError;

/// A trigger of the user's own left the row as it was, without an error.
fn swallowed() -> StoreError {
    StoreError::Refused(Arc::new(sqlx::Error::RowNotFound))
}
