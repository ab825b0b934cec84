//! The upsert of many rows at once.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row as _, Transaction};

use super::batch::Undone;
use crate::node::{EventKind, Horizon, NodeRecord, Ttl};
use crate::store::postgres::decode;
use crate::store::{RegisterWrite, Registered};

/// The upsert of a batch. Rows that exist and were not locked before ($10) are left out. `existed` is exact for rows
/// that were locked; for the others, neither `existed` nor `inserted` means that another transaction was faster.
/// What was offered and not stored, a trigger of the user's own has swallowed.
///
/// `record_image_ne` compares what is stored, byte by byte (manual, section 9.24.6): `1.0` and `1.00` are equal numbers, but not the same column.
const UPSERT: &str = r#"
WITH input AS (
    SELECT i.node_id, i.node_type, i.node_version, i.capabilities::jsonb, i.endpoints::jsonb, i.metadata::jsonb,
           i.health_endpoint, i.ttl_seconds, CASE WHEN i.alive THEN statement_timestamp() END AS last_heartbeat
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
                  $9::bool[])
           AS i (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
                 alive)
     WHERE i.node_id = ANY ($10::text[])
        OR NOT EXISTS (SELECT 1 FROM node_registrations n WHERE n.node_id = i.node_id)
), old AS MATERIALIZED (
    SELECT * FROM node_registrations WHERE node_id = ANY ($1::text[])
), stored AS (
    INSERT INTO node_registrations AS n
           (node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
            last_heartbeat, registered_at, updated_at)
    SELECT node_id, node_type, node_version, capabilities, endpoints, metadata, health_endpoint, ttl_seconds,
           last_heartbeat, statement_timestamp(), statement_timestamp()
      FROM input ORDER BY node_id COLLATE "C"
        ON CONFLICT (node_id) DO UPDATE
       SET node_type = EXCLUDED.node_type, node_version = EXCLUDED.node_version,
           capabilities = EXCLUDED.capabilities, endpoints = EXCLUDED.endpoints, metadata = EXCLUDED.metadata,
           health_endpoint = EXCLUDED.health_endpoint, ttl_seconds = EXCLUDED.ttl_seconds,
           last_heartbeat = GREATEST(n.last_heartbeat, EXCLUDED.last_heartbeat),
           updated_at = EXCLUDED.updated_at
    RETURNING n.*, xmax = 0 AS inserted
)
SELECT i.node_id AS offered, s.node_id IS NULL AS swallowed,
       s.node_id, s.node_type, s.node_version, s.capabilities::text, s.endpoints::text, s.metadata::text,
       s.health_endpoint, s.last_heartbeat, s.registered_at, s.updated_at, s.ttl_seconds, s.maintenance,
       s.inserted, o.node_id IS NOT NULL AS existed,
       statement_timestamp() AS at, g.served_until, g.outage_began, g.outage_ended,
       COALESCE((SELECT e.revision FROM node_events e
                  WHERE e.node_id = s.node_id AND e.kind IN ('registered', 'updated', 'maintenance')
                  ORDER BY e.revision DESC LIMIT 1), 0) AS revision,
       concat_ws(',',
           CASE WHEN record_image_ne(ROW(s.node_type), ROW(o.node_type)) THEN 'node_type' END,
           CASE WHEN record_image_ne(ROW(s.node_version), ROW(o.node_version)) THEN 'node_version' END,
           CASE WHEN record_image_ne(ROW(s.capabilities), ROW(o.capabilities)) THEN 'capabilities' END,
           CASE WHEN record_image_ne(ROW(s.endpoints), ROW(o.endpoints)) THEN 'endpoints' END,
           CASE WHEN record_image_ne(ROW(s.metadata), ROW(o.metadata)) THEN 'metadata' END,
           CASE WHEN record_image_ne(ROW(s.health_endpoint), ROW(o.health_endpoint)) THEN 'health_endpoint' END,
           CASE WHEN record_image_ne(ROW(s.ttl_seconds), ROW(o.ttl_seconds)) THEN 'ttl_seconds' END) AS changed
  FROM input i LEFT JOIN stored s ON s.node_id = i.node_id LEFT JOIN old o ON o.node_id = i.node_id
  LEFT JOIN (SELECT * FROM onex_registry_state LIMIT 1) g ON TRUE
"#;

/// A row as the upsert left it.
pub(super) struct Stored {
    pub(super) record: NodeRecord,
    pub(super) horizon: Horizon,
    inserted: bool,
    /// The changed columns, separated by commas.
    pub(super) changed: String,
}

impl Stored {
    pub(super) fn event(&self) -> Option<EventKind> {
        match (self.inserted, self.changed.is_empty()) {
            (true, _) => Some(EventKind::Registered),
            (false, false) => Some(EventKind::Updated),
            (false, true) => None,
        }
    }

    pub(super) fn into_registered(self) -> Registered {
        Registered { created: self.inserted, record: self.record, horizon: self.horizon }
    }
}

/// What became of the rows that were offered: `None` if they were swallowed. Those that others hold were not offered.
pub(super) async fn upsert(
    tx: &mut Transaction<'_, Postgres>,
    writes: &[&RegisterWrite],
    locked: &HashSet<String>,
    server_ttl: Ttl,
) -> Result<HashMap<String, Option<Stored>>, Undone> {
    if writes.is_empty() {
        return Ok(HashMap::new());
    }
    let registrations = || writes.iter().map(|write| &write.registration);
    let rows = sqlx::query(UPSERT)
        .persistent(false)
        .bind(registrations().map(|r| r.node_id.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.node_type.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.node_version.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.capabilities.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.endpoints.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.metadata.as_str()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.health_endpoint.as_deref()).collect::<Vec<_>>())
        .bind(registrations().map(|r| r.ttl_seconds).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.alive).collect::<Vec<_>>())
        .bind(locked.iter().map(String::as_str).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let mut stored = HashMap::with_capacity(rows.len());
    for row in &rows {
        let offered: String = row.try_get("offered")?;
        if row.try_get("swallowed")? {
            stored.insert(offered, None);
            continue;
        }
        let existed: bool = row.try_get("existed")?;
        let row = decode_stored(row, server_ttl)?;
        if !existed && !row.inserted {
            return Err(Undone::Raced);
        }
        stored.insert(offered, Some(row));
    }
    Ok(stored)
}

fn decode_stored(row: &PgRow, server_ttl: Ttl) -> Result<Stored, sqlx::Error> {
    Ok(Stored {
        record: decode::record(row)?,
        horizon: decode::horizon(row, server_ttl)?,
        inserted: row.try_get("inserted")?,
        changed: row.try_get("changed")?,
    })
}
