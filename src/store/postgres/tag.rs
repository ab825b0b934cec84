//! What a store marks its rows of the journal of signs of life with, so that who follows them passes over his own.

use std::sync::{Arc, Mutex, PoisonError};

/// A mark that nobody else has. A batch whose answer was lost may have taken effect: its caller doesn't know, and so its
/// rows must not be passed over. From then on there is another mark, and all rows with the one before are like those of
/// others.
#[derive(Debug)]
pub(super) struct Tag(Mutex<Arc<str>>);

/// It is not known whether a batch takes effect, until it is said so. Whoever gives up on it drops this.
#[must_use]
pub(super) struct Doubt<'t>(Option<&'t Tag>);

impl Tag {
    pub(super) fn new() -> Self {
        Self(Mutex::new(random()))
    }

    /// What rows are marked with now.
    pub(super) fn now(&self) -> Arc<str> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A batch is about to be sent.
    pub(super) fn doubt(&self) -> Doubt<'_> {
        Doubt(Some(self))
    }
}

impl Doubt<'_> {
    /// Its answer has come.
    pub(super) fn dispel(mut self) {
        self.0 = None;
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(tag) = self.0 {
            *tag.0.lock().unwrap_or_else(PoisonError::into_inner) = random();
        }
    }
}

fn random() -> Arc<str> {
    uuid::Uuid::new_v4().to_string().into()
}
