//! Calling a function of the database that does a batch: it tells all in one row.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgHasArrayType, PgRow};
use sqlx::query::Query;
use sqlx::{Decode, Postgres, Row as _, Type};

use super::batch::{Patience, Undone};
use super::lock::begin;
use crate::store::postgres::PostgresStore;

/// How long a row is waited for, see [`Patience`].
pub(super) fn row_timeout(patience: Patience) -> &'static str {
    match patience {
        Patience::Hasty => "10ms",
        Patience::None | Patience::Some => "250ms",
    }
}

/// One round trip if the session is ours: the statement is a transaction. Else one transaction, of a few round trips.
///
/// Its rows are read to the end: what a trigger says at commit comes after them.
pub(super) async fn call(
    store: &PostgresStore,
    patience: Patience,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<PgRow, Undone> {
    let (rows, doubt) = if store.sessions.known_to_be_ours() {
        let mut connection = store.pool.acquire().await?;
        let doubt = store.tag.doubt();
        let rows = query.persistent(true).fetch_all(&mut *connection).await;
        if rows.is_ok() {
            connection.keep_at_hand();
        }
        (rows, doubt)
    } else {
        let mut tx = begin(&store.pool, patience).await?;
        let doubt = store.tag.doubt();
        let rows = match query.persistent(false).fetch_all(&mut *tx).await {
            Ok(rows) => tx.commit().await.map(|()| rows),
            Err(error) => Err(error),
        };
        (rows, doubt)
    };
    if rows.as_ref().err().is_none_or(was_undone) {
        doubt.dispel();
    }
    rows.map_err(undone)?.pop().ok_or(Undone::Unreadable(sqlx::Error::RowNotFound))
}

/// Whether a batch that failed like this has had no effect: the database says so, and goes on.
fn was_undone(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| !code.starts_with("08") && !code.starts_with("57P"))
}

fn undone(error: sqlx::Error) -> Undone {
    let Some(database) = error.as_database_error() else { return error.into() };
    let context = || database.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::r#where);
    match database.code().as_deref() {
        // serialization_failure: the function says so, nothing else does in READ COMMITTED.
        Some("40001") => Undone::Raced,
        // lock_not_available, of the lock of the revisions and not of a row
        Some("55P03") if context().is_some_and(|at| at.contains("onex_registry_lock_revisions")) => {
            Undone::Stalled
        }
        _ => error.into(),
    }
}

/// An array that is NULL if it is empty.
pub(super) fn list<T>(row: &PgRow, column: &str) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + PgHasArrayType,
{
    Ok(row.try_get::<Option<Vec<T>>, _>(column)?.unwrap_or_default())
}

/// Places in the arrays of a call, which count from one there, and from zero here.
pub(super) fn places(row: &PgRow, column: &str) -> Result<Vec<usize>, sqlx::Error> {
    let places = list::<i32>(row, column)?.into_iter();
    Ok(places.filter_map(|place| usize::try_from(place - 1).ok()).collect())
}
