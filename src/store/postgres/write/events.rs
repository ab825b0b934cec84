//! Numbering and recording: the last steps before the commit.

use sqlx::{Postgres, Row as _, Transaction};

use super::batch::Undone;
use crate::node::{EventKind, Origin, Revision};

/// The advisory lock may be waited for longer than a row: whoever holds it is committing, if nobody has had his
/// constraints checked at once (SET CONSTRAINTS) or his transaction prepared.
const LOCK_REVISIONS: &str =
    "SELECT set_config('lock_timeout', '2s', true), onex_registry_lock_revisions()::text";

/// In a statement after the one that took the lock: numbers are in the order of commits. One notification per batch;
/// it is a hint to read the events, and no more.
const RECORD: &str = "
WITH recorded AS (
    INSERT INTO node_events (revision, node_id, kind, changed, actor, correlation_id, occurred_at)
    SELECT nextval('node_events_revision_seq'), e.node_id, e.kind, string_to_array(e.changed, ','), e.actor,
           e.correlation_id, clock_timestamp()
      FROM (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                       AS u (node_id, kind, changed, actor, correlation_id, position)
             ORDER BY u.position) AS e
    RETURNING revision
)
SELECT array_agg(revision ORDER BY revision) AS revisions,
       pg_notify('onex_registry', max(revision)::text)::text AS notified
  FROM recorded";

/// Events to record, column by column.
#[derive(Default)]
pub(in crate::store::postgres) struct Events<'a> {
    node_ids: Vec<&'a str>,
    kinds: Vec<&'static str>,
    changed: Vec<String>,
    actors: Vec<&'a str>,
    correlation_ids: Vec<Option<&'a str>>,
}

impl<'a> Events<'a> {
    pub(in crate::store::postgres) fn add(
        &mut self,
        node_id: &'a str,
        kind: EventKind,
        changed: &str,
        origin: &'a Origin,
    ) {
        self.node_ids.push(node_id);
        self.kinds.push(kind.as_str());
        self.changed.push(if kind == EventKind::Updated { changed.to_owned() } else { String::new() });
        self.actors.push(origin.actor.as_str());
        self.correlation_ids.push(origin.correlation_id.as_deref());
    }
}

/// Numbers and records events, in their order. Without any, nobody waits for anybody.
pub(in crate::store::postgres) async fn record(
    tx: &mut Transaction<'_, Postgres>,
    events: &Events<'_>,
) -> Result<Vec<Revision>, Undone> {
    if events.node_ids.is_empty() {
        return Ok(Vec::new());
    }
    lock_revisions(tx).await?;
    let row = sqlx::query(RECORD)
        .persistent(false)
        .bind(&events.node_ids)
        .bind(&events.kinds)
        .bind(&events.changed)
        .bind(&events.actors)
        .bind(&events.correlation_ids)
        .fetch_one(&mut **tx)
        .await?;
    let revisions: Vec<i64> = row.try_get("revisions")?;
    Ok(revisions.into_iter().filter_map(Revision::new).collect())
}

/// From here to the end of the transaction nobody else takes a number. To take the lock again does nothing.
pub(in crate::store::postgres) async fn lock_revisions(
    tx: &mut Transaction<'_, Postgres>,
) -> Result<(), Undone> {
    sqlx::query(LOCK_REVISIONS).persistent(false).execute(&mut **tx).await.map(drop).map_err(stalled)
}

fn stalled(error: sqlx::Error) -> Undone {
    // lock_not_available
    let timed_out = error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"));
    if timed_out { Undone::Stalled } else { Undone::Failed(error) }
}
