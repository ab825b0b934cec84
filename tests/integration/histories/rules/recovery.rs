//! Of `benches/chaos/rules/recovery.rs`.

use super::asked;
use super::chaos::{Answer, Kind, Recovery, recovery};

#[test]
fn the_first_success_after_the_end_counts() {
    let answer = |status: u16, is_stale: bool| Answer { status, is_stale, ..Answer::default() };
    let requests = [
        asked(Kind::Write, 1, 5, answer(200, false)),
        asked(Kind::Write, 8, 12, answer(503, false)),
        asked(Kind::Write, 8, 14, answer(201, false)),
        asked(Kind::Write, 8, 15, answer(201, false)),
        asked(Kind::Read, 9, 11, answer(200, false)),
        asked(Kind::Read, 11, 12, answer(200, true)),
        asked(Kind::Read, 12, 17, answer(404, false)),
    ];
    let good = Recovery { server: 0, write: Some(4), read: Some(7) };
    let never = Recovery { server: 1, write: None, read: None };
    assert_eq!(recovery(&requests, 2, 10, 100), [good, never]);
    assert_eq!(recovery(&requests, 1, 10, 13), [Recovery { write: None, read: None, ..good }]);
}
