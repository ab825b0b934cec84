//! The migrations that the binary carries.
//!
//! They are applied by our own few lines and kept in a table of our own name: sqlx's migrator holds a session lock,
//! which a pooler in transaction mode doesn't carry, needs CREATE rights even when there is nothing to do, and shares
//! its table with any other sqlx application in the database.

/// One migration.
#[derive(Debug)]
pub struct Migration {
    /// Its place in the order, from 1.
    pub version: i64,
    /// Its file name, without the number.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// For PostgreSQL.
pub const POSTGRES: [Migration; 7] = [
    Migration {
        version: 1,
        name: "node_registrations",
        sql: include_str!("../../migrations/postgres/0001_node_registrations.sql"),
    },
    Migration {
        version: 2,
        name: "revisions_and_events",
        sql: include_str!("../../migrations/postgres/0002_revisions_and_events.sql"),
    },
    Migration { version: 3, name: "health", sql: include_str!("../../migrations/postgres/0003_health.sql") },
    Migration {
        version: 4,
        name: "signs_of_life",
        sql: include_str!("../../migrations/postgres/0004_signs_of_life.sql"),
    },
    Migration {
        version: 5,
        name: "batches",
        sql: include_str!("../../migrations/postgres/0005_batches.sql"),
    },
    Migration {
        version: 6,
        name: "less_beside_the_rows",
        sql: include_str!("../../migrations/postgres/0006_less_beside_the_rows.sql"),
    },
    Migration {
        version: 7,
        name: "numbers_go_on",
        sql: include_str!("../../migrations/postgres/0007_numbers_go_on.sql"),
    },
];

/// For SQLite.
pub const SQLITE: [Migration; 2] = [
    Migration {
        version: 1,
        name: "node_registrations",
        sql: include_str!("../../migrations/sqlite/0001_node_registrations.sql"),
    },
    Migration { version: 2, name: "health", sql: include_str!("../../migrations/sqlite/0002_health.sql") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_from_one() {
        for migrations in [&POSTGRES[..], &SQLITE[..]] {
            for (index, migration) in migrations.iter().enumerate() {
                assert_eq!(migration.version, i64::try_from(index).unwrap() + 1);
            }
        }
    }
}
