//! The vocabulary: what a node, a registration, a record, a query and an event are, and which of them are valid.
//!
//! Nothing here does I/O or is async, or knows of SQL, or more of HTTP than where a fault can stand. What exists is valid: every type is made by a parser
//! that says all that is wrong, and the other rooms never check again.

pub mod containment;
pub mod cursor;
pub mod decimal;
pub mod event;
pub mod event_query;
pub mod fault;
pub mod horizon;
pub mod id;
pub mod json;
pub mod maintenance;
pub mod query;
pub mod record;
pub mod registration;
pub mod revision;
pub mod shown;
pub mod summary;
pub mod text;
pub mod timestamp;

pub use cursor::Cursor;
pub use event::{Actor, Event, EventKind, Origin};
pub use event_query::EventQuery;
pub use fault::{Fault, Faults, Place};
pub use horizon::{Availability, Horizon, Outage};
pub use id::{NodeId, NodeKey};
pub use json::{Json, JsonObject, JsonText};
pub use maintenance::Reason;
pub use query::{DiscoveryQuery, Filter, PageLimit};
pub use record::{Life, NodeRecord, Status, Ttl};
pub use registration::{NodeType, NodeVersion, Registration};
pub use revision::{Precondition, Revision};
pub use shown::{JsonColumn, Moment, Shown, ShownRecord};
pub use summary::{Summary, SummaryBuilder};
pub use text::ColumnText;
pub use timestamp::Timestamp;
