//! Of `benches/chaos/rules/stops.rs`.

use super::asked;
use super::chaos::{Answer, Asked, Down, Kind, Outcome, Stream, broken, closed};

const ASKED: Down = Down { server: 0, from: 5_000_000, to: 6_000_000, was_asked: true };
const KILLED: Down = Down { was_asked: false, ..ASKED };

#[test]
fn only_a_server_that_was_killed_breaks_off_what_it_has_begun() {
    let faults = |began, ended, down: Down| {
        let outcome = Outcome::Broken { was_connected: true };
        let request = Asked { outcome, ..asked(Kind::Write, began, ended, Answer::default()) };
        broken(&[request], &[down]).len()
    };
    assert_eq!(faults(4_800_000, 5_000_001, KILLED), 0);
    assert_eq!(faults(4_800_000, 5_000_001, ASKED), 1, "it had been taken");
    assert_eq!(faults(5_000_000, 5_000_001, ASKED), 0, "it crossed the signal");
    assert_eq!(faults(1_000_000, 1_000_001, KILLED), 1, "nothing was done yet");
    assert_eq!(faults(8_000_000, 8_000_001, KILLED), 1, "it was back");
    assert_eq!(faults(4_800_000, 5_000_001, Down { server: 1, ..KILLED }), 1, "another one was killed");
}

#[test]
fn streams_end_with_a_word_if_the_server_could_say_one() {
    let faults = |reason: Option<&str>, opened, ended, down| {
        let reason = reason.map(ToOwned::to_owned);
        closed(&[Stream { server: 0, opened, ended, reason }], &[down]).len()
    };
    assert_eq!(faults(Some("shutdown"), 0, 5_100_000, ASKED), 0);
    assert_eq!(faults(None, 0, 5_100_000, KILLED), 0);
    assert_eq!(faults(None, 0, 5_100_000, ASKED), 1);
    assert_eq!(faults(Some("reset"), 0, 5_100_000, ASKED), 1);
    assert_eq!(faults(None, 0, 1_000_000, KILLED), 1, "it ended by itself");
}
