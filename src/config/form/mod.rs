//! Forms of single values: what is accepted, in words for messages, docs and schema, and reading it.

pub mod address;
pub mod header;
pub mod pattern;
pub mod quantity;
pub mod redis;
pub mod status;

use super::choices::Choice;
use super::habits;
use super::model::{AccessFormat, Grant, Role, Workers};
use super::scalar::Scalar;
use super::suggest;
use super::tree::{Value, quote};
use std::path::Path;

/// Why a value was not accepted, beyond what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// May be empty: then the type was wrong, and what is accepted says all.
    pub reason: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            hint: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the value to write in place of the one found.
    #[must_use]
    pub fn instead(self, value: &str) -> Self {
        self.hint(format!("write {}", quote(value)))
    }

    const fn wrong_type() -> Self {
        Self {
            reason: String::new(),
            hint: None,
        }
    }
}

/// The form of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    /// `auto` or a number.
    Workers,
    /// 0 to 1.
    Ratio,
    /// 0 for none, or a number of times from 1 on.
    Factor,
    /// Whether zero, for "no limit", is accepted.
    Duration {
        zero: bool,
    },
    Size {
        min: u64,
        max: u64,
    },
    Choice(&'static [&'static str]),
    /// A role, or the grant to register services.
    Grant,
    /// Any text, with variables.
    Body,
    /// Text that is not empty and has no control characters.
    Word,
    /// Name of a listener, route, upstream or token.
    Name,
    Path,
    /// Path whose parts may have `*` and `?`.
    Glob,
    Listen,
    Endpoint,
    /// A name with a port.
    HostPort,
    /// Name of SRV records.
    ServiceName,
    /// IP address, with or without a port.
    NameServer,
    Cidr,
    Host,
    PathPattern,
    /// A path that is put before, or taken off, another.
    Prefix,
    Method,
    HeaderName,
    /// With variables.
    HeaderValue,
    ValuePattern,
    HostHeader,
    /// A host with or without a port.
    Authority,
    /// What a request asks for: a path, perhaps with a query.
    Request,
    /// Without variables.
    PlainValue,
    StatusSet,
    TextPattern,
    /// What a request is known by.
    HashKey,
    CookieName,
    CookiePath,
    CookieDomain,
    /// Permission bits.
    Mode,
    AccessFormat,
    Regex,
    /// URL, with variables.
    Target,
    Upgrade,
    /// Of a page that may open WebSockets.
    Origin,
    /// Read from where it says by the caller, see [`super::secret`].
    Secret,
    /// The URL of a Redis, which may have a password in it; read like a secret.
    Redis,
}

/// Most workers that can be asked for.
const MAX_WORKERS: i64 = 1024;
/// Times as much as the mean that can be allowed.
const MAX_FACTOR: f64 = 1000.0;

impl Form {
    /// What is accepted.
    #[must_use]
    pub fn accepts(self) -> String {
        let text = match self {
            Self::Bool => "true or false",
            Self::Integer { min, max } => return format!("an integer from {min} to {max}"),
            Self::Workers => return format!("\"auto\" or an integer from 1 to {MAX_WORKERS}"),
            Self::Ratio => "a number from 0 to 1",
            Self::Factor => return format!("0, or a number from 1 to {MAX_FACTOR}"),
            Self::Duration { zero: true } => "a duration such as \"500ms\", \"5s\", \"1h30m\", or \"0s\"",
            Self::Duration { zero: false } => "a duration above 0 such as \"500ms\", \"5s\", \"1h30m\"",
            Self::Size { min: 0, max: _ } => "a size such as \"64KiB\", \"10MB\", or bytes as an integer",
            Self::Size { min, max } => {
                let (min, max) = (quantity::write_size(min), quantity::write_size(max));
                return format!(
                    "a size from \"{min}\" to \"{max}\", such as \"64KiB\", or bytes as an integer"
                );
            }
            Self::Choice(names) => return join_or(names),
            Self::Grant => "\"viewer\", \"operator\", \"admin\" or \"register:UPSTREAM\"",
            Self::Body => "a text; ${variables} are filled in",
            Self::Word => "a string that is not empty",
            Self::Name => "a name of 1 to 64 characters A-Z a-z 0-9 _ . -",
            Self::Path => "a path; relative ones start from the directory of this file",
            Self::Glob => "a path in which * and ? stand for parts of a name",
            Self::Listen => "\"IP:PORT\", \"[IPV6]:PORT\" or \"unix:/PATH\"",
            Self::Endpoint => "\"HOST:PORT\", \"IP:PORT\", \"[IPV6]:PORT\" or \"unix:/PATH\"",
            Self::HostPort => "\"HOST:PORT\" with a name as the host",
            Self::ServiceName => "a name such as \"_http._tcp.example.com\"",
            Self::NameServer => "\"IP\", \"IP:PORT\" or \"[IPV6]:PORT\"",
            Self::Cidr => "an IP address or a network such as \"10.0.0.0/8\"",
            Self::Host => "a host such as \"example.com\", \"*.example.com\" or \"~REGEX\"",
            Self::PathPattern => "\"/prefix\", \"=/exact\" or \"~REGEX\"",
            Self::Prefix => "a path that begins with /",
            Self::Method => "a method such as \"GET\"",
            Self::HeaderName => "the name of a header that is not about framing or the connection",
            Self::HeaderValue => "the value of a header; ${variables} are filled in",
            Self::ValuePattern => "\"value\", \"~REGEX\", \"*\" (present) or \"!\" (absent)",
            Self::HostHeader => "\"preserve\", \"endpoint\" or a host name",
            Self::Authority => "a host name, with or without a port",
            Self::Request => "a path that begins with /, with or without a query",
            Self::PlainValue => "the value of a header",
            Self::StatusSet => "statuses such as \"200\", \"200-399\" or \"200,301-308\"",
            Self::TextPattern => "\"text\" or \"~REGEX\"",
            Self::HashKey => "\"client_ip\", \"uri\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\"",
            Self::CookieName => "the name of a cookie",
            Self::CookiePath => "a path that begins with /, without `;`",
            Self::CookieDomain => "a host name, without a port",
            Self::Mode => "permission bits such as \"0660\"",
            Self::AccessFormat => "\"combined\", \"json\" or an nginx log_format string",
            Self::Regex => "a regular expression",
            Self::Target => "a URL or path; ${variables} are filled in",
            Self::Upgrade => "the name of a protocol such as \"websocket\"",
            Self::Origin => {
                "an origin such as \"https://app.example.com\" or \"https://*.example.com\", or \"null\""
            }
            Self::Secret => "\"env:NAME\" or \"file:/PATH\"",
            Self::Redis => {
                "a URL such as \"redis://HOST\", \"rediss://HOST\", \"redis+sentinel://HOST,HOST/MASTER\" or \"redis+cluster://HOST,HOST\", or where it is kept: \"env:NAME\" or \"file:/PATH\""
            }
        };
        text.to_owned()
    }

    /// Gives a text the type that this form has in TOML: values from the environment and defaults are texts.
    #[must_use]
    pub fn value_of_text(self, text: &str) -> Value {
        let typed = match self {
            Self::Bool => text.parse().ok().map(Value::Bool),
            Self::Integer { .. } | Self::Workers => text.replace('_', "").parse().ok().map(Value::Integer),
            Self::Ratio | Self::Factor => text
                .parse()
                .ok()
                .filter(|n: &f64| n.is_finite())
                .map(Value::Float),
            _ => None,
        };
        typed.unwrap_or_else(|| Value::Text(text.to_owned()))
    }

    /// Reads a value; relative paths start from `base`.
    pub fn read(self, value: &Value, base: &Path) -> Result<Scalar, Complaint> {
        match (self, value) {
            (Self::Bool, Value::Bool(b)) => Ok(Scalar::Bool(*b)),
            (Self::Integer { min, max }, Value::Integer(n)) => integer(*n, min, max).map(Scalar::Integer),
            (Self::Workers, Value::Integer(n)) => integer(*n, 1, MAX_WORKERS)
                .map(|n| Scalar::Workers(Workers::Count(usize::try_from(n).unwrap_or(1)))),
            (Self::Workers, Value::Text(text)) if text == "auto" => Ok(Scalar::Workers(Workers::Auto)),
            (Self::Ratio, Value::Integer(n)) => ratio(if *n == 0 || *n == 1 { *n as f64 } else { 2.0 }),
            (Self::Ratio, Value::Float(n)) => ratio(*n),
            (Self::Factor, Value::Integer(n)) => factor(*n as f64),
            (Self::Factor, Value::Float(n)) => factor(*n),
            (Self::Duration { zero }, Value::Text(text)) => duration(text, zero),
            // Zero is the one number of which the unit doesn't matter.
            (Self::Duration { zero: true }, Value::Integer(0)) => duration("0s", true),
            // A large one is rather meant in milliseconds, as elsewhere.
            (Self::Duration { .. }, Value::Integer(n)) if *n >= 1000 => {
                let hint = format!("write \"{n}ms\", or \"{n}s\" if seconds are meant");
                Err(Complaint::new("it has no unit").hint(hint))
            }
            (Self::Duration { .. }, Value::Integer(n)) => {
                Err(Complaint::new("it has no unit").instead(&format!("{n}s")))
            }
            (Self::Size { min, max }, Value::Text(text)) => size(quantity::size(text)?, min, max),
            (Self::Size { min, max }, Value::Integer(n)) => match u64::try_from(*n) {
                Ok(n) => size(n, min, max),
                Err(_) => Err(Complaint::new("it is out of range")),
            },
            (Self::Mode, Value::Integer(n)) => mode(u32::try_from(*n).ok()),
            (Self::StatusSet, Value::Integer(n)) => status::set(&n.to_string()).map(Scalar::StatusSet),
            (_, Value::Text(text)) => self.read_text(text, base),
            _ => Err(Complaint::wrong_type()),
        }
    }

    fn read_text(self, text: &str, base: &Path) -> Result<Scalar, Complaint> {
        match self {
            Self::Choice(names) => choice(text, names),
            Self::Grant => grant(text).map(Scalar::Text),
            Self::Body => header::body(text).map(Scalar::Text),
            Self::Word => word(text).map(Scalar::Text),
            Self::Name => name(text).map(Scalar::Text),
            Self::Path => file_path(text, base),
            Self::Glob => word(text).map(Scalar::Text),
            Self::Listen => address::listen(text, base).map(Scalar::Listen),
            Self::Endpoint => address::endpoint(text, base).map(|it| Scalar::endpoint(it, text)),
            Self::HostPort => address::host_port(text).map(|it| Scalar::endpoint(it, text)),
            Self::ServiceName => address::service_name(text).map(Scalar::Text),
            Self::NameServer => address::name_server(text).map(Scalar::NameServer),
            Self::Cidr => address::cidr(text).map(Scalar::Cidr),
            Self::Host => address::host_pattern(text).map(Scalar::Host),
            Self::PathPattern => pattern::path(text).map(Scalar::PathPattern),
            Self::Prefix => pattern::plain_path(text).map(|()| Scalar::Text(text.to_owned())),
            Self::Method => header::method(text).map(Scalar::Text),
            Self::HeaderName => header::edited_name(text).map(Scalar::Text),
            Self::HeaderValue => header::template(text).map(Scalar::Text),
            Self::ValuePattern => pattern::value(text).map(Scalar::ValuePattern),
            Self::HostHeader => address::host_header(text).map(Scalar::HostHeader),
            Self::Authority => address::authority(text).map(|()| Scalar::Text(text.to_owned())),
            Self::Request => pattern::request(text).map(|()| Scalar::Text(text.to_owned())),
            Self::PlainValue => header::value(text).map(Scalar::Text),
            Self::StatusSet => status::set(text).map(Scalar::StatusSet),
            Self::TextPattern => pattern::text(text).map(Scalar::TextPattern),
            Self::HashKey => pattern::hash_key(text).map(Scalar::HashKey),
            Self::CookieName => header::cookie_name(text).map(Scalar::Text),
            Self::CookiePath => pattern::cookie_path(text).map(Scalar::Text),
            Self::CookieDomain => address::cookie_domain(text).map(Scalar::Text),
            Self::Mode => mode(u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()),
            Self::AccessFormat => access_format(text),
            Self::Regex => pattern::regex(text).map(Scalar::Text),
            Self::Target => word(text)
                .and_then(|text| header::template(&text))
                .map(Scalar::Text),
            Self::Upgrade => header::upgrade(text).map(Scalar::Text),
            Self::Origin => address::origin(text).map(Scalar::Text),
            Self::Bool
            | Self::Integer { .. }
            | Self::Workers
            | Self::Ratio
            | Self::Factor
            | Self::Duration { .. }
            | Self::Size { .. }
            | Self::Secret
            | Self::Redis => Err(Complaint::wrong_type()),
        }
    }
}

fn integer(n: i128, min: i64, max: i64) -> Result<i64, Complaint> {
    i64::try_from(n)
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| Complaint::new("it is out of range"))
}

fn ratio(n: f64) -> Result<Scalar, Complaint> {
    if (0.0..=1.0).contains(&n) {
        Ok(Scalar::Ratio(n))
    } else {
        Err(Complaint::new("it is out of range"))
    }
}

fn factor(n: f64) -> Result<Scalar, Complaint> {
    if n == 0.0 || (1.0..=MAX_FACTOR).contains(&n) {
        Ok(Scalar::Ratio(n))
    } else {
        Err(Complaint::new("it is out of range"))
    }
}

fn duration(text: &str, zero: bool) -> Result<Scalar, Complaint> {
    let value = quantity::duration(text)?;
    if value.is_zero() && !zero {
        return Err(Complaint::new("this limit can't be turned off"));
    }
    Ok(Scalar::Duration(value, text.into()))
}

fn size(value: u64, min: u64, max: u64) -> Result<Scalar, Complaint> {
    if (min..=max).contains(&value) {
        Ok(Scalar::Size(value))
    } else {
        Err(Complaint::new("it is out of range"))
    }
}

fn choice(text: &str, names: &'static [&'static str]) -> Result<Scalar, Complaint> {
    if let Some(name) = names.iter().find(|name| **name == text) {
        return Ok(Scalar::Choice(name));
    }
    let mut complaint = Complaint::wrong_type();
    complaint.hint = suggest::did_you_mean(text, names.iter().copied())
        .or_else(|| habits::word(text, names).map(|ours| format!("it is called `{ours}` here")));
    Err(complaint)
}

fn word(text: &str) -> Result<String, Complaint> {
    if text.trim().is_empty() {
        return Err(Complaint::new("it is empty"));
    }
    match text.chars().find(|c| c.is_control()) {
        Some(c) => Err(Complaint::new(format!("it contains {c:?}"))),
        None => Ok(text.to_owned()),
    }
}

/// Checks the name of an object.
pub fn name(text: &str) -> Result<String, Complaint> {
    let well = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if well && (1..=64).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(Complaint::wrong_type())
    }
}

fn grant(text: &str) -> Result<String, Complaint> {
    match Grant::from_text(text) {
        Some(Grant::Register(upstream)) => name(&upstream).map(|_| text.to_owned()),
        Some(Grant::Role(_)) => Ok(text.to_owned()),
        None => choice(text, Role::NAMES).map(|_| text.to_owned()),
    }
}

fn file_path(text: &str, base: &Path) -> Result<Scalar, Complaint> {
    let text = word(text)?;
    // Standard output, where a path to write to is asked for.
    Ok(Scalar::Path(if text == "-" {
        text.into()
    } else {
        base.join(text)
    }))
}

fn mode(bits: Option<u32>) -> Result<Scalar, Complaint> {
    bits.filter(|bits| *bits <= 0o777)
        .map(Scalar::Mode)
        .ok_or_else(|| Complaint::new("it is not permission bits").hint("write \"0660\" or 0o660"))
}

fn access_format(text: &str) -> Result<Scalar, Complaint> {
    let format = match text {
        "combined" => AccessFormat::Combined,
        "json" => AccessFormat::Json,
        _ if text.contains('$') => AccessFormat::Template(text.to_owned()),
        _ => {
            let mut complaint = Complaint::new("a format of one's own has $variables");
            complaint.hint = suggest::did_you_mean(text, ["combined", "json"]);
            return Err(complaint);
        }
    };
    Ok(Scalar::AccessFormat(format))
}

/// `"a", "b" or "c"`.
fn join_or(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
