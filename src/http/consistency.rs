//! `consistency` and `min_revision`: how fresh a read must be.

use utoipa::{IntoParams, ToSchema};

use super::query_string::{Parameter, QueryString};
use crate::node::Faults;
use crate::registry::Freshness;

/// How fresh a read must be
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "describes in the document what `read` reads")]
pub(super) struct ReadParameters {
    /// `strong`: answered by the database. Left out: from the memory of this replica, which has all that it wrote itself,
    /// and what others wrote as soon as it has heard of it
    #[param(required = false, inline)]
    consistency: ConsistencyName,
    /// With this change, and all before it: the `revision` that another replica answered, for example. It is waited for
    /// for 5 seconds at most
    #[param(required = false, minimum = 0)]
    min_revision: i64,
}

/// What `read` reads.
pub(super) const PARAMETERS: [Parameter; 2] =
    [Parameter::once("consistency"), Parameter::once("min_revision")];

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
    let strong = match given.one("consistency").as_deref() {
        None => false,
        Some("strong") => true,
        Some(_) => {
            faults.parameter("consistency", "must be strong, or be left out");
            false
        }
    };
    Freshness { strong, at_least: given.revision("min_revision", faults).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::super::query_string::described_and_read;
    use super::*;

    #[test]
    fn the_document_describes_the_parameters_that_are_read() {
        described_and_read::<ReadParameters>(&PARAMETERS);
    }
}
