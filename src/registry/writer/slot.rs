//! Where batches go, how many at once, and how much may wait for them.

use crate::metrics::WriteLane;

/// What is written, by the call of the store that writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Register,
    Deregister,
    Maintain,
    Heartbeat,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Register, Self::Deregister, Self::Maintain, Self::Heartbeat];
    pub(super) const COUNT: usize = Self::ALL.len();

    pub(super) fn lane(self) -> Lane {
        match self {
            Self::Register | Self::Deregister | Self::Maintain => Lane::Writes,
            Self::Heartbeat => Lane::Heartbeats,
        }
    }
}

/// Signs of life have a lane of their own: a fleet that registers must not look dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Writes,
    Heartbeats,
}

impl Lane {
    pub(super) const COUNT: usize = 2;

    pub(super) fn label(self) -> WriteLane {
        match self {
            Self::Writes => WriteLane::Writes,
            Self::Heartbeats => WriteLane::Heartbeats,
        }
    }
}

/// A lane, or the side way beside it for items whose rows other transactions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) lane: Lane,
    pub(super) aside: bool,
}

impl Slot {
    pub(super) const ALL: [Self; 4] = [
        Self { lane: Lane::Writes, aside: false },
        Self { lane: Lane::Heartbeats, aside: false },
        Self { lane: Lane::Writes, aside: true },
        Self { lane: Lane::Heartbeats, aside: true },
    ];
    pub(super) const COUNT: usize = Self::ALL.len();

    pub(super) fn label(self) -> WriteLane {
        if self.aside { WriteLane::Held } else { self.lane.label() }
    }

    pub(super) fn index(self) -> usize {
        self.lane as usize * 2 + usize::from(self.aside)
    }
}

/// So many callers, and so much JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) callers: usize,
    pub(super) bytes: usize,
}

/// The bounds of the queue. What comes when it is full is refused at once ([`super::RegistryError::Busy`]), a request as a
/// whole; what waits already is not touched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Writes that wait.
    pub(super) writes: Size,
    /// Callers that wait for signs of life to be noted.
    pub(super) heartbeats: Size,
    /// Writes that may wait however long it takes: one of the largest requests.
    pub(super) crowd_of_writes: usize,
    /// The same for callers with signs of life.
    pub(super) crowd_of_heartbeats: usize,
    /// The largest batch of writes. One item may be larger.
    pub(super) write_batch: Size,
    /// The largest batch of signs of life.
    pub(super) heartbeat_batch: Size,
    /// Items that wait on the side way. What comes when it is full is answered as if it had been waited for.
    pub(super) held: Size,
    /// Batches under way, in each slot: while one commits, the next is written.
    pub(super) under_way: usize,
}

const MIB: usize = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            writes: Size { callers: 20_000, bytes: 64 * MIB },
            heartbeats: Size { callers: 100_000, bytes: 64 * MIB },
            crowd_of_writes: 1_000,
            crowd_of_heartbeats: 20_000,
            // Larger ones are hardly faster, and all in them wait for the last.
            write_batch: Size { callers: 500, bytes: 4 * MIB },
            heartbeat_batch: Size { callers: 5_000, bytes: 4 * MIB },
            held: Size { callers: 10_000, bytes: 64 * MIB },
            under_way: 2,
        }
    }
}

impl Limits {
    pub(super) fn waiting(&self, lane: Lane) -> Size {
        match lane {
            Lane::Writes => self.writes,
            Lane::Heartbeats => self.heartbeats,
        }
    }

    /// So many wait without having to go on at a certain pace.
    pub(super) fn crowd(&self, lane: Lane) -> usize {
        match lane {
            Lane::Writes => self.crowd_of_writes,
            Lane::Heartbeats => self.crowd_of_heartbeats,
        }
    }

    pub(super) fn batch(&self, class: Class) -> Size {
        match class.lane() {
            Lane::Writes => self.write_batch,
            Lane::Heartbeats => self.heartbeat_batch,
        }
    }
}
