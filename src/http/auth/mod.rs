//! Who may do what: the one place that decides. Without a file of keys there is nothing of this around a route.
//!
//! [`Routes`] has what each call needs, declared where the route is; what isn't declared is refused. [`Guard`] finds out who
//! asks before anything else of a request is looked at, and [`Authority`] knows it from then on, and says which nodes may be
//! changed.

mod authority;
mod credentials;
mod guard;
mod routes;

pub(super) use self::authority::Authority;
pub(super) use self::guard::{Guard, GuardLayer};
pub(super) use self::routes::{Access, Routes, SCHEME};
