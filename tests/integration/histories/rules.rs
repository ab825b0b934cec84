//! The rules by which `scripts/chaos` judges find what is wrong, and nothing else.

mod answers;
#[path = "../../../benches/chaos/rules/mod.rs"]
mod chaos;
mod end;
mod freshness;
mod recovery;
mod stops;

use chaos::{Answer, Asked, Call, Kind, Outcome};

/// A request and its answer.
fn asked(kind: Kind, began: u64, ended: u64, answer: Answer) -> Asked {
    let path = if kind == Kind::Watch { "/v1/watch" } else { "/v1/nodes/{node_id}" };
    let method = if kind == Kind::Write { "put" } else { "get" };
    let call = Call { method: method.to_owned(), path };
    Asked { call, kind, server: 0, began, ended, outcome: Outcome::Answered(answer) }
}
