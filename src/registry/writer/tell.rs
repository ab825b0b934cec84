//! Answering those who wait. Each who is woken has an answer to send, and who reads meanwhile is not to wait for all of
//! them: a few are woken at a time. There are no more of them than there are requests in flight.

use std::sync::Arc;

use super::Writer;
use super::reply::Reply;
use super::work::Work;
use crate::going::Turns;
use crate::registry::RegistryError;

/// Something to be told.
pub(super) trait Tell: Send + 'static {
    /// Tells it. Returns how many have been woken by that.
    fn tell(self) -> usize;
}

impl<A: Send + 'static> Tell for (Reply<A>, Result<A, RegistryError>) {
    fn tell(self) -> usize {
        usize::from(self.0.send(self.1))
    }
}

/// That something won't be done.
impl Tell for (Work, RegistryError) {
    fn tell(self) -> usize {
        self.0.refuse(self.1)
    }
}

impl Writer {
    /// Tells all of it. If it is much, it is not waited for.
    pub(super) fn tell_all<T: Tell>(self: &Arc<Self>, all: Vec<T>) {
        if all.len() <= Turns::STEPS {
            for one in all {
                one.tell();
            }
            return;
        }
        self.tasks.spawn(async move {
            let mut turns = Turns::default();
            for one in all {
                turns.steps(one.tell()).await;
            }
        });
    }
}
