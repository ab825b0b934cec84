//! Taking nodes out of service, and putting them back.

use sqlx::sqlite::{SqliteConnection, SqlitePool};

use super::{all, present, record_event};
use crate::node::{EventKind, Horizon, Reason, Ttl};
use crate::store::clock::Clock;
use crate::store::{Maintained, MaintenanceWrite, StoreError, Written};

const SET: &str = "UPDATE node_registrations SET maintenance = ?2 WHERE node_id = ?1";

pub(in crate::store::sqlite) async fn set_maintenance(
    pool: &SqlitePool,
    batch: &[MaintenanceWrite],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Written<Maintained> {
    let results =
        all(pool, batch, clock, server_ttl, |tx, write, now| Box::pin(set_one(tx, write, now))).await;
    Written { results, recorded: Vec::new() }
}

async fn set_one(
    tx: &mut SqliteConnection,
    write: &MaintenanceWrite,
    now: Horizon,
) -> Result<Maintained, StoreError> {
    let id = write.node_id.as_str();
    let mut record = present(tx, id, &write.precondition).await?.ok_or(StoreError::NotFound)?;
    let reason = write.reason.as_ref().map(Reason::as_str);
    if record.maintenance.as_deref() != reason {
        sqlx::query(SET).bind(id).bind(reason).execute(&mut *tx).await?;
        record.maintenance = reason.map(str::to_owned);
        record.revision = record_event(tx, id, EventKind::Maintenance, &[], &write.origin, now.at).await?;
    }
    Ok(Maintained { record, horizon: now })
}
