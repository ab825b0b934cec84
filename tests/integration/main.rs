//! The tests over real HTTP, on a real PostgreSQL and a real SQLite. One binary: it links once, and the PostgreSQL
//! cluster that it starts is shared by all tests.
//!
//! Arranged like the API, one file per subject. [`harness`] starts clusters, databases and servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

#[macro_use]
mod harness;

mod adoption;
mod asked_again;
mod bad_input;
mod batch;
mod catalog_agrees;
mod cli;
mod concurrency;
mod conditional;
mod corpus;
mod dashboard;
mod deploy;
mod discover;
mod events;
mod everywhere;
mod following;
mod freshness;
mod full_disk;
mod group_commit;
mod health;
mod heartbeats;
mod histories;
mod http2;
mod keeping_up;
mod keys;
mod limits;
mod loading;
mod long_poll;
mod maintenance;
mod metrics;
mod migrations;
mod nodes;
mod numbers;
mod openapi;
mod outages;
mod own_writes;
mod paging;
mod plain_sql;
mod plans;
mod pooler;
mod process;
mod prometheus;
mod reads;
mod real_nodes;
mod retention;
mod stores_agree;
mod summary;
mod tls;
mod watch;
mod writing;
