//! The line of those who wait for one id.

use std::collections::VecDeque;
use std::time::Instant;

use super::queue::{Item, PATIENCE};
use super::slot::Class;

/// An item, and since when it waits.
pub(super) struct Waiting<T> {
    pub(super) item: T,
    pub(super) since: Instant,
}

/// Those who wait for one id, in the order in which they came; but a sign of life waits for one write at the most, and a
/// write for one sign of life.
///
/// Of signs of life there is one: who comes while it waits joins it. It stands first or second.
pub(super) struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Whether something of this id is in a batch, or on the side way. Else the id is in the queue of those that are
    /// ready, once.
    pub(super) under_way: bool,
}

impl<T: Item> Line<T> {
    /// A line that begins with this.
    pub(super) fn of(first: Waiting<T>) -> Self {
        let mut waiting = VecDeque::with_capacity(1);
        waiting.push_back(first);
        Self { waiting, under_way: false }
    }

    pub(super) fn push(&mut self, new: Waiting<T>) {
        if new.item.class() != Class::Heartbeat {
            self.waiting.push_back(new);
            return;
        }
        match self.waiting.iter_mut().take(2).find(|other| other.item.class() == Class::Heartbeat) {
            Some(other) => other.item.join(new.item),
            None => self.waiting.insert(self.waiting.len().min(1), new),
        }
    }

    pub(super) fn first(&self) -> Option<&Waiting<T>> {
        self.waiting.front()
    }

    /// The first goes.
    pub(super) fn take(&mut self) -> Option<Waiting<T>> {
        self.under_way = true;
        self.waiting.pop_front()
    }

    /// Removes those that wait.
    pub(super) fn take_all(&mut self) -> Vec<Waiting<T>> {
        self.waiting.drain(..).collect()
    }

    /// Removes those that came before, if they are meant.
    pub(super) fn older_than(&mut self, before: Instant, meant: impl Fn(&T) -> bool) -> Vec<Waiting<T>> {
        let is_old = |waiting: &Waiting<T>| waiting.since <= before && meant(&waiting.item);
        if !self.waiting.iter().any(is_old) {
            return Vec::new();
        }
        let (mut old, mut kept) = (Vec::new(), VecDeque::new());
        for waiting in self.waiting.drain(..) {
            if is_old(&waiting) { old.push(waiting) } else { kept.push_back(waiting) }
        }
        self.waiting = kept;
        old
    }
}

impl<T> Waiting<T> {
    pub(super) fn is_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= PATIENCE
    }
}
