//! What must hold of whatever a client or an operator sends: each function takes any bytes, and panics if it doesn't.
//!
//! The programs in `fuzz_targets/` look for bytes that break it. `tests/integration/corpus.rs` tries those that are saved in
//! `corpus/`, with every run of the tests.

// An assertion that fails is what all this is for.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::missing_panics_doc, reason = "it is a test")]
// Public to the programs, and nobody in the tests.
#![allow(unreachable_pub)]

pub mod containment;
pub mod cursor;
pub mod key_file;
pub mod query_string;
