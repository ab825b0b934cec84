//! What the other replicas are told of signs of life, and of registrations that changed nothing.

use sqlx::{Postgres, Transaction};

use crate::node::Timestamp;
use crate::store::postgres::decode::PgTimestamp;

const NOTE: &str = "INSERT INTO onex_registry_signs (at, replica, alive, renewed) VALUES ($1, $2, $3, $4)";

/// What a batch has noted at one instant.
pub(super) struct Noted<'a> {
    pub(super) at: Timestamp,
    pub(super) alive: Vec<&'a str>,
    pub(super) renewed: Vec<&'a str>,
}

/// Writes it down, in the transaction of the batch.
pub(super) async fn note(
    tx: &mut Transaction<'_, Postgres>,
    replica: &str,
    noted: &Noted<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE)
        .persistent(false)
        .bind(PgTimestamp(noted.at))
        .bind(replica)
        .bind(&noted.alive)
        .bind(&noted.renewed)
        .execute(&mut **tx)
        .await
        .map(drop)
}
