//! When which target is probed. Pure: time is passed in, as the time since the Unix epoch, and nothing is probed here.
//!
//! Each target has a rhythm: slots that are one interval apart, at a phase that comes from the hash of its id. So the
//! probes of a fleet are spread evenly over the interval without knowing of each other, and a replica that takes over
//! goes on at the same slots. After each probe the next slot is chosen; when that is late, slots are left out. A target
//! stands in at most one queue, once: there is nothing that could pile up.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::endpoint::Endpoint;
use super::{Lane, Target};
use crate::node::{NodeKey, Ttl};

/// Nothing is probed more often.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Longer than any TTL; and no arithmetic of times can overflow.
const MAX_INTERVAL: Duration = Duration::from_hours(24);
/// A new target is probed within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// The intervals between probes of a target that has failed once, twice, and ever since. The first failure doesn't count:
/// with an interval of a third of the TTL, one lost packet would make a node stale.
const BACKOFF: [u32; 3] = [1, 2, 4];

/// All targets, and when each is due.
pub(super) struct Schedule {
    interval: Duration,
    timeout: Duration,
    /// So many new targets are probed early. When more are new at once, they are probed in their rhythm, or they would
    /// all be probed at once.
    max_early: usize,
    early: usize,
    ids: HashMap<NodeKey, TargetId>,
    entries: HashMap<TargetId, Entry>,
    healthy: Queue,
    /// Have failed once, and go before those that go on failing: where hundreds hang, a node that was only restarted
    /// would else be stale before it is asked again.
    failed_once: Queue,
    failing: Queue,
    last_id: TargetId,
}

/// Who is due when.
type Queue = BTreeSet<(Duration, TargetId)>;

/// A node with one URL. With another URL it is another target, and what is known of the old one is forgotten.
pub(super) type TargetId = u64;

struct Entry {
    node: NodeKey,
    endpoint: Arc<Endpoint>,
    interval: Duration,
    /// In a row.
    failures: usize,
    progress: Progress,
    /// When it should have been probed, if slots have been left out since.
    overdue_since: Option<Duration>,
    /// It is new, and its first probe is not in its rhythm.
    early: bool,
}

#[derive(Clone, Copy)]
enum Progress {
    Waiting { due: Duration },
    UnderWay { begun: Duration },
}

/// A probe to begin now.
pub(super) struct Job {
    pub(super) id: TargetId,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) timeout: Duration,
    /// How long after its time it begins.
    pub(super) late: Duration,
}

impl Schedule {
    pub(super) fn new(interval: Duration, timeout: Duration, max_early: usize) -> Self {
        Self {
            interval: interval.clamp(MIN_INTERVAL, MAX_INTERVAL),
            timeout,
            max_early,
            early: 0,
            ids: HashMap::new(),
            entries: HashMap::new(),
            healthy: Queue::new(),
            failed_once: Queue::new(),
            failing: Queue::new(),
            last_id: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn knows(&self, id: TargetId) -> bool {
        self.entries.contains_key(&id)
    }

    /// These, and no others. What is known of those that stay is kept; the others begin in their rhythm.
    pub(super) fn replace(&mut self, targets: Vec<Target>, now: Duration) {
        let mut gone: HashSet<NodeKey> = self.ids.keys().cloned().collect();
        for target in targets {
            gone.remove(&target.node_id);
            self.put(target, now, false);
        }
        for node in gone {
            self.forget(&node);
        }
    }

    /// This one as well, or instead of what it was. If it is new, it is probed soon.
    pub(super) fn set(&mut self, target: Target, now: Duration) {
        self.put(target, now, true);
    }

    pub(super) fn forget(&mut self, node: &NodeKey) {
        let Some(id) = self.ids.remove(node) else { return };
        self.unqueue(id);
        if let Some(entry) = self.entries.remove(&id)
            && entry.early
        {
            self.early -= 1;
        }
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.entries.clear();
        self.healthy.clear();
        self.failed_once.clear();
        self.failing.clear();
        self.early = 0;
    }

    /// When the next probe of a lane is due.
    pub(super) fn next_due(&self, lane: Lane) -> Option<Duration> {
        self.firsts(lane).map(|(due, _)| due).min()
    }

    /// The next probe of a lane, if it is due.
    pub(super) fn take(&mut self, lane: Lane, now: Duration) -> Option<Job> {
        loop {
            let (due, id) = self.firsts(lane).find(|(due, _)| *due <= now)?;
            self.unqueue(id);
            let entry = self.entries.get_mut(&id)?;
            // After a pause of the whole process everything is due at once, and goes back to its slots. Only once: if it
            // is late again, there is more to do than can be done, and then it is its turn.
            if entry.overdue_since.is_none() && now.saturating_sub(due) >= entry.interval {
                entry.overdue_since = Some(due);
                let next = entry.slot_from(now);
                self.queue_at(id, next);
                continue;
            }
            let meant_for = entry.overdue_since.take().unwrap_or(due);
            entry.progress = Progress::UnderWay { begun: now };
            if std::mem::take(&mut entry.early) {
                self.early -= 1;
            }
            let timeout = self.timeout.min(entry.interval);
            return Some(Job {
                id,
                endpoint: Arc::clone(&entry.endpoint),
                timeout,
                late: now.saturating_sub(meant_for),
            });
        }
    }

    /// A probe has ended. Whose it was, if it is still a target.
    pub(super) fn finish(&mut self, id: TargetId, success: bool, now: Duration) -> Option<&NodeKey> {
        let entry = self.entries.get_mut(&id)?;
        let begun = match entry.progress {
            Progress::UnderWay { begun } => begun,
            Progress::Waiting { .. } => return None,
        };
        entry.failures = if success { 0 } else { entry.failures.saturating_add(1) };
        // Half an interval less, so that a probe that was a little late leads to the slot that was meant.
        let pause = (entry.interval * entry.backoff()).saturating_sub(entry.interval / 2);
        let next = entry.slot_from(now.max(begun + pause));
        self.queue_at(id, next);
        self.entries.get(&id).map(|entry| &entry.node)
    }

    fn put(&mut self, target: Target, now: Duration, soon: bool) {
        let Target { node_id, health_endpoint, ttl } = target;
        let interval = self.interval_for(ttl);
        let known = self.ids.get(&node_id).and_then(|id| Some((*id, self.entries.get_mut(id)?)));
        if let Some((id, entry)) = known.filter(|(_, entry)| entry.endpoint.url() == health_endpoint) {
            if entry.interval != interval {
                entry.interval = interval;
                if let Progress::Waiting { due } = entry.progress {
                    let next = due.min(entry.slot_from(now));
                    self.unqueue(id);
                    self.queue_at(id, next);
                }
            }
            return;
        }
        self.forget(&node_id);
        self.last_id += 1;
        let id = self.last_id;
        let early = soon && self.early < self.max_early;
        let mut entry = Entry {
            node: node_id.clone(),
            endpoint: Arc::new(Endpoint::new(health_endpoint)),
            interval,
            failures: 0,
            progress: Progress::Waiting { due: now },
            overdue_since: None,
            early,
        };
        let mut due = entry.slot_from(now);
        if early {
            due = due.min(now + part_of(FIRST_WITHIN, &entry.node));
            self.early += 1;
        }
        entry.progress = Progress::Waiting { due };
        self.ids.insert(node_id, id);
        self.entries.insert(id, entry);
        self.queue_at(id, due);
    }

    /// As configured, but three probes within the TTL.
    fn interval_for(&self, ttl: Ttl) -> Duration {
        let ttl = Duration::from_micros(u64::try_from(ttl.micros()).unwrap_or(0));
        self.interval.min(ttl / 3).max(MIN_INTERVAL)
    }

    /// The first of each queue of a lane, in the order in which the queues are served.
    fn firsts(&self, lane: Lane) -> impl Iterator<Item = (Duration, TargetId)> {
        let queues = match lane {
            Lane::Healthy => [Some(&self.healthy), None],
            Lane::Failing => [Some(&self.failed_once), Some(&self.failing)],
        };
        queues.into_iter().flatten().filter_map(|queue| queue.first().copied())
    }

    fn queue_of(&mut self, failures: usize) -> &mut Queue {
        match failures {
            0 => &mut self.healthy,
            1 => &mut self.failed_once,
            _ => &mut self.failing,
        }
    }

    fn queue_at(&mut self, id: TargetId, due: Duration) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.progress = Progress::Waiting { due };
        let failures = entry.failures;
        self.queue_of(failures).insert((due, id));
    }

    fn unqueue(&mut self, id: TargetId) {
        let Some(entry) = self.entries.get(&id) else { return };
        if let Progress::Waiting { due } = entry.progress {
            let failures = entry.failures;
            self.queue_of(failures).remove(&(due, id));
        }
    }
}

impl Entry {
    /// The first slot of its rhythm that is not before this time.
    fn slot_from(&self, time: Duration) -> Duration {
        let phase = part_of(self.interval, &self.node);
        let since = time.saturating_sub(phase).as_nanos();
        let slots = since.div_ceil(self.interval.as_nanos());
        // Fits as long as the time fits.
        let nanos = slots.saturating_mul(self.interval.as_nanos());
        phase + Duration::from_nanos_u128(nanos)
    }

    fn backoff(&self) -> u32 {
        match self.failures {
            0 => 1,
            failures => BACKOFF.get(failures - 1).copied().unwrap_or(BACKOFF[BACKOFF.len() - 1]),
        }
    }
}

/// The part of a span that falls to a node, the same on every replica.
fn part_of(span: Duration, node: &NodeKey) -> Duration {
    let hash = u128::from(xxh3_64(node.as_str().as_bytes()));
    // hash / 2^64 of it. Spans are hours, not centuries: in nanoseconds they have less than 64 bits.
    Duration::from_nanos_u128((span.as_nanos() * hash) >> 64)
}
