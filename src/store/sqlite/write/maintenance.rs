//! Taking nodes out of service, and putting them back.

use super::{Turn, all, present};
use crate::node::{EventKind, Reason, Ttl};
use crate::store::clock::Clock;
use crate::store::sqlite::pool::Pool;
use crate::store::{Maintained, MaintenanceWrite, StoreError, Written};

const SET: &str = "UPDATE node_registrations SET maintenance = ?2 WHERE node_id = ?1";

pub(in crate::store::sqlite) async fn set_maintenance(
    pool: &Pool,
    batch: &[MaintenanceWrite],
    clock: &dyn Clock,
    server_ttl: Ttl,
) -> Written<Maintained> {
    all(pool, batch, clock, server_ttl, |turn, write| Box::pin(set_one(turn, write))).await
}

async fn set_one(turn: &mut Turn<'_>, write: &MaintenanceWrite) -> Result<Maintained, StoreError> {
    let id = write.node_id.as_str();
    let mut record = present(&mut turn.tx, id, &write.precondition).await?.ok_or(StoreError::NotFound)?;
    let reason = write.reason.as_ref().map(Reason::as_str);
    if record.maintenance.as_deref() != reason {
        sqlx::query(SET).bind(id).bind(reason).execute(&mut *turn.tx).await?;
        record.maintenance = reason.map(str::to_owned);
        record.revision = turn.record(id, EventKind::Maintenance, &[], &write.origin).await?;
    }
    Ok(Maintained { record, horizon: turn.now })
}
