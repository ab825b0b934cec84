//! Discovery, page by page: none is asked for before it is wanted, and none is kept.

use serde::Deserialize;

use super::error::ClientError;
use super::nodes::Node;
use super::query::Query;
use super::{Call, Client};

/// A page of nodes.
#[derive(Debug, Clone, Deserialize)]
pub struct NodePage {
    /// The nodes, in the order of their ids.
    pub nodes: Vec<Node>,
    /// All changes up to this one are in the page.
    pub revision: i64,
    /// There is more after it, if it has one.
    pub next_cursor: Option<String>,
}

/// The pages of a list.
#[derive(Debug)]
pub struct NodePages<'c> {
    client: &'c Client,
    query: Query,
    is_at_end: bool,
}

impl Client {
    /// `GET /v1/nodes`, all pages. `query`: the filters, `limit` (of a page), `consistency`, `min_revision`.
    #[must_use]
    pub fn nodes(&self, query: Query) -> NodePages<'_> {
        NodePages { client: self, query, is_at_end: false }
    }
}

impl NodePages<'_> {
    /// The next page; `None` after the last one. A page may be empty.
    ///
    /// # Errors
    /// See [`ClientError`]. Asked again, it asks for the same page.
    pub async fn next(&mut self) -> Result<Option<NodePage>, ClientError> {
        if self.is_at_end {
            return Ok(None);
        }
        let page: NodePage = self.client.read(Call::get(self.query.after("/v1/nodes"))).await?;
        match &page.next_cursor {
            // Who sends the same cursor again would be asked for ever.
            Some(cursor) if self.query.get("cursor") == Some(cursor) => {
                return Err(self.client.not_a_registry("its pages have no end".to_owned()));
            }
            Some(cursor) => self.query.set("cursor", cursor.clone()),
            None => self.is_at_end = true,
        }
        Ok(Some(page))
    }
}
