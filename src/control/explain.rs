//! Asking a worker what would become of a request.

use super::gateway::Gateway;
use crate::message::host::Scheme;
use crate::net::listen::Address;
pub use crate::proxy::explain::Explanation;
use crate::proxy::explain::{Connection, Question};
use crate::tls::hello;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Longest wait for the worker.
const PATIENCE: Duration = Duration::from_secs(2);

/// A request that somebody wonders about.
#[derive(Clone, Debug, Default)]
pub struct Wondering {
    pub method: String,
    /// `http://HOST[:PORT]/PATH`, `https://…`, or a path alone.
    pub url: String,
    /// Name that the client asks for in TLS; without one, the host, as clients do. Empty: none.
    pub server_name: Option<String>,
    /// Name and value of further fields; a Host here wins over that of the URL.
    pub headers: Vec<(String, String)>,
    /// Address that it comes from; without one, this host.
    pub client: Option<IpAddr>,
    /// Name of the listener; without one, that of the URL's port, or the only one.
    pub listener: Option<String>,
    /// Whom to ask; without one, the first.
    pub worker: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    #[error("{0} has a line break or another control character")]
    Control(&'static str),
    #[error("the server name {0:?} is none that a client can ask for")]
    ServerName(String),
    #[error("the URL begins with http://, https:// or /")]
    Url,
    #[error("which listener is meant? {}", .0.join(", "))]
    WhichListener(Vec<String>),
    #[error("there is no listener {0:?}")]
    NoListener(String),
    #[error("worker {0} does not answer")]
    NoWorker(usize),
}

/// # Errors
/// The question has no sense, or the worker no time.
pub async fn explain(gateway: &Gateway, wondering: &Wondering) -> Result<Explanation, Unanswered> {
    let url = Url::parse(&wondering.url)?;
    let listener = match &wondering.listener {
        Some(name) => name.clone(),
        None => listener_of(gateway, &url)?,
    };
    let question = Question {
        listener: listener.clone(),
        peer: wondering.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        connection: connection(gateway, wondering, &url, &listener)?,
        head: head(wondering, &url, &host_of(gateway, &listener))?,
    };
    let no_worker = || Unanswered::NoWorker(wondering.worker);
    let told = gateway
        .plane()
        .workers
        .explain(wondering.worker, question)
        .ok_or_else(no_worker)?;
    match tokio::time::timeout(PATIENCE, told).await {
        Ok(Ok(Some(explanation))) => Ok(explanation),
        Ok(Ok(None)) => Err(Unanswered::NoListener(listener)),
        Ok(Err(_)) | Err(_) => Err(no_worker()),
    }
}

/// How a client of this URL comes.
fn connection(
    gateway: &Gateway,
    wondering: &Wondering,
    url: &Url<'_>,
    listener: &str,
) -> Result<Connection, Unanswered> {
    let host_field = || {
        let mut headers = wondering.headers.iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
        Some(found.1.as_str())
    };
    // Who has a URL asks for its host, whatever a field says later.
    let host = url.authority.or_else(host_field).map(without_port);
    let asked = wondering
        .server_name
        .as_deref()
        .or(host)
        .filter(|name| !name.is_empty());
    let asked =
        asked.map(|name| hello::host_name(name).ok_or_else(|| Unanswered::ServerName(name.to_owned())));
    let bound = gateway.bound();
    let bound = bound.iter().find(|bound| &*bound.name == listener);
    let bound = bound.and_then(|bound| match &bound.address {
        Address::Tcp(address) => Some(address.ip()).filter(|ip| !ip.is_unspecified()),
        Address::Unix(_) => None,
    });
    Ok(Connection {
        scheme: url.scheme,
        server_name: asked.transpose()?.flatten(),
        local: host.and_then(|host| host.parse().ok()).or(bound),
    })
}

/// A host as names and addresses are looked up.
fn without_port(authority: &str) -> &str {
    let mut parts = match authority.strip_prefix('[') {
        Some(six) => six.split(']'),
        None => authority.split(':'),
    };
    parts.next().unwrap_or_default()
}

/// The parts of a URL that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    scheme: Option<Scheme>,
    authority: Option<&'a str>,
    target: &'a str,
    port: Option<u16>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, Unanswered> {
        let (rest, scheme) = match text.split_once("://") {
            Some(("http", rest)) => (rest, Scheme::Http),
            Some(("https", rest)) => (rest, Scheme::Https),
            _ if text.starts_with('/') || text == "*" => {
                return Ok(Self {
                    scheme: None,
                    authority: None,
                    target: text,
                    port: None,
                });
            }
            _ => return Err(Unanswered::Url),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let port = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .and_then(|(_, port)| port.parse().ok());
        Ok(Self {
            scheme: Some(scheme),
            authority: Some(authority),
            target: target.split('#').next().unwrap_or_default(),
            port: Some(port.unwrap_or_else(|| scheme.default_port())),
        })
    }
}

/// The listener that a client of this URL would come to.
fn listener_of(gateway: &Gateway, url: &Url<'_>) -> Result<String, Unanswered> {
    let bound = gateway.bound();
    let has_port = |address: &Address| match address {
        Address::Tcp(address) => Some(address.port()) == url.port,
        Address::Unix(_) => false,
    };
    let by_port = bound.iter().find(|listener| has_port(&listener.address));
    if let (Some(listener), _) | (None, [listener]) = (by_port, bound.as_slice()) {
        return Ok(listener.name.to_string());
    }
    // Ports are often mapped; then there may be only one that speaks so.
    let live = gateway.live.load();
    let speaks = |https| {
        let mut all = live
            .listeners
            .iter()
            .filter(move |listener| listener.expects_tls() == https);
        all.next().filter(|_| all.next().is_none())
    };
    match url.scheme.and_then(|scheme| speaks(scheme == Scheme::Https)) {
        Some(listener) => Ok(listener.name.to_string()),
        None => Err(Unanswered::WhichListener(
            bound.iter().map(|listener| listener.name.to_string()).collect(),
        )),
    }
}

/// What clients who know only the listener's address call the host.
fn host_of(gateway: &Gateway, listener: &str) -> String {
    let bound = gateway.bound();
    match bound
        .iter()
        .find(|bound| &*bound.name == listener)
        .map(|bound| &bound.address)
    {
        Some(Address::Tcp(address)) => address.to_string(),
        Some(Address::Unix(_)) | None => "localhost".to_owned(),
    }
}

/// The request as it would come over the wire. `host` is for a URL that names none.
fn head(wondering: &Wondering, url: &Url<'_>, host: &str) -> Result<Vec<u8>, Unanswered> {
    let sound = |what: &'static str, text: &str| match text.chars().any(char::is_control) {
        true => Err(Unanswered::Control(what)),
        false => Ok(()),
    };
    sound("the method", &wondering.method)?;
    sound("the URL", &wondering.url)?;
    let target = match url.target {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        target => target.to_owned(),
    };
    let mut head = format!("{} {target} HTTP/1.1\r\n", wondering.method);
    let has_host = wondering
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    if !has_host {
        head.push_str(&format!("Host: {}\r\n", url.authority.unwrap_or(host)));
    }
    for (name, value) in &wondering.headers {
        sound("a header", name)?;
        sound("a header", value)?;
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<(Option<&str>, &str, Option<u16>)> {
        let url = Url::parse(text).ok()?;
        Some((url.authority, url.target, url.port))
    }

    #[test]
    fn a_url_is_taken_as_people_write_it() {
        assert_eq!(url("http://a.b/c?d#e"), Some((Some("a.b"), "/c?d", Some(80))));
        assert_eq!(url("https://a:8443"), Some((Some("a:8443"), "", Some(8443))));
        assert_eq!(url("http://[::1]/x"), Some((Some("[::1]"), "/x", Some(80))));
        assert_eq!(url("http://[::1]:81?y"), Some((Some("[::1]:81"), "?y", Some(81))));
        assert_eq!(url("/only/a/path"), Some((None, "/only/a/path", None)));
        assert_eq!(url("example.com/x"), None);
    }

    #[test]
    fn the_head_is_what_a_client_would_send_and_nothing_can_be_smuggled_in() {
        let mut wondering = Wondering {
            method: "GET".to_owned(),
            url: "http://a?x=1".to_owned(),
            headers: vec![("Cookie".to_owned(), "a=1".to_owned())],
            ..Wondering::default()
        };
        let written = |wondering: &Wondering| {
            let head = head(wondering, &Url::parse(&wondering.url)?, "here:80")?;
            Ok::<_, Unanswered>(String::from_utf8(head).unwrap())
        };
        assert_eq!(
            written(&wondering).unwrap(),
            "GET /?x=1 HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\n\r\n"
        );
        wondering.headers = vec![("HOST".to_owned(), "b".to_owned())];
        assert_eq!(
            written(&wondering).unwrap(),
            "GET /?x=1 HTTP/1.1\r\nHOST: b\r\n\r\n"
        );
        wondering.url = "/".to_owned();
        wondering.headers.clear();
        assert_eq!(
            written(&wondering).unwrap(),
            "GET / HTTP/1.1\r\nHost: here:80\r\n\r\n"
        );
        wondering.headers = vec![("X".to_owned(), String::new())];
        wondering.headers[0].1 = "b\r\nX: y".to_owned();
        assert_eq!(written(&wondering), Err(Unanswered::Control("a header")));
    }
}
