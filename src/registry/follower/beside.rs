//! Takes the records of a load beside the reading of them: each is about half of the work.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use crate::node::NodeRecord;
use crate::registry::RegistryError;
use crate::registry::catalog::Records;

/// So many records are taken at a time.
const TOGETHER: usize = 32;
/// So many times that many may wait: the table may be larger than what we want to hold twice.
const MOST_WAITING: usize = 16;

/// Records that are taken on a thread of their own.
pub(super) struct Beside {
    /// A std mutex: it is held while some are taken, which is less than a millisecond, and never over an await.
    records: Arc<Mutex<Records>>,
    next: Vec<NodeRecord>,
    waiting: SyncSender<Vec<NodeRecord>>,
    taking: JoinHandle<()>,
}

impl Beside {
    pub(super) fn begin(records: Records) -> Self {
        let records = Arc::new(Mutex::new(records));
        let (waiting, come) = sync_channel(MOST_WAITING);
        let theirs = Arc::clone(&records);
        let taking = tokio::task::spawn_blocking(move || {
            for records in come {
                take(&theirs, records);
            }
            lock(&theirs).end();
        });
        Self { records, next: Vec::with_capacity(TOGETHER), waiting, taking }
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
            // Whoever reads is quicker, and helps.
            Err(TrySendError::Full(records) | TrySendError::Disconnected(records)) => {
                take(&self.records, records);
            }
        }
    }

    /// All records have come. Waits until they have been taken.
    pub(super) async fn end(mut self) -> Result<Records, RegistryError> {
        self.pass_on();
        let Self { records, waiting, taking, .. } = self;
        drop(waiting);
        // It panics, or the program ends.
        taking.await.map_err(|_| RegistryError::Interrupted)?;
        // Nobody else has it any more.
        let records = Arc::into_inner(records).ok_or(RegistryError::Interrupted)?;
        Ok(records.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

fn take(taken: &Mutex<Records>, records: Vec<NodeRecord>) {
    let mut taken = lock(taken);
    for record in records {
        taken.take(record);
    }
}

/// If a panic has left them half changed, nobody gets them.
fn lock(records: &Mutex<Records>) -> MutexGuard<'_, Records> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}
