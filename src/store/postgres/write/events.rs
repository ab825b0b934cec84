//! Numbering and recording: the last steps before the commit.

use sqlx::Row as _;

use super::batch::Undone;
use crate::node::{Event, EventKind, NodeKey, Origin, Revision, Timestamp};
use crate::store::Recorded;
use crate::store::postgres::decode::{self, PgTimestamp};
use crate::store::postgres::pool::Transaction;

/// The advisory lock may be waited for longer than a row: whoever holds it is committing, if nobody has had his
/// constraints checked at once (SET CONSTRAINTS) or his transaction prepared.
const LOCK_REVISIONS: &str =
    "SELECT set_config('lock_timeout', '2s', true), onex_registry_lock_revisions()::text";

/// In a statement after the one that took the lock: numbers are in the order of commits, and whoever had one before has
/// committed. What was numbered and rolled back is no event, so the one before is not what the sequence says. One
/// notification per batch; it is a hint to read the events, and no more.
const RECORD: &str = "
WITH recorded AS (
    INSERT INTO node_events (revision, node_id, kind, changed, actor, correlation_id, occurred_at)
    SELECT nextval('node_events_revision_seq'), e.node_id, e.kind, string_to_array(e.changed, ','), e.actor,
           e.correlation_id, clock_timestamp()
      FROM (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
                       AS u (node_id, kind, changed, actor, correlation_id, position)
             ORDER BY u.position) AS e
    RETURNING revision, occurred_at
)
SELECT GREATEST((SELECT max(revision) FROM node_events),
                (SELECT pruned_through FROM onex_registry_state LIMIT 1), 0) AS previous,
       array_agg(revision ORDER BY revision) AS revisions, array_agg(occurred_at ORDER BY revision) AS times,
       pg_notify('onex_registry', max(revision)::text)::text AS notified
  FROM recorded";

/// Events to record.
#[derive(Default)]
pub(in crate::store::postgres) struct Events<'a>(Vec<NewEvent<'a>>);

struct NewEvent<'a> {
    node_id: &'a str,
    kind: EventKind,
    /// The changed columns, separated by commas.
    changed: String,
    origin: &'a Origin,
}

impl<'a> Events<'a> {
    pub(in crate::store::postgres) fn add(
        &mut self,
        node_id: &'a str,
        kind: EventKind,
        changed: &str,
        origin: &'a Origin,
    ) {
        let changed = if kind == EventKind::Updated { changed.to_owned() } else { String::new() };
        self.0.push(NewEvent { node_id, kind, changed, origin });
    }

    /// One column of all of them.
    fn column<T>(&'a self, of: impl Fn(&'a NewEvent<'a>) -> T) -> Vec<T> {
        self.0.iter().map(of).collect()
    }
}

impl NewEvent<'_> {
    fn recorded(&self, revision: i64, at: Timestamp) -> Result<Event, sqlx::Error> {
        Ok(Event {
            revision: Revision::new(revision).ok_or_else(|| decode::broken("a negative revision"))?,
            node_id: NodeKey::new(self.node_id)
                .ok_or_else(|| decode::broken("an id that the column can't hold"))?,
            kind: self.kind.as_str().to_owned(),
            changed: self.changed.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            actor: self.origin.actor.as_str().to_owned(),
            correlation_id: self.origin.correlation_id.clone(),
            occurred_at: at,
        })
    }
}

/// Numbers and records events, in their order. Without any, nobody waits for anybody.
pub(in crate::store::postgres) async fn record(
    tx: &mut Transaction,
    events: &Events<'_>,
) -> Result<Option<Recorded>, Undone> {
    if events.0.is_empty() {
        return Ok(None);
    }
    lock_revisions(tx).await?;
    let row = sqlx::query(RECORD)
        .persistent(false)
        .bind(events.column(|event| event.node_id))
        .bind(events.column(|event| event.kind.as_str()))
        .bind(events.column(|event| event.changed.as_str()))
        .bind(events.column(|event| event.origin.actor.as_str()))
        .bind(events.column(|event| event.origin.correlation_id.as_deref()))
        .fetch_one(&mut **tx)
        .await?;
    let revisions: Vec<i64> = row.try_get("revisions")?;
    let times: Vec<PgTimestamp> = row.try_get("times")?;
    let recorded = events.0.iter().zip(revisions).zip(times);
    let recorded: Result<Vec<Event>, _> =
        recorded.map(|((event, revision), at)| event.recorded(revision, at.0)).collect();
    Ok(Some(Recorded { previous: decode::revision(&row, "previous")?, events: recorded? }))
}

/// From here to the end of the transaction nobody else takes a number. To take the lock again does nothing.
pub(in crate::store::postgres) async fn lock_revisions(tx: &mut Transaction) -> Result<(), Undone> {
    sqlx::query(LOCK_REVISIONS).persistent(false).execute(&mut **tx).await.map(drop).map_err(stalled)
}

fn stalled(error: sqlx::Error) -> Undone {
    // lock_not_available
    let timed_out = error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("55P03"));
    if timed_out { Undone::Stalled } else { error.into() }
}
