//! Lines, put together for a request each.

use std::collections::HashSet;
use std::io::{self, BufRead};

use tokio::sync::mpsc::Sender;

use super::item::{self, Failure, Item};
use super::lines::{Lines, MAX_LINE_BYTES};

/// The most that a server takes at once.
const MAX_ITEMS: usize = 1_000;
/// A quarter of what a server takes: it has to arrive in time on a slow line, too.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Lines in the order of the file, good ones and bad ones.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) lines: Vec<(u64, Result<Item, Failure>)>,
    /// How much of the file it is, to where it ends.
    pub(super) bytes: u64,
    /// No id stands in it twice: what is sent again because of one must not undo the other.
    pub(super) ids: HashSet<String>,
    size: usize,
}

impl Batch {
    /// Whether this one has to be in another batch.
    fn has_no_room_for(&self, entry: &Result<Item, Failure>) -> bool {
        let Ok(item) = entry else { return self.lines.len() == MAX_ITEMS };
        self.lines.len() == MAX_ITEMS
            || self.size + item.json.get().len() > MAX_BYTES
            || item.id.as_ref().is_some_and(|id| self.ids.contains(id))
    }

    fn add(&mut self, line: u64, entry: Result<Item, Failure>) {
        if let Ok(item) = &entry {
            // And a comma.
            self.size += item.json.get().len() + 1;
            self.ids.extend(item.id.clone());
        }
        self.lines.push((line, entry));
    }
}

/// Reads to the end, or until nobody takes batches any more. It blocks: a thread of its own does this.
pub(super) fn read(reader: impl BufRead, batches: &Sender<io::Result<Batch>>) {
    let mut lines = Lines::new(reader, MAX_LINE_BYTES);
    let mut batch = Batch::default();
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error) => {
                // Nobody takes it: it is being ended already.
                let _ = batches.blocking_send(Ok(batch)).and_then(|()| batches.blocking_send(Err(error)));
                return;
            }
        };
        if let Some(entry) = item::read(&line) {
            if batch.has_no_room_for(&entry) && batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err()
            {
                return;
            }
            batch.add(line.number, entry);
        }
        batch.bytes += line.bytes;
    }
    let _ = batches.blocking_send(Ok(batch));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(file: &str) -> Vec<Batch> {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
        read(file.as_bytes(), &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).map(Result::unwrap).collect()
    }

    fn numbers(batches: &[Batch]) -> Vec<Vec<u64>> {
        batches.iter().map(|batch| batch.lines.iter().map(|(number, _)| *number).collect()).collect()
    }

    #[test]
    fn an_id_is_in_a_batch_once() {
        let file = "{\"node_id\":\"a\"}\n\nx\n{\"node_id\":\"b\"}\n{\"node_id\":\"a\"}\n{}\n{}\n";
        let batches = batches(file);
        assert_eq!(numbers(&batches), [vec![1, 3, 4], vec![5, 6, 7]]);
        assert_eq!(batches.iter().map(|batch| batch.bytes).sum::<u64>(), file.len() as u64);
    }

    #[test]
    fn a_batch_has_as_much_as_a_server_takes() {
        let sizes = |file: &str| batches(file).iter().map(|batch| batch.lines.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&"{}\n".repeat(2_500)), [1_000, 1_000, 500]);
        assert_eq!(sizes(&"x\n".repeat(1_001)), [1_000, 1]);
        let large = format!("{{\"a\":\"{}\"}}\n", "x".repeat(1_500_000));
        assert_eq!(sizes(&large.repeat(5)), [2, 2, 1]);
    }
}
