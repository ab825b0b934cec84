//! The checker finds what is wrong, and nothing else.

use serde_json::json;

use super::checker::{Condition, Log, Operation, Source, What, judge, judge_watcher};

fn log() -> Log {
    let event = |revision: i64, kind: &str, id: &str| json!({"revision": revision, "node_id": "n", "kind": kind, "correlation_id": id});
    Log(vec![event(1, "registered", "a"), event(2, "deregistered", "b"), event(4, "registered", "c")])
}

fn write(began: u64, ended: u64, id: &str) -> Operation {
    write_on(began, ended, id, None)
}

fn write_on(began: u64, ended: u64, id: &str, on: Option<Condition>) -> Operation {
    let value = i64::try_from(began).unwrap();
    let what = What::Write { correlation_id: id.to_owned(), acknowledged: true, value: Some(value), on };
    Operation { replica: 0, node: "n".to_owned(), began, ended, what }
}

fn read(began: u64, ended: u64, found: Option<i64>, seen: i64) -> Operation {
    let what = What::Read { found, value: None, seen: Some(seen), at_least: None, source: Source::Replica };
    Operation { replica: 0, node: "n".to_owned(), began, ended, what }
}

fn refused(began: u64, ended: u64, condition: Condition) -> Operation {
    Operation { replica: 0, node: "n".to_owned(), began, ended, what: What::Refused(condition) }
}

fn writes() -> Vec<Operation> {
    vec![write(10, 100, "a"), write(110, 200, "b"), write(210, 300, "c")]
}

fn faults(reads: &[Operation]) -> usize {
    let history: Vec<Operation> = writes().into_iter().chain(reads.iter().cloned()).collect();
    judge(&history, &log()).len()
}

#[test]
fn a_good_history_has_no_faults() {
    let reads = [
        read(20, 30, None, 0),
        read(40, 90, Some(1), 1),
        read(120, 130, Some(1), 1),
        read(140, 190, None, 2),
        read(220, 230, None, 2),
        refused(220, 230, Condition::Revision(1)),
        refused(240, 250, Condition::Absent),
        read(310, 320, Some(4), 4),
    ];
    assert_eq!(faults(&reads), 0);
}

#[test]
fn each_fault_is_found() {
    assert_eq!(faults(&[read(101, 105, None, 0)]), 1, "older than what was acknowledged");
    assert_eq!(faults(&[read(20, 30, Some(4), 4)]), 1, "before it was written");
    assert_eq!(faults(&[read(40, 50, Some(1), 1), read(60, 70, None, 1)]), 1, "gone again");
    assert_eq!(faults(&[read(310, 320, Some(3), 4)]), 1, "what never was");
    assert_eq!(faults(&[read(310, 320, Some(4), 4), read(330, 340, Some(4), 3)]), 1, "back in time");
    let lost = judge(&[write(1, 10, "z")], &log());
    assert_eq!(lost.len(), 1, "{lost:?}");
    let swapped = [write(1, 10, "b"), write(11, 20, "a")];
    assert_eq!(judge(&swapped, &log()).len(), 1);
    let what =
        What::Read { found: None, value: None, seen: Some(1), at_least: Some(2), source: Source::Replica };
    assert_eq!(faults(&[Operation { what, ..read(20, 30, None, 1) }]), 2, "older than asked for");
}

#[test]
fn a_read_shows_what_was_written() {
    let read_value = |value: i64, source: Source| {
        let what = What::Read { found: Some(4), value: Some(value), seen: Some(4), at_least: None, source };
        Operation { what, ..read(310, 320, Some(4), 4) }
    };
    assert_eq!(faults(&[read_value(210, Source::Replica)]), 0);
    assert_eq!(faults(&[read_value(209, Source::Replica)]), 1);
}

#[test]
fn the_database_has_what_any_replica_has_acknowledged() {
    let other = |source: Source| {
        let what = What::Read { found: None, value: None, seen: None, at_least: None, source };
        Operation { what, replica: 1, ..read(101, 105, None, 0) }
    };
    assert_eq!(faults(&[other(Source::Replica)]), 0, "a replica may be behind another one");
    assert_eq!(faults(&[other(Source::Database)]), 1);
}

#[test]
fn conditions_hold_where_a_write_was_done_and_do_not_where_it_was_refused() {
    let history =
        |a, b, c| vec![write_on(10, 100, "a", a), write_on(110, 200, "b", b), write_on(210, 300, "c", c)];
    let judged = |a, b, c| judge(&history(Some(a), Some(b), Some(c)), &log()).len();
    let (absent, first) = (Condition::Absent, Condition::Revision(1));
    assert_eq!(judged(absent, first, absent), 0);
    assert_eq!(judged(first, first, absent), 1);
    assert_eq!(judged(absent, absent, absent), 1);
    assert_eq!(judged(absent, first, Condition::Revision(2)), 1, "a deletion is no registration");
    assert_eq!(faults(&[refused(5, 9, Condition::Absent)]), 1, "there was nothing yet");
    assert_eq!(faults(&[refused(105, 109, Condition::Revision(1))]), 1, "it had not changed yet");
}

#[test]
fn writes_to_several_nodes_are_in_one_order() {
    let event = |revision: i64, node: &str, id: &str| json!({"revision": revision, "node_id": node, "kind": "registered", "correlation_id": id});
    let log = Log(vec![event(1, "m", "later"), event(2, "n", "earlier")]);
    let later = Operation { node: "m".to_owned(), ..write(11, 20, "later") };
    assert_eq!(judge(&[write(1, 10, "earlier"), later.clone()], &log).len(), 1);
    assert_eq!(judge(&[write(1, 12, "earlier"), later], &log).len(), 0, "they may be in any order");
}

#[test]
fn a_watcher_is_told_of_everything_once() {
    assert_eq!(judge_watcher(&[2, 4], 1, &log()).len(), 0);
    assert_eq!(judge_watcher(&[1, 4], 0, &log()).len(), 1);
    assert_eq!(judge_watcher(&[1, 2, 2, 4], 0, &log()).len(), 1);
    assert_eq!(judge_watcher(&[1, 2, 3, 4], 0, &log()).len(), 1);
}
