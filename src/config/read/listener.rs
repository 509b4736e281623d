//! What is written of a listener.

use super::{access_log, chosen, header_edits, http2_bounds, tunnel_bounds};
use crate::config::model::{
    AcceptProxy, Acme, CertificateFiles, ClientAuth, ExternalAccount, Forwarded, Limits, Listener,
    NamedClientAuth, Passthrough, PathPolicy, Protocol, Protocols, Tls,
};
use crate::config::scalar::{Chosen, Mode};
use crate::config::settings::Table;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) fn listener(t: &Table) -> Option<Listener> {
    Some(Listener {
        address: t.get("address")?,
        mode: t.get("mode").map(|Mode(bits)| bits),
        protocols: protocols(t)?,
        backlog: t.get("backlog")?,
        trusted_proxies: t.list("trusted_proxies")?,
        proxy_protocol: t.table("proxy_protocol").and_then(accept_proxy),
        limits: limits(t.table("limits")?)?,
        path_policy: path_policy(t.table("path_policy")?)?,
        request_id: chosen(t, "request_id")?,
        error_pages: error_pages(t)?,
        error_header: t.get("error_header")?,
        forwarded: forwarded(t.table("forwarded")?)?,
        access_log: t.table("access_log").and_then(access_log),
        request_headers: header_edits(t.table("request_headers")?)?,
        response_headers: header_edits(t.table("response_headers")?)?,
        tls: t.table("tls").and_then(tls),
        acme: t.table("acme").and_then(acme),
        passthrough: t.tables("passthrough").iter().filter_map(passthrough).collect(),
        redirect_https: t.get("redirect_https")?,
        hsts: t.get("hsts"),
    })
}

fn protocols(t: &Table) -> Option<Protocols> {
    let spoken: Vec<Chosen<Protocol>> = t.list("protocols")?;
    let has = |protocol: Protocol| spoken.iter().any(|Chosen(spoken)| *spoken == protocol);
    Some(Protocols {
        h1: has(Protocol::H1),
        h2c: has(Protocol::H2c),
    })
}

fn accept_proxy(t: &Table) -> Option<AcceptProxy> {
    Some(AcceptProxy {
        trusted: t.list("trusted")?,
        timeout: t.get("timeout")?,
    })
}

fn error_pages(t: &Table) -> Option<BTreeMap<u16, PathBuf>> {
    let pages = t.map::<PathBuf>("error_pages")?;
    pages
        .into_iter()
        .map(|(status, path)| Some((status.parse().ok()?, path)))
        .collect()
}

fn limits(t: &Table) -> Option<Limits> {
    let header_bytes = t.get("header_bytes")?;
    let uri_bytes: u64 = t.get("uri_bytes")?;
    // Who makes heads smaller need not know of the target's own limit.
    let uri_bytes = if t.given("uri_bytes") {
        uri_bytes
    } else {
        uri_bytes.min(header_bytes)
    };
    Some(Limits {
        header_bytes,
        headers: t.get("headers")?,
        uri_bytes,
        body: t.get("body")?,
        header_timeout: t.get("header_timeout")?,
        body_idle: t.get("body_idle")?,
        send_timeout: t.get("send_timeout")?,
        keep_alive: t.get("keep_alive")?,
        requests_per_connection: t.get("requests_per_connection")?,
        min_rate: t.get("min_rate")?,
        handshake_timeout: t.get("handshake_timeout")?,
        connections: t.get("connections")?,
        connections_per_ip: t.get("connections_per_ip")?,
        tunnels: t.get("tunnels")?,
        max_connection_age: t.get("max_connection_age")?,
        h2: http2_bounds(t, "h2_")?,
    })
}

fn path_policy(t: &Table) -> Option<PathPolicy> {
    Some(PathPolicy {
        dot_segments: chosen(t, "dot_segments")?,
        double_slash: chosen(t, "double_slash")?,
        encoded_slash: chosen(t, "encoded_slash")?,
    })
}

fn passthrough(t: &Table) -> Option<Passthrough> {
    Some(Passthrough {
        sni: t.get("sni")?,
        upstream: t.get("upstream")?,
        connect: t.get("connect")?,
        tunnel: tunnel_bounds(t)?,
    })
}

fn forwarded(t: &Table) -> Option<Forwarded> {
    Some(Forwarded {
        x_forwarded: t.get("x_forwarded")?,
        forwarded: t.get("forwarded")?,
        via: t.get("via")?,
    })
}

fn tls(t: &Table) -> Option<Tls> {
    let files = |t: &Table| {
        Some(CertificateFiles {
            cert: t.get("cert")?,
            key: t.get("key")?,
        })
    };
    let named = |t: &Table| {
        Some(NamedClientAuth {
            names: t.list("names")?,
            auth: client_auth(t)?,
        })
    };
    let alpn = t.list("alpn")?;
    Some(Tls {
        certificates: t.tables("certificates").iter().filter_map(files).collect(),
        default: chosen(t, "default")?,
        policy: chosen(t, "policy")?,
        ciphers: t.list("ciphers")?,
        groups: t.list("groups")?,
        alpn: alpn.into_iter().map(|Chosen(protocol)| protocol).collect(),
        client_auth: t.table("client_auth").and_then(client_auth),
        client_auth_by_name: t.tables("client_auth_by_name").iter().filter_map(named).collect(),
        session_tickets: t.get("session_tickets")?,
    })
}

fn client_auth(t: &Table) -> Option<ClientAuth> {
    Some(ClientAuth {
        mode: chosen(t, "mode")?,
        ca: t.get("ca"),
        crl: t.list("crl")?,
    })
}

fn acme(t: &Table) -> Option<Acme> {
    let external = |t: &Table| {
        Some(ExternalAccount {
            kid: t.get("kid")?,
            key: t.get("key")?,
        })
    };
    Some(Acme {
        directory: t.get("directory")?,
        email: t.get("email"),
        challenge: chosen(t, "challenge")?,
        names: t.list("names")?,
        single_certificate: t.get("single_certificate")?,
        eab: t.table("eab").and_then(external),
        profile: t.get("profile"),
        ca: t.get("ca"),
        key_type: chosen(t, "key_type")?,
        renew_before: t.get("renew_before"),
        retry: t.get("retry")?,
    })
}
