//! `consistency`: how fresh a read must be.

use utoipa::{IntoParams, ToSchema};

use super::query_string::QueryString;
use crate::node::{Faults, Place};
use crate::registry::Freshness;

/// How fresh a read must be
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
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

/// How fresh a read has to be.
pub(super) fn read(given: &mut QueryString, faults: &mut Faults) -> Freshness {
    match given.one("consistency").as_deref() {
        None => Freshness::Known,
        Some("strong") => Freshness::Strong,
        Some(_) => {
            faults.add(Place::Parameter("consistency".to_owned()), "must be strong, or be left out");
            Freshness::Known
        }
    }
}
