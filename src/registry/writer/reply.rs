//! How callers get their results.

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::Either;
use tokio::sync::oneshot;

use crate::registry::RegistryError;

/// The result of an item.
type Answer<T> = Result<T, RegistryError>;

/// Where the result of an item goes. One that is dropped says that the item was interrupted: no caller waits in vain,
/// whatever happens to the batch.
pub(super) struct Reply<T>(To<T>);

enum To<T> {
    /// To the caller.
    One(oneshot::Sender<Answer<T>>),
    /// To a request with many items, at this position.
    Of(Arc<Request<T>>, usize),
    /// It has been sent.
    Sent,
}

impl<T> Reply<T> {
    /// The reply to one item, and how it is waited for.
    pub(super) fn one() -> (Self, impl Future<Output = Answer<T>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(To::One(sender)), async { receiver.await.unwrap_or(Err(RegistryError::Interrupted)) })
    }

    /// The replies to the items of a request, and how they are waited for all together.
    pub(super) fn many(items: usize) -> (Vec<Self>, impl Future<Output = Vec<Answer<T>>>) {
        if items == 0 {
            return (Vec::new(), Either::Left(ready(Vec::new())));
        }
        let (done, receiver) = oneshot::channel();
        let unknown = (0..items).map(|_| Err(RegistryError::Interrupted)).collect();
        let request =
            Arc::new(Request(Mutex::new(Results { items: unknown, left: items, done: Some(done) })));
        let replies = (0..items).map(|position| Self(To::Of(Arc::clone(&request), position))).collect();
        // The last reply to be sent or dropped sends all of them.
        (replies, Either::Right(async { receiver.await.unwrap_or_default() }))
    }

    /// Sends the result. Returns whether somebody is woken by that: nobody may be waiting any more, or for more than this.
    pub(super) fn send(mut self, answer: Answer<T>) -> bool {
        match std::mem::replace(&mut self.0, To::Sent) {
            To::One(sender) => sender.send(answer).is_ok(),
            To::Of(request, position) => request.settle(position, Some(answer)),
            To::Sent => false,
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let To::Of(request, position) = &self.0 {
            let _is_woken = request.settle(*position, None);
        }
    }
}

/// The results of a request with many items, as they come. A lock for an assignment, never held over an await.
struct Request<T>(Mutex<Results<T>>);

struct Results<T> {
    items: Vec<Answer<T>>,
    /// So many are not known yet.
    left: usize,
    /// Who waits for them.
    done: Option<oneshot::Sender<Vec<Answer<T>>>>,
}

impl<T> Request<T> {
    /// Whether that was all, and somebody waits for it.
    fn settle(&self, position: usize, answer: Option<Answer<T>>) -> bool {
        let mut results = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer
            && let Some(result) = results.items.get_mut(position)
        {
            *result = answer;
        }
        results.left -= 1;
        if results.left == 0
            && let Some(done) = results.done.take()
        {
            let all = std::mem::take(&mut results.items);
            drop(results);
            // Whoever waited may have hung up.
            return done.send(all).is_ok();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_answered_when_its_last_item_is() {
        let (mut replies, answer) = Reply::many(3);
        replies.remove(1).send(Ok("b"));
        replies.remove(0).send(Err(RegistryError::NotFound));
        let mut answer = Box::pin(answer);
        assert!(futures_util::poll!(&mut answer).is_pending());
        // The last is forgotten.
        drop(replies);
        let answers = answer.await;
        assert!(matches!(
            answers[..],
            [Err(RegistryError::NotFound), Ok("b"), Err(RegistryError::Interrupted)]
        ));
        assert!(Reply::<()>::many(0).1.await.is_empty());
    }

    #[tokio::test]
    async fn an_item_that_is_forgotten_was_interrupted() {
        let (reply, answer) = Reply::<()>::one();
        drop(reply);
        assert!(matches!(answer.await, Err(RegistryError::Interrupted)));
        let (reply, answer) = Reply::one();
        drop(answer);
        reply.send(Ok(()));
    }
}
