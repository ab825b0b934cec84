//! What each call needs, declared where its route is. The document says the same: it is made of the same declaration.

use std::collections::HashMap;

use axum::Router;
use axum::http::Method;
use axum::routing::MethodRouter;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::SecurityRequirement;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::config::Public;
use crate::http::App;
use crate::keys::Role;

/// The name of the way to say who one is, in the document.
pub(in crate::http) const SCHEME: &str = "key";

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Access {
    /// Nothing. Whoever orchestrates containers has no key.
    Open,
    /// The role `read`, unless metrics are public.
    Metrics,
    /// The role `read`, unless the pages about the API are public.
    Docs,
    /// The role `read`, unless reading is public.
    Read,
    /// The role `write`, and for each node a key that covers it.
    Write,
}

impl Access {
    pub(super) fn role(self) -> Option<Role> {
        match self {
            Self::Open => None,
            Self::Metrics | Self::Docs | Self::Read => Some(Role::Read),
            Self::Write => Some(Role::Write),
        }
    }

    pub(super) fn is_open_to_all(self, public: Public) -> bool {
        match self {
            Self::Open => true,
            Self::Metrics => public.metrics,
            Self::Docs => public.docs,
            Self::Read => public.read,
            Self::Write => false,
        }
    }

    fn requirement(self) -> Vec<SecurityRequirement> {
        self.role().map(|role| SecurityRequirement::new(SCHEME, [role.as_str()])).into_iter().collect()
    }
}

/// Routes, each with what it needs. There is no way to add one without.
pub(in crate::http) struct Routes {
    router: OpenApiRouter<App>,
    declared: Declared,
}

impl Routes {
    pub(in crate::http) fn new(frame: OpenApi) -> Self {
        Self { router: OpenApiRouter::with_openapi(frame), declared: Declared::default() }
    }

    /// Adds calls that need this.
    pub(in crate::http) fn add(mut self, access: Access, routes: UtoipaMethodRouter<App>) -> Self {
        let (schemas, mut paths, methods) = routes;
        for (path, item) in &mut paths.paths {
            for (method, operation) in operations(item) {
                operation.security = Some(access.requirement());
                self.declared.add(path, method, access);
            }
        }
        Self { router: self.router.routes((schemas, paths, methods)), ..self }
    }

    /// Adds another path of calls that were added already. It needs what they need.
    pub(in crate::http) fn alias(mut self, path: &str, of: &str, methods: MethodRouter<App>) -> Self {
        self.declared.alias(path, of);
        Self { router: self.router.route(path, methods), ..self }
    }

    /// The routes, what they need, and the document.
    pub(in crate::http) fn split(self) -> (Router<App>, Declared, OpenApi) {
        let (router, document) = self.router.split_for_parts();
        (router, self.declared, document)
    }
}

/// The calls of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut utoipa::openapi::path::Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::PATCH, &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// What is declared of each path, by method.
#[derive(Debug, Default)]
pub(in crate::http) struct Declared(HashMap<String, Vec<(Method, Access)>>);

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A call that was declared.
    Declared(Access),
    /// There is no such path.
    UnknownPath,
    /// The path has no such method, but these.
    UnknownMethod { allowed: String },
    /// A route that somebody forgot to declare.
    Undeclared,
}

impl Declared {
    /// Declares pages that are not in the document, and are read only.
    pub(in crate::http) fn pages(&mut self, access: Access, paths: &[&str]) {
        for path in paths {
            self.add(path, Method::GET, access);
        }
    }

    fn add(&mut self, path: &str, method: Method, access: Access) {
        self.0.entry(path.to_owned()).or_default().push((method, access));
    }

    fn alias(&mut self, path: &str, of: &str) {
        let same = self.0.get(of).cloned().unwrap_or_default();
        self.0.insert(path.to_owned(), same);
    }

    /// What a request asks for; `matched` is the route's path, as it was written when it was added.
    pub(super) fn asked(&self, method: &Method, matched: Option<&str>) -> Asked {
        let Some(path) = matched else { return Asked::UnknownPath };
        let Some(methods) = self.0.get(path) else { return Asked::Undeclared };
        // What can be read can be asked for its head.
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        if let Some((_, access)) = methods.iter().find(|(declared, _)| declared == wanted) {
            return Asked::Declared(*access);
        }
        let mut allowed: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
        if allowed.contains(&"GET") {
            allowed.push("HEAD");
        }
        Asked::UnknownMethod { allowed: allowed.join(",") }
    }
}
