//! What a listener becomes: its limits, pages, log and TLS, ready to serve.

use super::Parts;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::{self, AccessFormat, Config};
use crate::h1::parse::HeadLimits;
use crate::message::error_page::OwnPage;
use crate::snapshot::{HeaderPlan, ListenerPlan, Passthrough};
use crate::telemetry::access_format::{Format, Redact};
use crate::telemetry::access_log::{AccessLog, AccessWriter, Sampler};
use crate::tls::acme::{Orders, Wanted};
use crate::tls::server::ServerTls;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) fn listener_plan(
    name: &str,
    listener: &model::Listener,
    config: &Config,
    upstreams: &HashMap<&str, usize>,
    parts: Parts<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<ListenerPlan>> {
    let key = format!("listeners.{name}");
    let own = listener
        .access_log
        .as_ref()
        .map(|log| (log, format!("{key}.access_log")));
    let access = own.or_else(|| {
        config
            .log
            .access
            .as_ref()
            .map(|log| (log, "log.access".to_owned()))
    });
    let access = access
        .filter(|(log, _)| !log.off)
        .and_then(|(log, key)| access_log(log, &key, parts.access, found));
    let limits = &listener.limits;
    let tls = match &listener.tls {
        // Without it the listener would be one in the clear: better none at all.
        Some(tls) => Some(server_tls(name, tls, &key, config, parts, found)?),
        None => None,
    };
    let hsts = listener.hsts.filter(|_| tls.is_some());
    Some(Arc::new(ListenerPlan {
        tls,
        passthrough: Passthrough::compile(&listener.passthrough, upstreams),
        redirect_https: listener.redirect_https,
        hsts: hsts.map(|age| format!("max-age={}", age.as_secs()).into()),
        name: name.into(),
        address: listener.address.clone(),
        head_limits: HeadLimits {
            head_bytes: usize::try_from(limits.header_bytes).unwrap_or(usize::MAX),
            fields: limits.headers,
            target_bytes: usize::try_from(limits.uri_bytes).unwrap_or(usize::MAX),
        },
        limits: limits.clone(),
        protocols: listener.protocols,
        path_policy: listener.path_policy,
        trusted_proxies: listener.trusted_proxies.clone(),
        proxy_protocol: listener.proxy_protocol.clone(),
        request_id: listener.request_id,
        error_pages: error_pages(&listener.error_pages, &key, found),
        error_header: listener.error_header,
        forwarded: listener.forwarded,
        access,
        request_headers: HeaderPlan::compile(
            &listener.request_headers,
            &format!("{key}.request_headers"),
            found,
        ),
        response_headers: HeaderPlan::compile(
            &listener.response_headers,
            &format!("{key}.response_headers"),
            found,
        ),
    }))
}

pub(super) fn server_tls(
    name: &str,
    tls: &model::Tls,
    key: &str,
    config: &Config,
    parts: Parts<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<Arc<ServerTls>> {
    let wanted = config
        .listeners
        .get(name)
        .and_then(|listener| listener.acme.as_ref())
        .map(|acme| Wanted {
            directory: &acme.directory,
            names: crate::config::acme::names(config, name),
            single: acme.single_certificate,
            named: !acme.names.is_empty(),
        });
    let orders = Orders {
        acme: parts.acme,
        wanted,
    };
    let now = jiff::Timestamp::now().as_second();
    ServerTls::load(
        name,
        tls,
        &format!("{key}.tls"),
        parts.tickets,
        orders,
        now,
        found,
    )
}

fn access_log(
    log: &model::AccessLog,
    key: &str,
    writer: &AccessWriter,
    found: &mut Vec<Diagnostic>,
) -> Option<AccessLog> {
    let format = match &log.format {
        AccessFormat::Combined => Format::combined(),
        AccessFormat::Json => Format::json(),
        AccessFormat::Template(text) => match Format::template(text) {
            Ok(format) => format,
            Err(error) => {
                found.push(Diagnostic::error(format!("{key}.format"), error.to_string()));
                return None;
            }
        },
    };
    Some(AccessLog {
        format: format.redacting(Redact::new(&log.redact_query)),
        sampler: Sampler::new(log.sample),
        file: writer.file(&log.path),
    })
}

fn error_pages(
    files: &BTreeMap<u16, std::path::PathBuf>,
    key: &str,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<u16, OwnPage> {
    let mut pages = BTreeMap::new();
    for (status, path) in files {
        match std::fs::read(path) {
            Ok(text) => {
                pages.insert(*status, OwnPage::new(path, text));
            }
            Err(error) => found.push(Diagnostic::error(
                format!("{key}.error_pages.{status}"),
                format!("cannot read {}: {error}", path.display()),
            )),
        }
    }
    pages
}
