//! What serving needs of the database, checked at start, so that what is missing is named and not met at night.

use std::collections::HashSet;

use super::begin;
use super::pool::Pool;

/// Why a database can't be served.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It lacks something; all of it is named.
    #[error("the database is not ready: {}", .0.join("; "))]
    Missing(Vec<String>),
    /// It could not be asked.
    #[error("the database could not be checked")]
    Unknown(#[from] sqlx::Error),
}

/// One line per thing that is missing. Reads the catalogs of the database only.
const MISSING: &str = r"
SELECT format('PostgreSQL 13 or newer is needed, this is %s', current_setting('server_version'))
 WHERE current_setting('server_version_num')::int < 130000
UNION ALL
SELECT format('the database must be encoded in UTF8, not %s', current_setting('server_encoding'))
 WHERE current_setting('server_encoding') <> 'UTF8'
UNION ALL
SELECT CASE WHEN to_regclass(need.relation) IS NULL THEN format('table %s is missing', need.relation)
            WHEN a.attname IS NULL THEN format('column %s.%s is missing', need.relation, need.attribute)
            ELSE format('column %s.%s has the type %s, not %s', need.relation, need.attribute,
                        format_type(a.atttypid, NULL), need.type) END
  FROM (VALUES ('node_registrations', 'node_id', 'character varying'),
               ('node_registrations', 'node_type', 'character varying'),
               ('node_registrations', 'node_version', 'character varying'),
               ('node_registrations', 'capabilities', 'jsonb'),
               ('node_registrations', 'endpoints', 'jsonb'),
               ('node_registrations', 'metadata', 'jsonb'),
               ('node_registrations', 'health_endpoint', 'character varying'),
               ('node_registrations', 'last_heartbeat', 'timestamp with time zone'),
               ('node_registrations', 'registered_at', 'timestamp with time zone'),
               ('node_registrations', 'updated_at', 'timestamp with time zone'),
               ('node_registrations', 'ttl_seconds', 'integer'),
               ('node_registrations', 'maintenance', 'text'),
               ('node_events', 'revision', 'bigint'), ('node_events', 'node_id', 'character varying'),
               ('node_events', 'kind', 'text'), ('node_events', 'changed', 'text[]'),
               ('node_events', 'actor', 'text'), ('node_events', 'correlation_id', 'text'),
               ('node_events', 'occurred_at', 'timestamp with time zone'),
               ('onex_registry_state', 'served_until', 'timestamp with time zone'),
               ('onex_registry_state', 'outage_began', 'timestamp with time zone'),
               ('onex_registry_state', 'outage_ended', 'timestamp with time zone'),
               ('onex_registry_state', 'pruned_through', 'bigint'),
               ('onex_registry_leases', 'holder', 'text'),
               ('onex_registry_leases', 'expires_at', 'timestamp with time zone'),
               ('onex_registry_leases', 'preserving_since', 'timestamp with time zone'),
               ('onex_registry_leases', 'calm_since', 'timestamp with time zone'),
               ('onex_registry_leases', 'taking_part', 'bigint'), ('onex_registry_leases', 'healthy', 'bigint'),
               ('onex_registry_leases', 'were_healthy', 'bigint'), ('onex_registry_leases', 'turned_stale', 'bigint'),
               ('onex_registry_node_health', 'node_id', 'character varying'),
               ('onex_registry_node_health', 'registered_at', 'timestamp with time zone'),
               ('onex_registry_node_health', 'status', 'text'),
               ('onex_registry_node_health', 'since', 'timestamp with time zone'),
               ('onex_registry_signs', 'id', 'bigint'), ('onex_registry_signs', 'at', 'timestamp with time zone'),
               ('onex_registry_signs', 'replica', 'text'), ('onex_registry_signs', 'alive', 'text[]'),
               ('onex_registry_signs', 'renewed', 'text[]'))
       AS need (relation, attribute, type)
  LEFT JOIN pg_attribute a ON a.attrelid = to_regclass(need.relation) AND a.attname = need.attribute
                          AND NOT a.attisdropped
 WHERE a.attname IS NULL
    OR (format_type(a.atttypid, NULL) <> need.type
        -- Wider is no fault, but for the id: node_events has it too, and holds 255 characters.
        AND NOT (need.type = 'character varying' AND need.attribute <> 'node_id'
                 AND format_type(a.atttypid, NULL) = 'text'))
UNION ALL
SELECT format('column node_registrations.%s may be NULL, and must be NOT NULL', a.attname)
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass('node_registrations') AND NOT a.attisdropped AND NOT a.attnotnull
   AND a.attname IN ('node_id', 'node_type', 'node_version', 'capabilities', 'endpoints', 'metadata',
                     'registered_at', 'updated_at')
UNION ALL
SELECT format('the right to %s on %s is missing', need.privilege, need.relation)
  FROM (VALUES ('node_registrations', 'SELECT'), ('node_registrations', 'INSERT'), ('node_registrations', 'UPDATE'),
               ('node_registrations', 'DELETE'), ('node_events', 'SELECT'), ('node_events', 'INSERT'),
               ('node_events', 'DELETE'), ('onex_registry_state', 'SELECT'), ('onex_registry_state', 'INSERT'),
               ('onex_registry_state', 'UPDATE'), ('onex_registry_leases', 'SELECT'),
               ('onex_registry_leases', 'INSERT'), ('onex_registry_leases', 'UPDATE'),
               ('onex_registry_node_health', 'SELECT'), ('onex_registry_node_health', 'INSERT'),
               ('onex_registry_node_health', 'UPDATE'), ('onex_registry_node_health', 'DELETE'),
               ('onex_registry_signs', 'SELECT'), ('onex_registry_signs', 'INSERT'), ('onex_registry_signs', 'DELETE'))
       AS need (relation, privilege)
 WHERE NOT has_table_privilege(to_regclass(need.relation)::oid, need.privilege)
UNION ALL
SELECT 'sequence node_events_revision_seq is missing' WHERE to_regclass('node_events_revision_seq') IS NULL
UNION ALL
SELECT 'the right to USAGE on sequence node_events_revision_seq is missing'
 WHERE NOT has_sequence_privilege(to_regclass('node_events_revision_seq')::oid, 'USAGE')
UNION ALL
SELECT format('function %s() is missing', need.name)
  FROM (VALUES ('onex_registry_lock_revisions'), ('onex_registry_mend_numbers'), ('onex_registry_register'),
               ('onex_registry_heartbeat'))
       AS need (name)
 WHERE to_regproc(need.name) IS NULL
UNION ALL
SELECT format('the right to EXECUTE on function %s() is missing', need.name)
  FROM (VALUES ('onex_registry_lock_revisions'), ('onex_registry_mend_numbers'), ('onex_registry_register'),
               ('onex_registry_heartbeat'))
       AS need (name)
 WHERE NOT has_function_privilege(to_regproc(need.name)::oid, 'EXECUTE')
";

/// Triggers that are missing or disabled: plain SQL writers go on, but their changes are no events.
const SILENT_TRIGGERS: &str = r"
SELECT need.name
  FROM unnest(ARRAY['onex_registry_record_insert', 'onex_registry_record_update', 'onex_registry_record_delete',
                    'onex_registry_record_truncate']) AS need (name)
  LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass('node_registrations') AND t.tgname = need.name
 WHERE t.tgname IS NULL OR t.tgenabled NOT IN ('O', 'A')
";

pub(super) async fn check(pool: &Pool) -> Result<(), NotReady> {
    let mut tx = pool.begin_with(begin::READ).await?;
    let mut missing: Vec<String> = sqlx::query_scalar(MISSING).persistent(false).fetch_all(&mut *tx).await?;
    // All the columns of a missing table are one thing that is missing.
    let mut seen = HashSet::new();
    missing.retain(|line| seen.insert(line.clone()));
    if !missing.is_empty() {
        return Err(NotReady::Missing(missing));
    }
    let silent: Vec<String> =
        sqlx::query_scalar(SILENT_TRIGGERS).persistent(false).fetch_all(&mut *tx).await?;
    if !silent.is_empty() {
        tracing::warn!(
            triggers = silent.join(", "),
            "triggers are missing or disabled: changes by plain SQL are not recorded as events"
        );
    }
    let durable: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    if durable == "off" {
        tracing::warn!(
            "synchronous_commit is off for this role or database: a crash of PostgreSQL can lose acknowledged writes"
        );
    }
    Ok(())
}
