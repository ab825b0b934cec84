//! Of `benches/chaos/rules/freshness.rs`.

use super::asked;
use super::chaos::{Answer, Kind, freshness};

/// The limit of the rule, in microseconds.
const FRESH: u64 = 4_500_000;

#[test]
fn what_was_acknowledged_long_ago_is_seen_unless_the_answer_says_that_it_is_stale() {
    let read = |at: u64, seen: i64, is_stale: bool| {
        let answer = Answer { status: 200, seen: Some(seen), is_stale, ..Answer::default() };
        freshness(&[asked(Kind::Read, at, at + 1, answer)], &[(20, 5), (10, 7)]).len()
    };
    assert_eq!(read(1_000, 3, false), 0, "not long ago");
    assert_eq!(read(FRESH + 30, 7, false), 0);
    assert_eq!(read(FRESH + 30, 6, true), 0, "it says so");
    assert_eq!(read(FRESH + 30, 6, false), 1);
    assert_eq!(read(FRESH + 15, 6, false), 1, "the order of revisions is not that of answers");
}
