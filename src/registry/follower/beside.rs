//! Takes the records of a load beside the reading of them: each is about half of the work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use crate::node::NodeRecord;
use crate::registry::RegistryError;
use crate::registry::catalog::Records;

/// So many records are taken at a time.
const TOGETHER: usize = 16;
/// So many times that many may wait. Who reads helps when there are more, and waits for those at the most: it does so on a
/// thread of the runtime, and all of them take less than a millisecond. And the table may be larger than what we want to
/// hold twice.
const MOST_WAITING: usize = 4;

/// Records that are taken on a thread of their own.
pub(super) struct Beside {
    shared: Arc<Shared>,
    next: Vec<NodeRecord>,
    waiting: SyncSender<Vec<NodeRecord>>,
    taking: JoinHandle<()>,
}

struct Shared {
    /// A std mutex: it is held while some are taken, and never over an await.
    records: Mutex<Records>,
    /// None is missing. If the reading was given up, what was taken is of no use.
    are_all: AtomicBool,
}

impl Beside {
    pub(super) fn begin(records: Records) -> Self {
        let shared = Arc::new(Shared { records: Mutex::new(records), are_all: AtomicBool::new(false) });
        let (waiting, come) = sync_channel(MOST_WAITING);
        let theirs = Arc::clone(&shared);
        let taking = tokio::task::spawn_blocking(move || {
            for records in come {
                theirs.take(records);
            }
            if theirs.are_all.load(Ordering::Acquire) {
                theirs.lock().end();
            }
        });
        Self { shared, next: Vec::with_capacity(TOGETHER), waiting, taking }
    }

    /// The next record.
    pub(super) fn take(&mut self, record: NodeRecord) {
        self.next.push(record);
        if self.next.len() == TOGETHER {
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        let records = std::mem::replace(&mut self.next, Vec::with_capacity(TOGETHER));
        match self.waiting.try_send(records) {
            Ok(()) => {}
            Err(TrySendError::Full(records) | TrySendError::Disconnected(records)) => {
                self.shared.take(records);
            }
        }
    }

    /// All records have come. Waits until they have been taken.
    pub(super) async fn end(mut self) -> Result<Records, RegistryError> {
        self.pass_on();
        let Self { shared, waiting, taking, .. } = self;
        shared.are_all.store(true, Ordering::Release);
        drop(waiting);
        // An error: the taking panicked, or the runtime ends.
        taking.await.map_err(|_| RegistryError::Interrupted)?;
        // Nobody else has it any more.
        let shared = Arc::into_inner(shared).ok_or(RegistryError::Interrupted)?;
        Ok(shared.records.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    fn take(&self, records: Vec<NodeRecord>) {
        let mut taken = self.lock();
        for record in records {
            taken.take(record);
        }
    }

    /// If a panic has left them half changed, nobody gets them.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::node::{Horizon, Timestamp, Ttl};
    use crate::registry::catalog::Catalog;
    use crate::registry::catalog::tests::record;
    use crate::store::{Loaded, Position};

    #[tokio::test]
    async fn what_is_taken_beside_the_reading_is_all_of_it_also_where_who_reads_has_to_help() {
        const BEFORE_IT_IS_FULL: usize = TOGETHER * MOST_WAITING;
        const ALL: usize = 1_000;
        let catalog = Catalog::new(Ttl::from_seconds(90));
        let (lent, records) = catalog.load().lend();
        let mut beside = Beside::begin(records);
        // As long as somebody has the lock, nothing is taken.
        let shared = Arc::clone(&beside.shared);
        let (has_it, is_held) = channel();
        let (let_go, is_let_go) = channel::<()>();
        let holder = std::thread::spawn(move || {
            let _lock = shared.lock();
            has_it.send(()).unwrap();
            is_let_go.recv().ok();
        });
        is_held.recv().unwrap();
        (0..BEFORE_IT_IS_FULL).for_each(|n| beside.take(record(&format!("n{n}"), 1)));
        drop(let_go);
        (BEFORE_IT_IS_FULL..ALL).for_each(|n| beside.take(record(&format!("n{n}"), 1)));
        holder.join().unwrap();
        let loading = lent.give_back(beside.end().await.unwrap());
        let horizon = Horizon::at(Timestamp::from_unix_micros(0));
        loading.finish(&Loaded { position: Position::default(), horizon }).unwrap();
        let fleet = catalog.fleet().unwrap();
        assert_eq!(fleet.len(), 1_000);
        assert!((0..ALL).all(|n| fleet.get(&record(&format!("n{n}"), 1).node_id).is_some()));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nobody_who_takes() {
        let catalog = Catalog::new(Ttl::from_seconds(90));
        let (_lent, records) = catalog.load().lend();
        let mut beside = Beside::begin(records);
        (0..100).for_each(|n| beside.take(record(&format!("n{n}"), 1)));
        let shared = Arc::downgrade(&beside.shared);
        drop(beside);
        let gone = async {
            while shared.upgrade().is_some() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_mins(1), gone)
            .await
            .expect("nobody has them any more");
    }
}
