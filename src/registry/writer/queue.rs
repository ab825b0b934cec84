//! What waits to be written, and in which order it goes. It knows nothing of tasks, the database or the clock.
//!
//! Each id has a line of its own. What is first in it is ready, or under way: no id is in two batches at once, whatever
//! is asked of it, or one of them would find the row locked by the other. Ids that are ready stand in the queue of their
//! class, so making a batch takes as long as the batch is, however many wait for one id.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::{Duration, Instant};

use super::line::{Line, Waiting};
use super::slot::{Class, Lane, Limits, Size, Slot};
use crate::node::NodeKey;

/// What has waited for so long is not tried any more: whoever asked for it has given up, or soon will.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// For so long an item waits for its turn on the side way.
pub(super) const PATIENCE_OF_THE_HELD: Duration = Duration::from_secs(2);

/// When many wait, the next may have waited for so long: a few times what a batch takes.
pub(super) const STANDING: Duration = Duration::from_millis(250);

/// Something to be done for an id.
pub(super) trait Item {
    fn class(&self) -> Class;
    /// How many callers wait for it.
    fn callers(&self) -> usize;
    /// What it weighs while it waits.
    fn bytes(&self) -> usize;
    /// Takes those who wait for the other: both are signs of life of one id.
    fn join(&mut self, other: Self);
}

/// Items of one class and of distinct ids.
pub(super) struct Batch<T> {
    pub(super) slot: Slot,
    pub(super) class: Class,
    pub(super) ids: Vec<NodeKey>,
    pub(super) items: Vec<T>,
}

/// Why an item was not tried, or not again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dropped {
    /// It has waited for too long.
    Late,
    /// Its row is held by another transaction.
    Held,
    /// The database was away when its turn could have come.
    Away,
}

/// An item on the side way. Its id counts as under way.
struct Held<T> {
    id: NodeKey,
    item: T,
    since: Instant,
}

/// An id whose first item may go, and since when, counted in turns.
struct Ready {
    id: NodeKey,
    turn: u64,
}

/// What waits.
pub(super) struct Queue<T> {
    limits: Limits,
    lines: HashMap<NodeKey, Line<T>>,
    ready: [VecDeque<Ready>; Class::COUNT],
    held: [VecDeque<Held<T>>; Class::COUNT],
    /// How much that is.
    held_size: Size,
    /// Callers who wait in line, by lane.
    waiting: [usize; Lane::COUNT],
    /// What they wait for weighs so much.
    bytes: [usize; Lane::COUNT],
    /// Batches that are under way.
    under_way: [usize; Slot::COUNT],
    /// Counts who became ready.
    turns: u64,
    /// Items that nobody will try, for the caller to answer.
    dropped: Vec<(T, Dropped)>,
}

impl<T: Item> Queue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: HashMap::new(),
            ready: Default::default(),
            held: Default::default(),
            held_size: Size { callers: 0, bytes: 0 },
            waiting: [0; Lane::COUNT],
            bytes: [0; Lane::COUNT],
            under_way: [0; Slot::COUNT],
            turns: 0,
            dropped: Vec::new(),
        }
    }

    /// Whether so much more may wait. Not if many do already, and whoever is next has waited for long: more comes than
    /// goes then, and to let in more would only make all wait longer. Who comes with many items is let in as soon as who
    /// comes with one: else those with few would always be faster.
    pub(super) fn has_room(&self, lane: Lane, callers: usize, bytes: usize, now: Instant) -> bool {
        let most = self.limits.waiting(lane);
        let waiting = self.waiting[lane as usize];
        waiting + callers <= most.callers
            && self.bytes[lane as usize] + bytes <= most.bytes
            && (waiting < self.limits.crowd(lane) || !self.stands(lane, now))
    }

    /// Whether the next of a lane has waited for long.
    fn stands(&self, lane: Lane, now: Instant) -> bool {
        let of_lane = Class::ALL.into_iter().filter(|class| class.lane() == lane);
        let next = |class: Class| self.lines.get(&self.ready[class as usize].front()?.id)?.first();
        let since = of_lane.filter_map(next).map(|next| next.since).min();
        since.is_some_and(|since| now.saturating_duration_since(since) > STANDING)
    }

    /// How many callers wait in line.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.waiting[lane as usize]
    }

    /// Whether not more than half of what may wait in any case does.
    pub(super) fn is_half_empty(&self, lane: Lane) -> bool {
        let most = self.limits.waiting(lane);
        let callers = most.callers.min(self.limits.crowd(lane));
        self.waiting[lane as usize] <= callers / 2 && self.bytes[lane as usize] <= most.bytes / 2
    }

    /// How many callers have their items on the side way, and wait for their turn there.
    pub(super) fn waiting_aside(&self) -> usize {
        self.held_size.callers
    }

    /// One more that waits. Whether there is room has been asked.
    pub(super) fn push(&mut self, id: NodeKey, item: T, now: Instant) {
        let lane = item.class().lane() as usize;
        self.waiting[lane] += item.callers();
        self.bytes[lane] += item.bytes();
        if let Some(line) = self.lines.get_mut(&id) {
            line.push(Waiting { item, since: now });
        } else {
            self.make_ready(id.clone(), item.class());
            self.lines.insert(id, Line::of(Waiting { item, since: now }));
        }
    }

    /// The next batch, if something is ready and a place is free for it.
    pub(super) fn start(&mut self, now: Instant) -> Option<Batch<T>> {
        for slot in Slot::ALL {
            while self.under_way[slot.index()] < self.limits.under_way
                && let Some(class) = self.longest_ready(slot)
            {
                let batch = if slot.aside { self.take_held(class, now) } else { self.take(class, now) };
                // All that seemed to be ready may have waited for too long.
                if !batch.items.is_empty() {
                    self.under_way[slot.index()] += 1;
                    return Some(batch);
                }
            }
        }
        None
    }

    /// A batch has ended. Its ids come with [`Queue::release`], or go aside.
    pub(super) fn ended(&mut self, slot: Slot) {
        self.under_way[slot.index()] -= 1;
    }

    /// Ids that are not under way any more.
    pub(super) fn release(&mut self, id: NodeKey) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.under_way = false;
        match line.first() {
            Some(first) => {
                let class = first.item.class();
                self.make_ready(id, class);
            }
            None => {
                self.lines.remove(&id);
            }
        }
    }

    /// An item whose row is held, to be tried again where it keeps nobody else waiting. Its id stays under way. If too
    /// many are there already, the item is dropped.
    pub(super) fn put_aside(&mut self, id: NodeKey, item: T, now: Instant) {
        let class = item.class();
        let size = Size {
            callers: self.held_size.callers + item.callers(),
            bytes: self.held_size.bytes + item.bytes(),
        };
        if size.callers <= self.limits.held.callers && size.bytes <= self.limits.held.bytes {
            self.held_size = size;
            self.held[class as usize].push_back(Held { id, item, since: now });
        } else {
            self.dropped.push((item, Dropped::Held));
            self.release(id);
        }
    }

    /// What waits for this id: its row is held, and was waited for long enough. That holds for those who have come
    /// meanwhile, too: with a wait of their own, they would wait for twice as long as is said.
    pub(super) fn drop_line(&mut self, id: &NodeKey) {
        if let Some(line) = self.lines.get_mut(id) {
            let waiting = line.take_all();
            self.drop_waiting(waiting, Dropped::Held);
        }
    }

    /// What has waited in a lane since before. It goes through all that waits: for times of trouble.
    pub(super) fn drop_older(&mut self, lane: Lane, before: Instant, why: Dropped) {
        let mut old = Vec::new();
        for line in self.lines.values_mut() {
            old.append(&mut line.older_than(before, |item| item.class().lane() == lane));
        }
        self.drop_waiting(old, why);
    }

    /// Drops what has waited for too long, when there is nothing that takes it out of the queue.
    pub(super) fn sweep(&mut self, now: Instant) {
        for lane in [Lane::Writes, Lane::Heartbeats] {
            if let Some(before) = now.checked_sub(PATIENCE) {
                self.drop_older(lane, before, Dropped::Late);
            }
        }
        for class in Class::ALL {
            while let Some(held) = self.held[class as usize].pop_front_if(|held| held.is_late(now)) {
                self.leave(&held.item);
                self.drop_held(held);
            }
        }
    }

    /// Items that nobody will try.
    pub(super) fn take_dropped(&mut self) -> Vec<(T, Dropped)> {
        mem::take(&mut self.dropped)
    }

    fn make_ready(&mut self, id: NodeKey, class: Class) {
        self.turns += 1;
        self.ready[class as usize].push_back(Ready { id, turn: self.turns });
    }

    /// Of the classes that may go there, the one whose first has been ready for longest.
    fn longest_ready(&self, slot: Slot) -> Option<Class> {
        let of_lane = Class::ALL.into_iter().filter(|class| class.lane() == slot.lane);
        if slot.aside {
            let first = |class: &Class| Some((self.held[*class as usize].front()?.since, *class));
            of_lane.filter_map(|class| first(&class)).min_by_key(|(since, _)| *since).map(|(_, class)| class)
        } else {
            let first = |class: &Class| Some((self.ready[*class as usize].front()?.turn, *class));
            of_lane.filter_map(|class| first(&class)).min_by_key(|(turn, _)| *turn).map(|(_, class)| class)
        }
    }

    fn take(&mut self, class: Class, now: Instant) -> Batch<T> {
        let most = self.limits.batch(class);
        let mut batch = Batch::new(Slot { lane: class.lane(), aside: false }, class);
        let mut bytes = 0;
        while batch.items.len() < most.callers
            && let Some(ready) = self.ready[class as usize].pop_front()
        {
            let Some(line) = self.lines.get_mut(&ready.id) else { continue };
            if line.first().is_some_and(|first| first.is_late(now)) {
                let late = now.checked_sub(PATIENCE).map(|before| line.older_than(before, |_| true));
                self.drop_waiting(late.unwrap_or_default(), Dropped::Late);
            }
            let Some(line) = self.lines.get_mut(&ready.id) else { continue };
            let Some(first) = line.first() else {
                self.lines.remove(&ready.id);
                continue;
            };
            if first.item.class() != class {
                // What was first when it became ready has been dropped.
                let class = first.item.class();
                self.make_ready(ready.id, class);
                continue;
            }
            if !batch.items.is_empty() && bytes + first.item.bytes() > most.bytes {
                self.ready[class as usize].push_front(ready);
                break;
            }
            if let Some(Waiting { item, .. }) = line.take() {
                bytes += item.bytes();
                self.forget(&item);
                batch.ids.push(ready.id);
                batch.items.push(item);
            }
        }
        batch
    }

    fn take_held(&mut self, class: Class, now: Instant) -> Batch<T> {
        let most = self.limits.batch(class);
        let mut batch = Batch::new(Slot { lane: class.lane(), aside: true }, class);
        let mut bytes = 0;
        while batch.items.len() < most.callers
            && let Some(held) = self.held[class as usize].pop_front()
        {
            if !held.is_late(now) && !batch.items.is_empty() && bytes + held.item.bytes() > most.bytes {
                self.held[class as usize].push_front(held);
                break;
            }
            self.leave(&held.item);
            if held.is_late(now) {
                self.drop_held(held);
            } else {
                bytes += held.item.bytes();
                batch.ids.push(held.id);
                batch.items.push(held.item);
            }
        }
        batch
    }

    /// It is on the side way no longer.
    fn leave(&mut self, item: &T) {
        self.held_size.callers -= item.callers();
        self.held_size.bytes -= item.bytes();
    }

    fn drop_held(&mut self, held: Held<T>) {
        self.drop_line(&held.id);
        self.dropped.push((held.item, Dropped::Held));
        self.release(held.id);
    }

    fn drop_waiting(&mut self, items: Vec<Waiting<T>>, why: Dropped) {
        for Waiting { item, .. } in items {
            self.forget(&item);
            self.dropped.push((item, why));
        }
    }

    fn forget(&mut self, item: &T) {
        let lane = item.class().lane() as usize;
        self.waiting[lane] -= item.callers();
        self.bytes[lane] -= item.bytes();
    }
}

impl<T> Batch<T> {
    fn new(slot: Slot, class: Class) -> Self {
        Self { slot, class, ids: Vec::new(), items: Vec::new() }
    }
}

impl<T> Held<T> {
    fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= PATIENCE_OF_THE_HELD
    }
}

#[cfg(test)]
mod tests;
