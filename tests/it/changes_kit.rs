//! Two endpoints that are changed at run time, for the tests of that.

use crate::gateway;
use serde_json::Value;
use std::path::Path;
use testkit::{Backend, Builder, Gateway, Response};

pub(crate) const OPERATOR: &str = "operator-operator-operator";

pub(crate) const VIEWER: &str = "viewer-viewer-viewer-viewer";

pub(crate) const TWO: &str = r#"
[runtime]
workers = 2
state_dir = "@state@"
[listeners.web]
address = "127.0.0.1:0"
[[routes]]
upstream = "app"
[upstreams.app]
endpoints = [{ address = "@a@", weight = 2 }, { address = "@b@" }]
[log]
access = { path = "access.log", format = "json" }
[admin]
address = "127.0.0.1:0"
tokens = [
  { name = "ops", role = "operator", token = "env:OPERATOR" },
  { name = "eve", role = "viewer", token = "env:VIEWER" },
]
"#;

pub(crate) fn with_tokens(builder: Builder) -> Builder {
    builder
        .env("OPERATOR", OPERATOR)
        .env("VIEWER", VIEWER)
        .token(OPERATOR)
}

pub(crate) fn started(a: &Backend, b: &Backend, state: &Path) -> Gateway {
    with_tokens(gateway(TWO))
        .with("a", a.address())
        .with("b", b.address())
        .with("state", state.display())
        .start()
}

/// Two backends behind a gateway that keeps its state in a directory of its own.
pub(crate) struct Scene {
    pub(crate) a: Backend,
    pub(crate) b: Backend,
    pub(crate) gateway: Gateway,
    pub(crate) state: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn of(a: Backend, b: Backend) -> Self {
        let state = tempfile::tempdir().expect("directory");
        let gateway = started(&a, &b, state.path());
        Self { a, b, gateway, state }
    }

    pub(crate) fn plain() -> Self {
        Self::of(Backend::text("a"), Backend::text("b"))
    }

    /// Another gateway with the same file and state.
    pub(crate) fn restarted(self) -> Self {
        let Self { a, b, gateway, state } = self;
        assert_eq!(gateway.stop(), Some(0));
        let gateway = started(&a, &b, state.path());
        Self { a, b, gateway, state }
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.gateway.admin_call(method, path, "", &body)
    }

    pub(crate) fn put(&self, backend: &Backend, body: &Value) -> Response {
        self.call("PUT", &path(backend), body)
    }

    pub(crate) fn shown(&self, backend: &Backend) -> Value {
        shown(&self.gateway, backend)
    }

    /// Which backends answer these many requests.
    pub(crate) fn answers(&self, requests: usize) -> (usize, usize) {
        let mut conn = self.gateway.connect();
        let texts: Vec<String> = (0..requests).map(|_| conn.get("/").text()).collect();
        let count = |name: &str| texts.iter().filter(|text| *text == name).count();
        (count("a"), count("b"))
    }

    pub(crate) fn events(&self) -> String {
        self.gateway.admin_get("/api/v1/events?limit=1000").text()
    }
}

pub(crate) fn path(backend: &Backend) -> String {
    let address = backend.address().to_string().replace('/', "%2F");
    format!("/api/v1/upstreams/app/endpoints/{address}")
}

pub(crate) fn shown(gateway: &Gateway, backend: &Backend) -> Value {
    gateway.endpoint(&backend.address())
}

#[track_caller]
pub(crate) fn applied(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{answer}");
    let body = answer.json();
    assert_eq!(body["outcome"], "applied", "{body}");
    body
}
