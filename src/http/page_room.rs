//! Pages that are being sent: how much memory they may take, all together.
//!
//! A page has some megabytes at the most, and a client may ask for many of them at once and read none. Each connection
//! is given up soon that takes nothing; until then what was made for it stays in memory.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// So many bytes of pages are held at once. Who comes when there is no more room is told to come again.
const MAX_BYTES_AT_ONCE: usize = 256 * 1024 * 1024;
/// Smaller ones are not counted: what a connection takes besides is about as much.
const SMALL: usize = 8 * 1024;

/// The room for pages that there is left.
#[derive(Debug, Clone)]
pub(super) struct PageRoom(Arc<Semaphore>);

/// A page, and the room that it takes until the last copy of it is gone.
struct Held {
    page: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl PageRoom {
    pub(super) fn new() -> Self {
        Self::of(MAX_BYTES_AT_ONCE)
    }

    fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// A page to be sent.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn hold(&self, page: Vec<u8>) -> Result<Bytes, Problem> {
        if page.len() <= SMALL {
            return Ok(Bytes::from(page));
        }
        let wanted = u32::try_from(page.capacity()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).try_acquire_many_owned(wanted);
        let room = room.map_err(|_| Problem::too_many_pages())?;
        Ok(Bytes::from_owner(Held { page, _room: room }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_take_room_until_the_last_copy_is_gone() {
        let room = PageRoom::of(3 * SMALL);
        let page = || vec![b'x'; SMALL + 1];
        let first = room.hold(page()).unwrap();
        let copy = first.slice(1..);
        let second = room.hold(page()).unwrap();
        assert!(room.hold(page()).is_err(), "there is no room for a third");
        assert_eq!(room.hold(vec![b'x'; SMALL]).unwrap().len(), SMALL, "but for small ones");
        drop(first);
        assert!(room.hold(page()).is_err(), "a part of it is still being sent");
        drop(copy);
        assert_eq!(room.hold(page()).unwrap().len(), SMALL + 1);
        drop(second);
    }
}
