//! Which nodes: the parameters of discovery, as flags of the same names.

use clap::Args;

use super::object::{Entry, object};
use crate::cli::outcome::Usage;
use crate::client::Query;

/// As many as a page may have.
pub(in crate::cli) const PAGE: u64 = 1_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Which nodes")]
pub(in crate::cli) struct NodeFilters {
    /// Nodes of this type; repeated: of any of these
    #[arg(long, visible_alias = "type", value_name = "TYPE")]
    node_type: Vec<String>,
    /// The node with this id; repeated: any of these
    #[arg(long, visible_alias = "id", value_name = "ID")]
    node_id: Vec<String>,
    /// Nodes of exactly this version; repeated: of any of these
    #[arg(long, visible_alias = "version", value_name = "VERSION")]
    node_version: Vec<String>,
    /// Ids that begin with this
    #[arg(long, visible_alias = "prefix", value_name = "PREFIX")]
    node_id_prefix: Option<String>,
    /// healthy, stale, unknown or maintenance; repeated: any of these
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// What `capabilities` must contain: {…}, or name=text or name:=JSON, repeated
    #[arg(long, visible_alias = "capability", value_name = "JSON")]
    capabilities: Vec<Entry>,
    /// What `metadata` must contain: {…}, or name=text or name:=JSON, repeated
    #[arg(long, value_name = "JSON")]
    metadata: Vec<Entry>,
    /// A range of versions, such as '^1.2' or '>=1.0, <2.0'
    #[arg(long, value_name = "RANGE")]
    version_req: Option<String>,
}

impl NodeFilters {
    /// What the server is asked for. It knows what a value may be, and says what is wrong.
    pub(in crate::cli) fn query(&self) -> anyhow::Result<Query> {
        let mut query = Query::new();
        for (name, values) in [
            ("node_type", &self.node_type),
            ("node_id", &self.node_id),
            ("node_version", &self.node_version),
            ("status", &self.status),
        ] {
            for value in values {
                query.add(name, value);
            }
        }
        for (name, value) in [("node_id_prefix", &self.node_id_prefix), ("version_req", &self.version_req)] {
            if let Some(value) = value {
                query.add(name, value);
            }
        }
        for (name, flag, entries) in [
            ("capabilities", "--capabilities", &self.capabilities),
            ("metadata", "--metadata", &self.metadata),
        ] {
            if let Some(json) = object(flag, entries).map_err(Usage)? {
                query.add(name, json);
            }
        }
        Ok(query)
    }
}
