//! How fresh an answer has to be, as flags.

use clap::Args;

use crate::client::Query;

#[derive(Debug, Args)]
pub(in crate::cli) struct Freshness {
    /// `strong`: answered by the database, and not from memory
    #[arg(long, value_name = "CONSISTENCY")]
    consistency: Option<String>,
    /// Wait until the server has seen this revision
    #[arg(long, value_name = "REVISION")]
    min_revision: Option<String>,
}

impl Freshness {
    pub(in crate::cli) fn add_to(&self, query: &mut Query) {
        for (name, value) in [("consistency", &self.consistency), ("min_revision", &self.min_revision)] {
            if let Some(value) = value {
                query.add(name, value);
            }
        }
    }
}
