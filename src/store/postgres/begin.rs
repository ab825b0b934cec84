//! How transactions begin.
//!
//! All statements stand in transactions, and are unnamed: a pooler in transaction mode keeps those together, and nothing
//! is set for longer than the transaction. Its end frees the connection of a statement that hangs, which giving up on
//! the answer doesn't. A server that is held up in the middle doesn't keep rows for long.
//!
//! The exception are the writer's functions, where sessions are known to be ours: see [`super::sessions`].
//!
//! JIT is for statements that take seconds (PostgreSQL manual, section 32.1). To compile one of ours takes longer than to
//! run it, and a wrong estimate is all it needs for that.

/// To read, in one snapshot for all statements.
pub(super) const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL jit = off";

/// To read on from where one is: few rows of large tables, again and again. There is an index for each of the statements,
/// in the order that is asked for; without statistics, PostgreSQL would guess that most of the rows are wanted.
pub(super) const FOLLOW: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL jit = off; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off";

/// To read whole tables, as slowly as the machine does it. Each row of one has its match in the other: without
/// statistics, PostgreSQL might look them up one by one.
pub(super) const LOAD: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL statement_timeout = '10min'; SET LOCAL jit = off; SET LOCAL enable_nestloop = off; \
    SET LOCAL work_mem = '32MB'";

/// To write. READ COMMITTED, because a statement must see what was committed while an earlier one waited for a lock.
/// The triggers leave the events of these transactions to us.
pub(super) const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL jit = off; SET LOCAL onex_registry.writer = 'registry'; \
    SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '250ms'";

/// To write those parts of a batch that met a row which another transaction has inserted and not committed: such rows
/// can't be skipped, and each is found at the price of some waits. Who waits too little here still goes the side way.
pub(super) const WRITE_HASTILY: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL statement_timeout = '10s'; SET LOCAL jit = off; SET LOCAL onex_registry.writer = 'registry'; \
    SET LOCAL idle_in_transaction_session_timeout = '10s'; SET LOCAL lock_timeout = '10ms'";

/// To report that the database was reached, which comes again every second.
pub(super) const REPORT: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL statement_timeout = '1s'; SET LOCAL idle_in_transaction_session_timeout = '2s'; \
    SET LOCAL lock_timeout = '500ms'";
