//! Single values after they were read: typed, and writable the way they are read.

use super::choices::Choice;
use super::form::quantity;
use super::model::{
    AccessFormat, EndpointAddress, HashKey, HostHeader, HostPattern, ListenAddress, PathPattern, RedisUrl,
    Secret, StatusSet, TextPattern, ValuePattern, Workers,
};
use super::path::push_text;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A single value.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Bool(bool),
    Integer(i64),
    Workers(Workers),
    Ratio(f64),
    /// With its text: `90s` and `1m30s` are the same, and people keep to the one they wrote.
    Duration(Duration, Box<str>),
    Size(u64),
    Choice(&'static str),
    Text(String),
    Path(PathBuf),
    Listen(ListenAddress),
    /// With its text, which is the endpoint's identity.
    Endpoint(EndpointAddress, String),
    NameServer(SocketAddr),
    Cidr(IpNet),
    Host(HostPattern),
    PathPattern(PathPattern),
    ValuePattern(ValuePattern),
    HostHeader(HostHeader),
    StatusSet(StatusSet),
    TextPattern(TextPattern),
    HashKey(HashKey),
    Mode(u32),
    AccessFormat(AccessFormat),
    /// With what may be shown of it.
    Secret(Secret, String),
    /// With what may be shown of it.
    Redis(RedisUrl, String),
}

impl Scalar {
    /// An endpoint; a relative socket path becomes an absolute one, everything else stays as written.
    #[must_use]
    pub fn endpoint(address: EndpointAddress, text: &str) -> Self {
        let text = match &address {
            EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
            EndpointAddress::Ip(_) | EndpointAddress::Name { .. } => text.to_owned(),
        };
        Self::Endpoint(address, text)
    }

    /// As TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        match self.to_json() {
            serde_json::Value::String(text) => {
                let mut out = String::new();
                push_text(&mut out, &text);
                out
            }
            other => other.to_string(),
        }
    }

    /// As JSON: a boolean, a number or a string.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(b) => (*b).into(),
            Self::Integer(n) => (*n).into(),
            Self::Workers(Workers::Count(n)) => (*n).into(),
            Self::Ratio(n) => (*n).into(),
            _ => self.text().into(),
        }
    }

    /// The text of a value that is written as a string.
    fn text(&self) -> String {
        match self {
            Self::Bool(b) => b.to_string(),
            Self::Integer(n) => n.to_string(),
            Self::Workers(Workers::Count(n)) => n.to_string(),
            Self::Workers(Workers::Auto) => "auto".to_owned(),
            Self::Ratio(n) => n.to_string(),
            Self::Duration(_, text) => text.to_string(),
            Self::Size(value) => quantity::write_size(*value),
            Self::Choice(name) => (*name).to_owned(),
            Self::Text(text) | Self::Endpoint(_, text) | Self::Secret(_, text) | Self::Redis(_, text) => {
                text.clone()
            }
            Self::Path(path) => path.display().to_string(),
            Self::Listen(ListenAddress::Tcp(address)) => address.to_string(),
            Self::Listen(ListenAddress::Unix(path)) => format!("unix:{}", path.display()),
            Self::NameServer(address) => address.to_string(),
            Self::Cidr(net) => net.to_string(),
            Self::Host(HostPattern::Exact(name)) => name.clone(),
            Self::Host(HostPattern::Wildcard(name)) => format!("*.{name}"),
            Self::Host(HostPattern::Regex(regex))
            | Self::PathPattern(PathPattern::Regex(regex))
            | Self::ValuePattern(ValuePattern::Regex(regex))
            | Self::TextPattern(TextPattern::Regex(regex)) => format!("~{regex}"),
            Self::TextPattern(TextPattern::Contains(text)) => text.clone(),
            Self::StatusSet(set) => set.to_string(),
            Self::PathPattern(PathPattern::Exact(path)) => format!("={path}"),
            Self::PathPattern(PathPattern::Prefix(path)) => path.clone(),
            Self::ValuePattern(ValuePattern::Exact(value)) => value.clone(),
            Self::ValuePattern(ValuePattern::Present) => "*".to_owned(),
            Self::ValuePattern(ValuePattern::Absent) => "!".to_owned(),
            Self::HashKey(key) => key.to_string(),
            Self::HostHeader(HostHeader::Preserve) => "preserve".to_owned(),
            Self::HostHeader(HostHeader::Endpoint) => "endpoint".to_owned(),
            Self::HostHeader(HostHeader::Name(name)) => name.clone(),
            Self::Mode(bits) => format!("{bits:04o}"),
            Self::AccessFormat(AccessFormat::Combined) => "combined".to_owned(),
            Self::AccessFormat(AccessFormat::Json) => "json".to_owned(),
            Self::AccessFormat(AccessFormat::Template(text)) => text.clone(),
        }
    }
}

/// What a reader asks for.
pub trait FromScalar: Sized {
    /// `None` if the value is of another kind: then the table of keys and the reader disagree.
    fn from_scalar(value: &Scalar) -> Option<Self>;
}

macro_rules! from_scalar {
    ($( $type:ty: $pattern:pat => $value:expr; )*) => { $(
        impl FromScalar for $type {
            fn from_scalar(value: &Scalar) -> Option<Self> {
                match value { $pattern => $value, _ => None }
            }
        }
    )* };
}

from_scalar! {
    bool: Scalar::Bool(b) => Some(*b);
    u16: Scalar::Integer(n) => Self::try_from(*n).ok();
    u32: Scalar::Integer(n) => Self::try_from(*n).ok();
    i32: Scalar::Integer(n) => Self::try_from(*n).ok();
    usize: Scalar::Integer(n) => Self::try_from(*n).ok();
    Workers: Scalar::Workers(workers) => Some(*workers);
    f64: Scalar::Ratio(n) => Some(*n);
    Duration: Scalar::Duration(value, _) => Some(*value);
    String: Scalar::Text(text) => Some(text.clone());
    PathBuf: Scalar::Path(path) => Some(path.clone());
    ListenAddress: Scalar::Listen(address) => Some(address.clone());
    (EndpointAddress, String): Scalar::Endpoint(address, text) => Some((address.clone(), text.clone()));
    SocketAddr: Scalar::NameServer(address) => Some(*address);
    IpNet: Scalar::Cidr(net) => Some(*net);
    HostPattern: Scalar::Host(pattern) => Some(pattern.clone());
    PathPattern: Scalar::PathPattern(pattern) => Some(pattern.clone());
    ValuePattern: Scalar::ValuePattern(pattern) => Some(pattern.clone());
    HostHeader: Scalar::HostHeader(header) => Some(header.clone());
    StatusSet: Scalar::StatusSet(set) => Some(set.clone());
    TextPattern: Scalar::TextPattern(pattern) => Some(pattern.clone());
    HashKey: Scalar::HashKey(key) => Some(key.clone());
    AccessFormat: Scalar::AccessFormat(format) => Some(format.clone());
    Secret: Scalar::Secret(secret, _) => Some(secret.clone());
    RedisUrl: Scalar::Redis(url, _) => Some(url.clone());
}

impl FromScalar for u64 {
    fn from_scalar(value: &Scalar) -> Option<Self> {
        match value {
            Scalar::Size(size) => Some(*size),
            Scalar::Integer(n) => Self::try_from(*n).ok(),
            _ => None,
        }
    }
}

/// Permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromScalar for Mode {
    fn from_scalar(value: &Scalar) -> Option<Self> {
        match value {
            Scalar::Mode(bits) => Some(Self(*bits)),
            _ => None,
        }
    }
}

/// One of the words of an enumeration.
pub struct Chosen<T>(pub T);

impl<T: Choice> FromScalar for Chosen<T> {
    fn from_scalar(value: &Scalar) -> Option<Self> {
        match value {
            Scalar::Choice(name) => T::from_name(name).map(Self),
            _ => None,
        }
    }
}
