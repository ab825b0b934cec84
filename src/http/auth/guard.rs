//! Finds out who asks, before anything else of a request is looked at.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::Route;
use axum::routing::future::RouteFuture;
use futures_util::future::Either;
use time::OffsetDateTime;
use tower::{Layer, Service};

use super::Access;
use super::credentials::{self, Malformed};
use super::routes::{Asked, Declared};
use crate::config::Public;
use crate::http::certified::CertifiedName;
use crate::http::context::RequestContext;
use crate::http::problem::Problem;
use crate::http::rate::Counter;
use crate::keys::{Key, Keys, Shown};
use crate::metrics::{AuthFailure, Metrics};

/// The keys, and what is open without one.
#[derive(Clone)]
pub(in crate::http) struct Guard {
    keys: Arc<Keys>,
    public: Public,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Guard {
    pub(in crate::http) fn new(keys: Arc<Keys>, public: Public, metrics: Arc<Metrics>) -> Self {
        Self { keys, public, metrics }
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn count(&self, why: AuthFailure) {
        self.metrics.keys.refused(why);
    }

    /// Whether a request may go on to its handler, and with which key. One that needs none and shows none has none.
    fn admit(&self, declared: &Declared, request: &Request) -> Result<Option<Arc<Key>>, Problem> {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        match declared.asked(request.method(), matched) {
            Asked::Declared(Access::Open) => Ok(None),
            Asked::Declared(access) => self.key_for(access, request),
            // A client without a key learns nothing of what there is and what not.
            Asked::UnknownPath => self.key_for(Access::Read, request),
            // Not by the router: it may know a method that nobody has declared.
            Asked::UnknownMethod { allowed } => {
                self.key_for(Access::Read, request)?;
                let allowed = HeaderValue::try_from(allowed).unwrap_or(HeaderValue::from_static(""));
                Err(Problem::method_not_allowed().with_header(header::ALLOW, allowed))
            }
            Asked::Undeclared => {
                self.identify(request, false)?.ok_or_else(|| self.missing())?;
                tracing::error!("nobody may call this route: what it needs is not declared");
                Err(Problem::role_missing(None))
            }
        }
    }

    fn key_for(&self, access: Access, request: &Request) -> Result<Option<Arc<Key>>, Problem> {
        match self.identify(request, access.is_open_to_all(self.public))? {
            Some(key) if access.role().is_none_or(|role| key.role() >= role) => Ok(Some(key)),
            Some(_) => {
                self.count(AuthFailure::Role);
                Err(Problem::role_missing(access.role()))
            }
            None if access.is_open_to_all(self.public) => Ok(None),
            None => Err(self.missing()),
        }
    }

    fn missing(&self) -> Problem {
        self.count(AuthFailure::Missing);
        Problem::key_missing()
    }

    /// Who asks: by the header field, or else by a certificate. A bad header field is refused, whatever comes with it, and
    /// whatever it asks for. A certificate is shown to whoever wants to see one: where anybody may ask (`is_open`), it
    /// need not be that of a key.
    fn identify(&self, request: &Request, is_open: bool) -> Result<Option<Arc<Key>>, Problem> {
        let shown = match self.token(request.headers())? {
            Some(token) => self.keys.of_secret(token.as_bytes(), OffsetDateTime::now_utc()),
            None => match request.extensions().get::<CertifiedName>() {
                // Whoever shows something else means that, and not the certificate beside it.
                Some(_) if request.headers().contains_key(header::AUTHORIZATION) => {
                    return Err(self.missing());
                }
                Some(name) => match self.keys.of_name(name.as_str(), OffsetDateTime::now_utc()) {
                    Shown::Expired | Shown::Unknown if is_open => return Ok(None),
                    shown => shown,
                },
                None => return Ok(None),
            },
        };
        let why = match shown {
            Shown::Valid(key) => return Ok(Some(key)),
            Shown::Expired => AuthFailure::Expired,
            Shown::Unknown => AuthFailure::Unknown,
        };
        self.count(why);
        // Both are told the same: whoever tries keys does not learn that one was right once.
        Err(Problem::key_not_valid())
    }

    fn token<'r>(&self, headers: &'r HeaderMap) -> Result<Option<&'r str>, Problem> {
        credentials::token(headers).map_err(|Malformed(reason)| {
            self.count(AuthFailure::Malformed);
            Problem::authorization_malformed(reason)
        })
    }
}

/// Puts a [`Guard`] before each route, or a count of requests, or both.
#[derive(Clone)]
pub(in crate::http) struct GuardLayer {
    /// `None`: anybody may do anything.
    guard: Option<Arc<Guard>>,
    declared: Arc<Declared>,
    /// `None`: clients may send as many requests as they like.
    counter: Option<Arc<Counter>>,
}

impl GuardLayer {
    pub(in crate::http) fn new(
        guard: Option<Arc<Guard>>,
        declared: Declared,
        counter: Option<Arc<Counter>>,
    ) -> Self {
        Self { guard, declared: Arc::new(declared), counter }
    }

    /// Whoever shows no key that is valid is counted by the address: that is for those who try keys, too.
    fn admit(&self, request: &Request) -> Result<(), Problem> {
        let admitted = match &self.guard {
            Some(guard) => guard.admit(&self.declared, request),
            None => Ok(None),
        };
        if let Some(counter) = &self.counter {
            counter.count(request, admitted.as_ref().ok().and_then(Option::as_deref))?;
        }
        let key = admitted?;
        // Made before this is called: a request without it is one that nobody knows anything of.
        let context = request.extensions().get::<Arc<RequestContext>>().ok_or_else(Problem::internal)?;
        if let Some(key) = key {
            tracing::Span::current().record("key", key.name().as_str());
            context.authority().identify(key);
        }
        Ok(())
    }
}

impl Layer<Route> for GuardLayer {
    type Service = Guarded;

    fn layer(&self, route: Route) -> Guarded {
        Guarded { layer: self.clone(), route }
    }
}

/// A route with a guard before it.
#[derive(Clone)]
pub(in crate::http) struct Guarded {
    layer: GuardLayer,
    route: Route,
}

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.layer.admit(&request) {
            Ok(()) => Either::Right(self.route.call(request)),
            Err(problem) => Either::Left(ready(Ok(problem.into_response()))),
        }
    }
}

#[cfg(test)]
mod tests;
