//! What settings are.

use std::fmt;

use crate::secret::Secret;
use crate::store::postgres::PostgresStore;

/// The URL of a database. Its `Debug` and `Display` show where it is, never who we are there.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A PostgreSQL server. Its URL has a password in it.
    Postgres(Secret),
    /// An SQLite file.
    Sqlite(String),
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(url) => f.write_str(url),
            Self::Postgres(url) => match PostgresStore::place(url.expose()) {
                Some(place) => write!(f, "postgres://{place}"),
                None => f.write_str("postgres://(redacted)"),
            },
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// What is open to everybody although there are keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Public {
    /// `/metrics`.
    pub metrics: bool,
    /// The pages about the API.
    pub docs: bool,
    /// All that reads and watches.
    pub read: bool,
}

/// Which origins a browser may call from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None: CORS is off.
    None,
    /// Any.
    Any,
    /// These.
    Some(Vec<axum::http::HeaderValue>),
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// For people.
    Pretty,
    /// For machines: one JSON object per line.
    Json,
}
