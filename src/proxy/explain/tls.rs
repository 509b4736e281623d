//! What comes before a request: the handshake, and who answers it.

use crate::message::host::Scheme;
use crate::proxy::handshake;
use crate::proxy::view::ListenerView;
use crate::tls::certificate::{Certificate, day};
use crate::tls::hello::Hello;
use crate::tls::server::Served;
use serde::Serialize;
use std::net::IpAddr;

/// How the client comes.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// `None`: as the listener expects it.
    pub scheme: Option<Scheme>,
    /// The name that it asks for (SNI); in lower case.
    pub server_name: Option<String>,
    /// Our address that it connects to, as far as that is known.
    pub local: Option<IpAddr>,
}

/// What becomes of a client's TLS.
#[derive(Debug, Serialize)]
pub struct Handshake {
    /// The name that the client asks for.
    pub server_name: Option<String>,
    /// `opened` here, `passed_on` unopened to an upstream, or `refused`.
    pub outcome: &'static str,
    /// Why it is refused, before there could be an answer in HTTP.
    pub refused: Option<&'static str>,
    /// The client gets the first that it can verify.
    pub certificates: Vec<Shown>,
    /// What is asked of the client: `none`, `optional` or `required`.
    pub client_certificate: Option<&'static str>,
}

/// A certificate that a client may get.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub file: String,
    pub names: Vec<String>,
    pub expires: String,
}

/// How a connection goes on.
pub(super) enum Greeted {
    /// There is none of TLS.
    Clear,
    /// Plain HTTP came to a port for HTTPS.
    PlainHttp,
    Opened(Handshake, Served),
    /// By this rule of the listener's `passthrough`.
    PassedOn(Handshake, usize),
    Refused(Handshake),
}

pub(super) fn greet(listener: &ListenerView, connection: &Connection) -> Greeted {
    let plan = &listener.plan;
    if !plan.expects_tls() {
        return Greeted::Clear;
    }
    if connection.scheme == Some(Scheme::Http) {
        return Greeted::PlainHttp;
    }
    let hello = Hello {
        server_name: connection.server_name.clone(),
        protocols: Vec::new(),
    };
    let told = |outcome| Handshake {
        server_name: hello.server_name.clone(),
        outcome,
        refused: None,
        certificates: Vec::new(),
        client_certificate: None,
    };
    let passed_on = hello
        .server_name
        .as_deref()
        .and_then(|name| plan.passthrough.find(name));
    if let Some(rule) = passed_on {
        return Greeted::PassedOn(told("passed_on"), rule);
    }
    let tls = plan.tls.as_ref();
    let Some((tls, answer)) = tls.and_then(|tls| Some((tls, tls.answer(&hello, connection.local)?))) else {
        return Greeted::Refused(Handshake {
            refused: Some(handshake::unanswered(tls.map(AsRef::as_ref), &hello)),
            ..told("refused")
        });
    };
    let opened = Handshake {
        certificates: answer.served.certificates().iter().map(|it| shown(it)).collect(),
        client_certificate: Some(tls.asks(hello.server_name.as_deref())),
        ..told("opened")
    };
    Greeted::Opened(opened, answer.served)
}

fn shown(certificate: &Certificate) -> Shown {
    Shown {
        file: certificate.path.display().to_string(),
        names: certificate.names.iter().map(ToString::to_string).collect(),
        expires: day(certificate.not_after),
    }
}
