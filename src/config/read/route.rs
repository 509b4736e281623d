//! What is written of a route.

use super::{header_edits, tunnel_bounds};
use crate::config::model::{Action, Rewrite, Route, Timeouts, WebSocket};
use crate::config::settings::Table;

/// Name of a route: given, or by position.
pub fn route_name(t: &Table, position: usize) -> String {
    t.get("name").unwrap_or_else(|| format!("route-{}", position + 1))
}

pub(super) fn route(t: &Table, position: usize) -> Option<Route> {
    Some(Route {
        name: route_name(t, position),
        hosts: t.list("hosts")?,
        paths: t.list("paths")?,
        methods: t.list("methods")?,
        headers: t.map("headers")?,
        query: t.map("query")?,
        cookies: t.map("cookies")?,
        client_ip: t.list("client_ip")?,
        listeners: t.list("listeners")?,
        priority: t.get("priority")?,
        action: action(t)?,
        rewrite: rewrite(t),
        host: t.get("host")?,
        request_headers: header_edits(t.table("request_headers")?)?,
        response_headers: header_edits(t.table("response_headers")?)?,
        timeouts: timeouts(t.table("timeouts")?)?,
        websocket: websocket(t.table("websocket")?)?,
        body_limit: t.get("body_limit"),
        upgrades: t.list("upgrades")?,
    })
}

fn action(t: &Table) -> Option<Action> {
    if let Some(name) = t.get("upstream") {
        return Some(Action::Upstream(name));
    }
    if let Some(split) = t.map("split") {
        return Some(Action::Split(split));
    }
    if let Some(t) = t.table("redirect") {
        return Some(Action::Redirect {
            to: t.get("to")?,
            status: t.get("status")?,
        });
    }
    let t = t.table("respond")?;
    Some(Action::Respond {
        status: t.get("status")?,
        body: t.get("body")?,
        headers: t.map("headers")?,
    })
}

fn rewrite(t: &Table) -> Rewrite {
    let regex = t
        .table("rewrite")
        .and_then(|t| Some((t.get("regex")?, t.get("to")?)));
    Rewrite {
        strip_prefix: t.get("strip_prefix"),
        add_prefix: t.get("add_prefix"),
        regex,
    }
}

fn timeouts(t: &Table) -> Option<Timeouts> {
    Some(Timeouts {
        connect: t.get("connect")?,
        response: t.get("response")?,
        idle: t.get("idle")?,
        total: t.get("total")?,
    })
}

fn websocket(t: &Table) -> Option<WebSocket> {
    Some(WebSocket {
        bounds: tunnel_bounds(t)?,
        client_idle: t.get("client_idle")?,
        endpoint_idle: t.get("endpoint_idle")?,
        handshake_timeout: t.get("handshake_timeout")?,
        accept_rate: t.get("accept_rate")?,
        connections: t.get("connections")?,
        connections_per_ip: t.get("connections_per_ip")?,
        origins: t.list("origins")?,
        inspect: t.get("inspect")?,
        ping: t.get("ping")?,
        max_message: t.get("max_message")?,
        message_rate: t.get("message_rate")?,
        byte_rate: t.get("byte_rate")?,
        log_open: t.get("log_open")?,
    })
}
