//! A read from memory is fresh, or says that it isn't.

use super::{Asked, Kind};

/// After three seconds in which it was not known what the table has, answers say so. And a busy machine may be late.
const FRESH: u64 = 4_500_000;

/// What is wrong with reads from memory. Of writes that were acknowledged: when that was, and with which revision.
pub(crate) fn freshness(asked: &[Asked], acknowledged: &[(u64, i64)]) -> Vec<String> {
    let mut known: Vec<(u64, i64)> = acknowledged.to_vec();
    known.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut known {
        highest = highest.max(*revision);
        *revision = highest;
    }
    let mut wrong = Vec::new();
    for request in asked.iter().filter(|request| request.kind == Kind::Read) {
        let Some(answer) = request.answer().filter(|answer| !answer.is_stale) else { continue };
        let (Some(seen), Some(long_ago)) = (answer.seen, request.began.checked_sub(FRESH)) else { continue };
        let earlier = known.partition_point(|(ended, _)| *ended < long_ago);
        let has_to_be_seen = earlier.checked_sub(1).map_or(0, |last| known[last].1);
        if seen < has_to_be_seen {
            wrong.push(format!(
                "a read doesn't show what was acknowledged long ago ({has_to_be_seen}), and doesn't say that it is \
                 stale: {request:?}"
            ));
        }
    }
    wrong
}
