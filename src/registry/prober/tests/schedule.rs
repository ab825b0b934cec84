//! The schedule, with time passed in.

use super::super::schedule::{Job, Schedule};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Some time in 2026, in the middle of everything.
const NOW: Duration = Duration::from_millis(1_790_000_000_123);
const TIMEOUT: Duration = Duration::from_secs(5);

fn schedule(interval: Duration) -> Schedule {
    Schedule::new(interval, TIMEOUT, 256)
}

fn targets(number: usize) -> Vec<Target> {
    (0..number).map(|id| target(&format!("node {id}"), format!("http://10.0.0.1/{id}"))).collect()
}

/// The next probe of either lane, at its time, if that is before `end`.
fn next(schedule: &mut Schedule, end: Duration) -> Option<(Duration, Job)> {
    let due = |schedule: &Schedule, lane| schedule.next_due(lane).filter(|due| *due < end);
    let lane = Lane::ALL
        .into_iter()
        .filter(|lane| due(schedule, *lane).is_some())
        .min_by_key(|lane| due(schedule, *lane))?;
    let due = due(schedule, lane)?;
    schedule.take(lane, due).map(|job| (due, job))
}

/// Probes what is due in this time, each without delay, and returns what was probed when.
fn run(schedule: &mut Schedule, from: Duration, to: Duration, success: bool) -> Vec<(Duration, NodeKey)> {
    let mut probes = Vec::new();
    while let Some((due, job)) = next(schedule, to) {
        assert!(due >= from);
        let node = schedule.finish(job.id, success, due).unwrap();
        probes.push((due, node.clone()));
    }
    probes
}

/// The times of the only target.
fn times(schedule: &mut Schedule, from: Duration, to: Duration, success: bool) -> Vec<Duration> {
    run(schedule, from, to, success).into_iter().map(|(due, _)| due).collect()
}

#[test]
fn probes_are_spread_evenly_over_the_interval() {
    let mut schedule = schedule(10 * SECOND);
    schedule.replace(targets(5_000), NOW);
    for round in 0..3 {
        let begin = NOW + round * 10 * SECOND;
        let probes = run(&mut schedule, begin, begin + 10 * SECOND, true);
        assert_eq!(probes.len(), 5_000, "each once in an interval");
        let mut in_a_tenth_of_a_second = [0; 100];
        for (due, _) in probes {
            in_a_tenth_of_a_second[usize::try_from(due.abs_diff(begin).as_millis()).unwrap() / 100] += 1;
        }
        // Fifty are expected.
        assert!(in_a_tenth_of_a_second.iter().all(|number| (20..=90).contains(number)));
    }
}

#[test]
fn another_replica_goes_on_in_the_same_rhythm() {
    let interval = 30 * SECOND;
    let mut old = schedule(interval);
    old.replace(targets(1_000), NOW);
    let before = run(&mut old, NOW, NOW + interval, true);
    let mut new = schedule(interval);
    // It begins in the middle of an interval, and is told in another order.
    let mut reversed = targets(1_000);
    reversed.reverse();
    new.replace(reversed, NOW + interval);
    let after = run(&mut new, NOW + interval, NOW + 2 * interval, true);
    let one_interval_later: Vec<_> = before.into_iter().map(|(due, node)| (due + interval, node)).collect();
    assert_eq!(after, one_interval_later);
}

#[test]
fn slow_and_late_probes_do_not_shift_the_rhythm() {
    let mut schedule = schedule(10 * SECOND);
    schedule.replace(targets(1), NOW);
    let first = schedule.next_due(Lane::Healthy).unwrap();
    for round in 0..50 {
        let due = schedule.next_due(Lane::Healthy).unwrap();
        assert_eq!(due, first + round * 10 * SECOND);
        // A little late, and then it takes half of the interval.
        let late = Duration::from_millis(u64::from(round) * 90);
        let job = schedule.take(Lane::Healthy, due + late).unwrap();
        assert_eq!(job.late, late);
        schedule.finish(job.id, true, due + late + TIMEOUT);
    }
}

#[test]
fn a_very_late_probe_costs_the_next_slot() {
    let mut schedule = schedule(10 * SECOND);
    schedule.replace(targets(1), NOW);
    let due = schedule.next_due(Lane::Healthy).unwrap();
    let job = schedule.take(Lane::Healthy, due + 9 * SECOND).unwrap();
    schedule.finish(job.id, true, due + 9 * SECOND);
    assert_eq!(schedule.next_due(Lane::Healthy), Some(due + 20 * SECOND));
}

#[test]
fn a_failing_target_backs_off_to_four_intervals_and_comes_back_at_once() {
    let interval = 10 * SECOND;
    let mut schedule = schedule(interval);
    schedule.replace(targets(1), NOW);
    let first = schedule.next_due(Lane::Healthy).unwrap();
    let failures = times(&mut schedule, NOW, NOW + 16 * interval, false);
    let intervals: Vec<_> =
        [0, 1, 3, 7, 11, 15].into_iter().map(|number| first + number * interval).collect();
    assert_eq!(failures, intervals);
    assert_eq!(schedule.next_due(Lane::Healthy), None);
    let last = schedule.next_due(Lane::Failing).unwrap();
    let job = schedule.take(Lane::Failing, last).unwrap();
    schedule.finish(job.id, true, last);
    assert_eq!(schedule.next_due(Lane::Failing), None);
    assert_eq!(schedule.next_due(Lane::Healthy), Some(last + interval));
}

#[test]
fn after_a_pause_nothing_piles_up() {
    let interval = 10 * SECOND;
    let mut schedule = schedule(interval);
    schedule.replace(targets(5_000), NOW);
    let late = NOW + 360 * interval;
    assert!(schedule.take(Lane::Healthy, late).is_none_or(|job| job.late < SECOND));
    let mut most_in_a_second = [0; 10];
    let mut longest = Duration::ZERO;
    while let Some((due, job)) = next(&mut schedule, late + interval) {
        most_in_a_second[usize::try_from(due.abs_diff(late).as_secs()).unwrap()] += 1;
        longest = longest.max(job.late);
        schedule.finish(job.id, true, due);
    }
    assert!(most_in_a_second.iter().all(|number| (400..=600).contains(number)), "{most_in_a_second:?}");
    assert!(longest >= 359 * interval, "what was left out is told as lateness");
}

#[test]
fn when_there_is_too_much_to_do_each_has_its_turn() {
    let interval = 10 * SECOND;
    let mut schedule = schedule(interval);
    schedule.replace(targets(1_000), NOW);
    // One at a time, and forty a second, where a hundred would be needed.
    let mut probes: BTreeMap<NodeKey, usize> = BTreeMap::new();
    for step in 0..4_000 {
        let now = NOW + step * Duration::from_millis(25);
        if let Some(job) = schedule.take(Lane::Healthy, now) {
            *probes.entry(schedule.finish(job.id, true, now).unwrap().clone()).or_default() += 1;
        }
    }
    assert_eq!(probes.len(), 1_000);
    let (least, most) = (probes.values().min().unwrap(), probes.values().max().unwrap());
    assert!(*least >= 2 && *most <= 7, "{least} to {most} times in ten intervals");
}

#[test]
fn a_target_that_has_failed_once_does_not_stand_behind_those_that_hang() {
    let interval = 10 * SECOND;
    let mut schedule = schedule(interval);
    schedule.replace(targets(1_000), NOW);
    run(&mut schedule, NOW, NOW + 5 * interval, false);
    // They are due again in the eighth interval.
    schedule.set(target("restarted", "http://10.0.0.2/"), NOW + 6 * interval);
    let due = schedule.next_due(Lane::Healthy).unwrap();
    let restarted = schedule.take(Lane::Healthy, due).unwrap().id;
    schedule.finish(restarted, false, due);
    let due_again = schedule.next_due(Lane::Failing).unwrap();
    let now = due_again.max(NOW + 7 * interval + interval / 4);
    assert_eq!(schedule.take(Lane::Failing, now).map(|job| job.id), Some(restarted));
    assert!(schedule.take(Lane::Failing, now).is_some(), "others are due as well");
}

#[test]
fn a_probe_under_way_is_not_begun_again() {
    let mut schedule = schedule(SECOND);
    schedule.replace(targets(1), NOW);
    let job = schedule.take(Lane::Healthy, NOW + SECOND).unwrap();
    for lane in Lane::ALL {
        assert_eq!(schedule.next_due(lane), None);
    }
    schedule.replace(targets(1), NOW + SECOND);
    assert!(schedule.take(Lane::Healthy, NOW + 100 * SECOND).is_none());
    assert_eq!(schedule.finish(job.id, true, NOW + 100 * SECOND), Some(&node("node 0")));
    assert_eq!(schedule.finish(job.id, true, NOW + 100 * SECOND), None, "it has ended already");
}

#[test]
fn a_new_target_is_probed_within_a_second_while_few_are_new() {
    let mut schedule = Schedule::new(30 * SECOND, TIMEOUT, 100);
    for target in targets(1_000) {
        schedule.set(target, NOW);
    }
    let soon = run(&mut schedule, NOW, NOW + SECOND, true).len();
    assert!((100..150).contains(&soon), "{soon} in the first second");
    // Those have been probed, so others may be early.
    let another = target("another", "http://10.0.0.2/");
    schedule.set(another.clone(), NOW + SECOND);
    schedule.replace(vec![another], NOW + SECOND);
    let times = times(&mut schedule, NOW, NOW + 200 * SECOND, true);
    assert!(times[0] <= NOW + 2 * SECOND);
    // The second probe is in the rhythm, not just after the first.
    assert!(times[1].abs_diff(times[0]) >= 15 * SECOND);
    assert!(times[1..].windows(2).all(|pair| pair[1].abs_diff(pair[0]) == 30 * SECOND));
}

#[test]
fn what_is_known_of_a_target_stays_until_its_url_changes() {
    let interval = 10 * SECOND;
    let mut schedule = schedule(interval);
    schedule.replace(targets(2), NOW);
    run(&mut schedule, NOW, NOW + 4 * interval, false);
    let due = schedule.next_due(Lane::Failing).unwrap();
    schedule.replace(targets(2), NOW + 4 * interval);
    for same in targets(2) {
        schedule.set(same, NOW + 4 * interval);
    }
    assert_eq!(schedule.next_due(Lane::Failing), Some(due));
    assert_eq!(schedule.next_due(Lane::Healthy), None);

    let job = schedule.take(Lane::Failing, due).unwrap();
    for id in 0..2 {
        schedule.set(target(&format!("node {id}"), "http://10.0.0.9/"), due);
    }
    assert!(!schedule.knows(job.id));
    assert_eq!(schedule.finish(job.id, true, due), None, "the answer came from the old URL");
    assert_eq!(schedule.next_due(Lane::Failing), None);
    assert!(schedule.next_due(Lane::Healthy).unwrap() <= due + SECOND);
}

#[test]
fn only_the_given_targets_are_left() {
    let mut schedule = schedule(SECOND);
    schedule.replace(targets(3), NOW);
    schedule.replace(targets(2), NOW);
    schedule.forget(&node("node 0"));
    schedule.forget(&node("nobody"));
    let probed = run(&mut schedule, NOW, NOW + SECOND, true);
    assert_eq!(probed.iter().map(|(_, node)| node.as_str()).collect::<Vec<_>>(), ["node 1"]);
    schedule.clear();
    assert!(schedule.is_empty());
    assert_eq!(schedule.next_due(Lane::Healthy), None);
}

#[test]
fn three_probes_fit_into_the_ttl_and_none_comes_more_often_than_every_second() {
    let cases = [(90, 30), (9, 3), (1, 1), (0, 1), (-5, 1), (86_400, 30), (i64::MAX, 30)];
    for (ttl, expected) in cases {
        let mut schedule = schedule(30 * SECOND);
        schedule.replace(vec![Target { ttl: Ttl::from_seconds(ttl), ..target("a", "http://h/") }], NOW);
        let times = times(&mut schedule, NOW, NOW + 100 * SECOND, true);
        assert_eq!(times[1].abs_diff(times[0]), expected * SECOND, "a TTL of {ttl} s");
    }
}

#[test]
fn a_shorter_ttl_counts_from_now_on() {
    let mut schedule = schedule(600 * SECOND);
    let with_ttl = |ttl| Target { ttl: Ttl::from_seconds(ttl), ..target("a", "http://h/") };
    schedule.replace(vec![with_ttl(1_800)], NOW);
    schedule.set(with_ttl(6), NOW);
    let times = times(&mut schedule, NOW, NOW + 10 * SECOND, true);
    assert_eq!(times.len(), 5, "{times:?}");
}

#[test]
fn a_probe_has_ended_when_the_next_is_due() {
    let mut schedule = Schedule::new(30 * SECOND, Duration::MAX, 256);
    schedule.replace(vec![Target { ttl: Ttl::from_seconds(6), ..target("a", "http://h/") }], NOW);
    let due = schedule.next_due(Lane::Healthy).unwrap();
    assert_eq!(schedule.take(Lane::Healthy, due).unwrap().timeout, 2 * SECOND);
}

#[test]
fn no_setting_is_too_large_or_too_small() {
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let mut schedule = schedule(interval);
        schedule.replace(vec![Target { ttl: Ttl::from_seconds(i64::MAX), ..target("a", "http://h/") }], NOW);
        for _ in 0..5 {
            let due = schedule.next_due(Lane::Healthy).or(schedule.next_due(Lane::Failing)).unwrap();
            let job =
                schedule.take(Lane::Healthy, due).or_else(|| schedule.take(Lane::Failing, due)).unwrap();
            schedule.finish(job.id, false, due);
        }
    }
}
