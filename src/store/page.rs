//! Pages: how many records one takes. The stores and the catalog cut them at the same places.

use crate::node::NodeRecord;

/// Some records in the order of their ids.
#[derive(Debug, Clone)]
pub struct Page {
    /// The records.
    pub records: Vec<NodeRecord>,
    /// Whether more follow.
    pub more: bool,
}

/// The largest page, in bytes of JSON. A record larger than that has a page for itself.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How much of a page is taken up, in records and bytes.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    records: usize,
    bytes: usize,
    full: bool,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, records: 0, bytes: 0, full: false }
    }

    /// Makes room for the next record. If there is none, the page is full, and that record belongs to the next one.
    pub(crate) fn take(&mut self, rendered_bytes: usize) -> bool {
        let bytes = self.bytes + rendered_bytes;
        if self.full || self.records == self.limit || (bytes > MAX_PAGE_BYTES && self.records > 0) {
            self.full = true;
            return false;
        }
        self.bytes = bytes;
        self.records += 1;
        true
    }

    /// Whether it is known that more follow: nothing further is needed.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }
}

/// Collects a page.
pub(super) struct PageBuilder {
    /// What it has until now.
    pub(super) records: Vec<NodeRecord>,
    room: Room,
}

impl PageBuilder {
    pub(super) fn new(limit: usize) -> Self {
        Self { records: Vec::new(), room: Room::new(limit) }
    }

    /// Takes the next record, unless the page is full; then it only notes that more follow.
    pub(super) fn push(&mut self, record: NodeRecord) {
        if self.room.take(rendered_bytes(&record)) {
            self.records.push(record);
        }
    }

    /// Whether it is known that more follow: nothing further is needed.
    pub(super) fn is_full(&self) -> bool {
        self.room.is_full()
    }

    pub(super) fn finish(self) -> Page {
        Page { records: self.records, more: self.room.is_full() }
    }
}

/// At most so many bytes does a record have in an answer.
pub(crate) fn rendered_bytes(record: &NodeRecord) -> usize {
    // Names of the fields, times, numbers.
    const FRAME: usize = 512;
    // A control character takes six bytes in JSON.
    const ESCAPED: usize = 6;
    let json = [&record.capabilities, &record.endpoints, &record.metadata];
    let strings = [
        Some(record.node_id.as_str()),
        Some(record.node_type.as_str()),
        Some(record.node_version.as_str()),
        record.health_endpoint.as_deref(),
        record.maintenance.as_deref(),
    ];
    FRAME
        + json.iter().map(|json| json.as_str().len()).sum::<usize>()
        + strings.iter().flatten().map(|text| text.len() * ESCAPED).sum::<usize>()
}
