//! `onex-registry`: a node registry and service-discovery server, REST/JSON over HTTP, on PostgreSQL or on embedded
//! SQLite.
//!
//! Read it in this order:
//!
//! 1. [`node`], the vocabulary: what is valid, and what things are called. No I/O.
//! 2. [`store`], the durable truth: its interface, then PostgreSQL and SQLite behind it. All SQL is there.
//! 3. [`registry`], what the server does: the one face that handlers call.
//! 4. [`http`], the REST face: all status codes are there.
//! 5. [`server`], which puts them together, and [`config`], [`cli`] and [`telemetry`] around it.
//! 6. [`keys`], who may do what; `http` asks it. [`secret`], what is never shown.
//! 7. [`client`], the other end of the REST face, for the commands of [`cli`] that ask a server.
//! 8. [`metrics`], beside them: the registry and the REST face tell it what happens.
//!
//! Each knows the next room and the vocabulary, and nothing beyond: `http → registry → store → node`.

pub mod cli;
pub mod client;
pub mod config;
mod going;
pub mod healthcheck;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod node;
pub mod registry;
mod replace_file;
pub mod secret;
pub mod server;
mod small_file;
pub mod store;
pub mod telemetry;
