//! Answers to questions that are asked again before anything has changed.
//!
//! Services ask the same few questions, thousands of times a second. The text of the query string leads to the answer,
//! as long as the catalog is of the edition that the answer was made of: it says nothing that would not be said again,
//! to the byte.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use xxhash_rust::xxh3::xxh3_64;

use super::headers;
use crate::registry::Edition;

/// So many answers are kept at the most. Two questions that lead to the same place take turns in it.
const PLACES: usize = 512;
/// Longer questions are asked by programs that go through the whole fleet: not again soon.
const LONGEST_QUESTION: usize = 1024;
/// Of larger answers, making them is not what costs.
const LARGEST_ANSWER: usize = 32 * 1024;

/// The page that a query string leads to.
pub(super) struct Answer {
    pub(super) body: Bytes,
    pub(super) tag: HeaderValue,
    pub(super) revision: HeaderValue,
}

impl Answer {
    pub(super) fn response(&self) -> Response {
        let mut response = headers::tagged_json(StatusCode::OK, self.tag.clone(), self.body.clone());
        response.headers_mut().insert(headers::REGISTRY_REVISION, self.revision.clone());
        response
    }
}

/// The answers that were given last.
pub(super) struct Answers(Box<[ArcSwapOption<Kept>]>);

struct Kept {
    question: Box<str>,
    edition: Edition,
    answer: Arc<Answer>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| ArcSwapOption::empty()).collect())
    }

    /// What was answered in this edition.
    pub(super) fn get(&self, question: &str, edition: Edition) -> Option<Arc<Answer>> {
        let kept = self.place(question)?.load();
        let kept = kept.as_ref().filter(|kept| kept.edition == edition && *kept.question == *question)?;
        Some(Arc::clone(&kept.answer))
    }

    /// Keeps what was answered, in place of another.
    pub(super) fn keep(&self, question: &str, edition: Edition, answer: &Arc<Answer>) {
        if question.len() > LONGEST_QUESTION || answer.body.len() > LARGEST_ANSWER {
            return;
        }
        if let Some(place) = self.place(question) {
            let answer = Arc::clone(answer);
            place.store(Some(Arc::new(Kept { question: question.into(), edition, answer })));
        }
    }

    fn place(&self, question: &str) -> Option<&ArcSwapOption<Kept>> {
        let hash = usize::try_from(xxh3_64(question.as_bytes()) % PLACES as u64).ok()?;
        self.0.get(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Arc<Answer> {
        let value = HeaderValue::from_static("\"t\"");
        Arc::new(Answer { body: Bytes::from_static(text.as_bytes()), tag: value.clone(), revision: value })
    }

    #[test]
    fn an_answer_is_of_its_question_and_its_edition() {
        let [first, second] = [0, 2].map(Edition::for_test);
        let answers = Answers::new();
        answers.keep("limit=1", first, &answer("one"));
        let kept = |question, edition| answers.get(question, edition).map(|answer| answer.body.clone());
        assert_eq!(kept("limit=1", first).as_deref(), Some(&b"one"[..]));
        assert_eq!(kept("limit=1", second), None);
        assert_eq!(kept("limit=2", first), None);
        assert_eq!(kept("", first), None);
    }

    #[test]
    fn questions_that_lead_to_one_place_take_turns() {
        let edition = Edition::for_test(0);
        let answers = Answers::new();
        let questions: Vec<String> = (0..10 * PLACES).map(|n| format!("limit={n}")).collect();
        for question in &questions {
            answers.keep(question, edition, &answer("one"));
            assert!(answers.get(question, edition).is_some(), "{question}");
        }
        let kept = questions.iter().filter(|question| answers.get(question, edition).is_some()).count();
        assert!(kept <= PLACES, "{kept}");
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let edition = Edition::for_test(0);
        let answers = Answers::new();
        let long = "x".repeat(LONGEST_QUESTION + 1);
        answers.keep(&long, edition, &answer("one"));
        assert!(answers.get(&long, edition).is_none());
        let body = Bytes::from(vec![b'x'; LARGEST_ANSWER + 1]);
        let value = HeaderValue::from_static("1");
        answers.keep("", edition, &Arc::new(Answer { body, tag: value.clone(), revision: value }));
        assert!(answers.get("", edition).is_none());
    }
}
