//! Rows of PostgreSQL as records.

use sqlx::Row as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgHasArrayType, PgRow, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::node::{Availability, Horizon, JsonText, NodeKey, NodeRecord, Outage, Revision, Timestamp, Ttl};

/// PostgreSQL counts microseconds from 2000-01-01T00:00:00Z.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A `timestamptz` as microseconds. sqlx's own decoders panic at `infinity`.
pub(super) struct PgTimestamp(pub(super) Timestamp);

/// The types by number, which is the same everywhere (`pg_type.dat`). By name, sqlx would look an array's up between
/// the preparation of a statement and its execution, and an unnamed statement doesn't survive that.
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);

impl Type<Postgres> for PgTimestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for PgTimestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl<'r> Decode<'r, Postgres> for PgTimestamp {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time in text form, which is never asked for".into());
        }
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        Ok(Self(match micros {
            i64::MAX => Timestamp::INFINITY,
            i64::MIN => Timestamp::NEG_INFINITY,
            // The last thirty years that PostgreSQL knows are beyond an i64 from 1970 on. They are no infinity.
            micros => Timestamp::from_unix_micros(micros.saturating_add(EPOCH_MICROS).min(i64::MAX - 1)),
        }))
    }
}

impl Encode<'_, Postgres> for PgTimestamp {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, BoxDynError> {
        let micros = match self.0 {
            Timestamp::INFINITY => i64::MAX,
            Timestamp::NEG_INFINITY => i64::MIN,
            at => at.unix_micros().saturating_sub(EPOCH_MICROS),
        };
        buffer.extend(&micros.to_be_bytes());
        Ok(sqlx::encode::IsNull::No)
    }
}

/// The columns of a record, by name, as the statements of this module select them.
pub(super) fn record(row: &PgRow) -> Result<NodeRecord, sqlx::Error> {
    let json = |column| row.try_get::<&str, _>(column).map(JsonText::from_database);
    let node_id: String = row.try_get("node_id")?;
    Ok(NodeRecord {
        node_id: NodeKey::new(node_id).ok_or_else(|| broken("an id that the column can't hold"))?,
        node_type: row.try_get("node_type")?,
        node_version: row.try_get("node_version")?,
        capabilities: json("capabilities")?,
        endpoints: json("endpoints")?,
        metadata: json("metadata")?,
        health_endpoint: row.try_get("health_endpoint")?,
        last_heartbeat: row.try_get::<Option<PgTimestamp>, _>("last_heartbeat")?.map(|at| at.0),
        registered_at: row.try_get::<PgTimestamp, _>("registered_at")?.0,
        updated_at: row.try_get::<PgTimestamp, _>("updated_at")?.0,
        ttl_seconds: row.try_get::<Option<i32>, _>("ttl_seconds")?.map(i64::from),
        maintenance: row.try_get("maintenance")?,
        revision: revision(row, "revision")?,
    })
}

/// An instant that may be missing.
pub(super) fn instant(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<PgTimestamp>, _>(column)?.map(|at| at.0))
}

/// The columns of `onex_registry_state` that say until when heartbeats were taken.
pub(super) fn availability(row: &PgRow) -> Result<Availability, sqlx::Error> {
    let outage = instant(row, "outage_began")?.zip(instant(row, "outage_ended")?);
    Ok(Availability {
        served_until: instant(row, "served_until")?,
        outage: outage.map(|(began, ended)| Outage { began, ended }),
    })
}

/// The horizon of a statement that selects `at` and the columns of [`availability`].
pub(super) fn horizon(row: &PgRow, server_ttl: Ttl) -> Result<Horizon, sqlx::Error> {
    Ok(availability(row)?.horizon(row.try_get::<PgTimestamp, _>("at")?.0, server_ttl))
}

pub(super) fn revision(row: &PgRow, column: &str) -> Result<Revision, sqlx::Error> {
    Revision::new(row.try_get(column)?).ok_or_else(|| broken("a negative revision"))
}

pub(super) fn broken(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}
