//! Of `benches/chaos/rules/answers.rs`.

use serde_json::json;

use super::asked;
use super::chaos::{Answer, Asked, Kind, Lateness, Outcome, answers, lateness};

const SECOND: u64 = 1_000_000;

fn judged(kind: Kind, took: u64, answer: Answer) -> usize {
    let responses = json!({"200": {}, "404": {}, "410": {}, "500": {}, "503": {}});
    let document = json!({"paths": {"/v1/nodes/{node_id}": {"get": {"responses": responses}}, "/v1/watch": {"get": {"responses": responses}}}});
    answers(&[asked(kind, 10, 10 + took, answer)], &document).len()
}

fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

#[test]
fn what_the_document_has_and_a_good_client_may_get_is_fine() {
    assert_eq!(judged(Kind::Read, 1, status(200)), 0);
    assert_eq!(judged(Kind::Read, 1, status(404)), 0);
    let come_again = Answer { says_when_to_come_again: true, ..status(503) };
    assert_eq!(judged(Kind::Read, 1, come_again), 0);
}

#[test]
fn each_fault_is_found() {
    assert_eq!(judged(Kind::Read, 1, status(500)), 1, "an error of ours");
    assert_eq!(judged(Kind::Watch, 1, status(410)), 1, "nothing was deleted");
    assert_eq!(judged(Kind::Read, 1, status(504)), 1, "not in this document");
    assert_eq!(judged(Kind::Read, 1, status(503)), 1, "without Retry-After");
    assert_eq!(judged(Kind::Read, 6 * SECOND, status(200)), 1, "far too late");
    let lost = Asked { outcome: Outcome::NoAnswer, ..asked(Kind::Read, 0, 1, status(0)) };
    assert_eq!(answers(&[lost], &json!({})).len(), 1);
}

#[test]
fn what_is_late_is_counted() {
    let took = |kind, took| asked(kind, 0, took, status(200));
    let requests = [
        took(Kind::Write, SECOND),
        took(Kind::Write, 2 * SECOND),
        took(Kind::Strong, 3 * SECOND),
        took(Kind::Read, SECOND / 10),
        took(Kind::Read, SECOND / 2),
        took(Kind::AtLeast, 4 * SECOND),
    ];
    let expected = Lateness { writes: 2, slowest_write: 3 * SECOND, reads: 1, slowest_read: SECOND / 2 };
    assert_eq!(lateness(requests.iter()), expected);
}
