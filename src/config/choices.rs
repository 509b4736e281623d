//! The words that enumerations have in a configuration, both ways.

use super::model::{
    AcmeChallenge, AcmeKey, AddressFamily, Alpn, Balance, Cause, ClientAuthMode, ConfigSource, DotSegments,
    DoubleSlash, DuplicateNode, EncodedSlash, HealthKind, InitialHealth, LogFormat, LogLevel, OnMissing,
    Protocol, ProxyVersion, RequestIdPolicy, Role, SameSite, Secure, ShedOrder, TlsPolicy, UnknownName,
    UpstreamProtocol,
};

/// An enumeration written as one of a few words.
pub trait Choice: Copy + Sized + 'static {
    /// The words, in the order they are told.
    const NAMES: &'static [&'static str];

    /// The value of a word.
    fn from_name(name: &str) -> Option<Self>;

    /// The word of a value.
    fn name(self) -> &'static str;
}

macro_rules! choices {
    ($( $type:ident { $( $name:literal $variant:ident ),* $(,)? } )*) => { $(
        impl Choice for $type {
            const NAMES: &'static [&'static str] = &[ $( $name ),* ];

            fn from_name(name: &str) -> Option<Self> {
                match name { $( $name => Some(Self::$variant), )* _ => None }
            }

            fn name(self) -> &'static str {
                match self { $( Self::$variant => $name ),* }
            }
        }
    )* };
}

choices! {
    LogLevel { "error" Error, "warn" Warn, "info" Info, "debug" Debug, "trace" Trace }
    LogFormat { "text" Text, "json" Json }
    RequestIdPolicy { "generate" Generate, "if_trusted" IfTrusted, "always_keep" AlwaysKeep, "off" Off }
    AddressFamily { "any" Any, "ipv4" Ipv4, "ipv6" Ipv6 }
    Protocol { "h1" H1, "h2c" H2c }
    DotSegments { "resolve" Resolve, "reject" Reject, "keep" Keep }
    DoubleSlash { "merge" Merge, "reject" Reject, "keep" Keep }
    EncodedSlash { "reject" Reject, "keep" Keep, "decode" Decode }
    UnknownName { "reject" Reject, "first" First }
    TlsPolicy { "modern" Modern, "intermediate" Intermediate }
    Alpn { "h2" H2, "http/1.1" Http11 }
    AcmeChallenge { "tls-alpn-01" TlsAlpn01, "http-01" Http01 }
    AcmeKey { "p256" P256, "p384" P384, "rsa2048" Rsa2048, "rsa4096" Rsa4096 }
    ClientAuthMode { "none" None, "optional" Optional, "required" Required }
    HealthKind { "http" Http, "tcp" Tcp, "grpc" Grpc, "websocket" Websocket }
    InitialHealth { "probing" Probing, "healthy" Healthy, "unhealthy" Unhealthy }
    ConfigSource { "off" Off, "follow" Follow }
    DuplicateNode { "rename" Rename, "refuse" Refuse }
    Balance { "round_robin" RoundRobin, "weighted" Weighted, "least_connections" LeastConnections,
        "random_two" RandomTwo, "least_time" LeastTime, "adaptive" Adaptive, "ip_hash" IpHash, "hash" Hash,
        "first" First }
    Cause {
        "connect" Connect, "reset" Reset, "timeout" Timeout, "invalid" Invalid, "5xx" ServerError,
        "408" Status408, "421" Status421, "425" Status425, "429" Status429,
        "500" Status500, "502" Status502, "503" Status503, "504" Status504,
        "grpc_cancelled" GrpcCancelled, "grpc_deadline_exceeded" GrpcDeadlineExceeded,
        "grpc_resource_exhausted" GrpcResourceExhausted, "grpc_internal" GrpcInternal, "grpc_unavailable" GrpcUnavailable,
    }
    ShedOrder { "oldest" Oldest, "least_active" LeastActive }
    ProxyVersion { "v1" V1, "v2" V2 }
    UpstreamProtocol { "h1" H1, "h2" H2, "auto" Auto }
    OnMissing { "rebalance" Rebalance, "reject" Reject }
    Secure { "auto" Auto, "always" Always, "never" Never }
    SameSite { "lax" Lax, "strict" Strict, "none" None, "off" Off }
    Role { "viewer" Viewer, "operator" Operator, "admin" Admin }
}
