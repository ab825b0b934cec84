//! What can go wrong with a database, by what the caller can do about it.

use std::sync::Arc;

use crate::node::Revision;

/// A failed operation. The sources are for the log; nothing of them goes to a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No such node.
    #[error("no such node")]
    NotFound,
    /// What the write was conditional on doesn't hold.
    #[error("the precondition does not hold; the present revision is {present:?}")]
    PreconditionFailed {
        /// The present revision; `None` if the node isn't registered.
        present: Option<Revision>,
    },
    /// What comes after the revision that was asked for was deleted, or there never was such a revision: the database
    /// was restored.
    #[error("there are events after {kept_after} up to {newest}, and others were asked for")]
    EventsGone {
        /// Events up to this one may have been deleted.
        kept_after: Revision,
        /// The newest revision.
        newest: Revision,
    },
    /// Another transaction holds the row, and has for longer than is waited.
    #[error("another transaction holds the row")]
    Contended,
    /// Another transaction holds the row, and was not waited for. Nothing was written.
    #[error("another transaction holds the row, and it was not waited for")]
    Held,
    /// A rule that the user's own database has for this row: a constraint or a trigger.
    #[error("the database refuses the row")]
    Refused(#[source] Arc<sqlx::Error>),
    /// The database can't be reached, is starting or stopping, or takes no writes. Whether a write took effect is
    /// not known.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database's disk is full.
    #[error("the database's disk is full")]
    Full(#[source] Arc<sqlx::Error>),
    /// Something that should not happen.
    #[error("the database failed")]
    Failed(#[source] Arc<sqlx::Error>),
    /// More is waiting to be written than is taken. Nothing was written.
    #[error("too many writes are waiting")]
    Busy,
    /// More is being read than is done at once.
    #[error("too many reads are under way")]
    Crowded,
    /// The change that was asked for has not come here in the time that is waited for it.
    #[error("the change that was asked for has not come here yet")]
    Behind,
    /// This replica has not read the table yet.
    #[error("the table is being read")]
    Loading,
    /// The operation ended without a result. Whether it took effect is not known.
    #[error("the operation ended without a result")]
    Interrupted,
    /// The database is known to be away, and was not asked.
    #[error("the database is away, and was not asked")]
    Away,
    /// The database has answered nobody anything for too long, and was given up. Whether a write took effect, or will, is
    /// not known.
    #[error("the database is silent")]
    Silent,
}

impl StoreError {
    /// Whether there is one of these for everything that is asked of a database that is away. For `is_remote`, see
    /// [`StoreError::is_unreachable`].
    #[must_use]
    pub fn is_of_an_outage(&self, is_remote: bool) -> bool {
        matches!(self, Self::Away) || self.is_unreachable(is_remote)
    }

    /// Whether it says that the database can't be reached, or doesn't answer. One that has ended a statement, or takes no
    /// writes, has answered. A database that is no other process (`is_remote`) has no connections to be had or lost: its
    /// pool is a queue.
    #[must_use]
    pub fn is_unreachable(&self, is_remote: bool) -> bool {
        let Self::Unavailable(source) = self else { return matches!(self, Self::Silent) };
        match source.as_database_error() {
            Some(error) if is_remote => {
                let code = error.code().unwrap_or_default();
                ["08", "28", "53", "57P", "58"].iter().any(|class| code.starts_with(class))
            }
            Some(_) => true,
            // Of a file: it has gone.
            None if !is_remote => matches!(**source, sqlx::Error::Io(_)),
            None => !matches!(**source, sqlx::Error::PoolClosed),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::TypeNotFound { .. } => Self::Failed(Arc::new(error)),
                // Sockets, TLS, the pool: the database is away, or was when it was asked.
                _ => Self::Unavailable(Arc::new(error)),
            };
        };
        let code = database.code().unwrap_or_default().into_owned();
        let kind = if database.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
            sqlite_kind(&code)
        } else {
            postgres_kind(&code)
        };
        let error = Arc::new(error);
        match kind {
            Kind::Contended => Self::Contended,
            Kind::Refused => Self::Refused(error),
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Full => Self::Full(error),
            Kind::Failed => Self::Failed(error),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Contended,
    Refused,
    Unavailable,
    Full,
    Failed,
}

/// By SQLSTATE (PostgreSQL manual, appendix A).
fn postgres_kind(code: &str) -> Kind {
    match code {
        // lock_not_available, deadlock_detected, serialization_failure
        "55P03" | "40P01" | "40001" => Kind::Contended,
        // disk_full
        "53100" => Kind::Full,
        // query_canceled by statement_timeout; read_only_sql_transaction: a standby; a transaction that was ended
        // because it idled or took too long
        "57014" | "25006" | "25P03" | "25P04" => Kind::Unavailable,
        _ if is_of_a_user(code) => Kind::Refused,
        _ => match code.get(..2) {
            // data exception, integrity constraint violation, with check option, raise_exception
            Some("22" | "23" | "44" | "P0") => Kind::Refused,
            // connection exception, invalid authorization, insufficient resources, operator intervention, system error
            Some("08" | "28" | "53" | "57" | "58") => Kind::Unavailable,
            _ => Kind::Failed,
        },
    }
}

/// Whether a trigger of the user's own made the code up: PostgreSQL has no such class, and the standard leaves it to
/// whoever wants it.
fn is_of_a_user(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    class.starts_with(|first| matches!(first, '5'..='9' | 'I'..='Z'))
        && !matches!(class, "53" | "54" | "55" | "57" | "58" | "72" | "P0" | "XX")
}

/// By primary result code (sqlite.org/rescode.html).
fn sqlite_kind(code: &str) -> Kind {
    match code.parse::<u32>().unwrap_or_default() & 0xFF {
        // BUSY, LOCKED
        5 | 6 => Kind::Contended,
        // READONLY, IOERR, CANTOPEN
        8 | 10 | 14 => Kind::Unavailable,
        // FULL
        13 => Kind::Full,
        // TOOBIG, CONSTRAINT, MISMATCH
        18..=20 => Kind::Refused,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_can_be_done() {
        for (code, kind) in [
            ("55P03", Kind::Contended),
            ("23514", Kind::Refused),
            ("P0001", Kind::Refused),
            ("ONX07", Kind::Refused),
            ("XX000", Kind::Failed),
            ("54000", Kind::Failed),
            ("57P01", Kind::Unavailable),
            ("53300", Kind::Unavailable),
            ("53100", Kind::Full),
            ("42501", Kind::Failed),
            ("", Kind::Failed),
        ] {
            assert_eq!(postgres_kind(code), kind, "{code}");
        }
        for (code, kind) in [
            ("5", Kind::Contended),
            ("787", Kind::Refused),
            ("13", Kind::Full),
            ("266", Kind::Unavailable),
            ("11", Kind::Failed),
        ] {
            assert_eq!(sqlite_kind(code), kind, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_unavailable() {
        let lost = sqlx::Error::Io(std::io::Error::other("reset"));
        assert!(matches!(StoreError::from(lost), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(sqlx::Error::RowNotFound), StoreError::Failed(_)));
    }
}
