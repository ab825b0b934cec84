//! What many clients saw, judged by a checker that reads their histories: one replica behaves as one thing that does one
//! thing at a time, and several agree, whatever becomes of their connections to the database.

mod checker;
mod checker_checked;
mod clients;
mod dice;
mod one_replica;
mod rules;
mod several_replicas;
