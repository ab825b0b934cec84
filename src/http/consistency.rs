//! `consistency`: how fresh a read must be.

use utoipa::{IntoParams, ToSchema};

use super::query_string::QueryString;
use crate::node::{Faults, Place};

/// How fresh a read must be
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `check` reads")]
pub(super) struct ReadParameters {
    /// `strong`: answered by the database
    #[param(required = false, inline)]
    consistency: ConsistencyName,
}

/// How fresh a read must be
#[derive(Debug, ToSchema)]
#[schema(as = Consistency, rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the values of `consistency` in the document")]
pub(super) enum ConsistencyName {
    /// Answered by the database
    Strong,
}

/// All reads are answered by the database today, so `strong` asks for what is done anyway.
pub(super) fn check(given: &mut QueryString, faults: &mut Faults) {
    if given.one("consistency").is_some_and(|value| value != "strong") {
        faults.add(Place::Parameter("consistency".to_owned()), "must be strong, or be left out");
    }
}
