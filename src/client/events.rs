//! The audit trail, page by page.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::ClientError;
use super::query::Query;
use super::{Call, Client};

/// One change.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "they are the fields of the event")]
pub struct Event {
    /// The JSON, byte for byte.
    pub raw: Box<RawValue>,
    pub revision: i64,
    pub node_id: String,
    pub kind: String,
    pub changed: Vec<String>,
    pub actor: String,
    pub correlation_id: Option<String>,
    pub occurred_at: String,
}

#[derive(Deserialize)]
struct Fields {
    revision: i64,
    node_id: String,
    kind: String,
    changed: Vec<String>,
    actor: String,
    correlation_id: Option<String>,
    occurred_at: String,
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let fields: Fields = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let Fields { revision, node_id, kind, changed, actor, correlation_id, occurred_at } = fields;
        Ok(Self { raw, revision, node_id, kind, changed, actor, correlation_id, occurred_at })
    }
}

/// A page of events.
#[derive(Debug, Clone, Deserialize)]
pub struct EventPage {
    /// The events, in the order of their revisions.
    pub events: Vec<Event>,
    /// The log was looked through up to here.
    pub next_after: i64,
}

/// The pages of the audit trail. It has no end: after the last page that there is now, the next may have news.
#[derive(Debug)]
pub struct EventPages<'c> {
    client: &'c Client,
    query: Query,
    seen: Option<i64>,
}

impl Client {
    /// `GET /v1/events`, all pages. `query`: `after`, `node_id`, `kind`, `limit` (of a page).
    #[must_use]
    pub fn events(&self, query: Query) -> EventPages<'_> {
        let seen = query.get("after").and_then(|text| text.parse().ok());
        EventPages { client: self, query, seen }
    }
}

impl EventPages<'_> {
    /// The next page; `None` if the log was looked through to its end. Then it may be asked again.
    ///
    /// # Errors
    /// See [`ClientError`]; 410 if what comes next was deleted, or the database was restored.
    pub async fn next(&mut self) -> Result<Option<EventPage>, ClientError> {
        let page: EventPage = self.client.read(Call::get(self.query.after("/v1/events"))).await?;
        // A page without events may have looked at many that were not asked for.
        if page.events.is_empty() && self.seen == Some(page.next_after) {
            return Ok(None);
        }
        if self.seen.is_some_and(|seen| page.next_after <= seen) {
            return Err(self.client.not_a_registry("its pages have no end".to_owned()));
        }
        self.seen = Some(page.next_after);
        self.query.set("after", page.next_after.to_string());
        Ok(Some(page))
    }
}
