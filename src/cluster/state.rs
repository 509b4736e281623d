//! Whether the bus works, since when, and why not.

use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// How the bus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Condition {
    /// In this process alone, as configured.
    Embedded = 0,
    Live = 1,
    /// It works in part, or slowly.
    Degraded = 2,
    /// Nothing is shared; every gateway goes by its own view.
    Down = 3,
    /// It is back, and what is shared is being read again.
    Resync = 4,
}

impl Condition {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Resync => "resync",
        }
    }

    /// What the metric says.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal,)*) => {
        /// Why something about the bus does not work.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $($(#[doc = $doc])* $variant,)* }

        impl Reason {
            /// Every one, for metrics.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// Nothing has been tried yet.
    Starting "starting",
    /// The name of the host can't be looked up.
    Resolve "resolve",
    /// Nobody listens there.
    Refused "refused",
    /// It can't be reached.
    Unreachable "unreachable",
    /// No answer in time.
    Timeout "timeout",
    /// The other side ended the connection.
    Closed "closed",
    /// TLS could not be agreed on.
    Tls "tls",
    /// A user or password that it does not take.
    Auth "auth",
    /// The user may not do what is needed.
    Permission "permission",
    /// It is a replica.
    ReadOnly "read_only",
    /// It has too few replicas to take writes.
    NoReplicas "no_replicas",
    /// It reads its data in.
    Loading "loading",
    /// A script keeps it busy.
    Busy "busy",
    /// The Redis Cluster does not serve our keys.
    ClusterDown "cluster_down",
    /// No sentinel knows a master.
    NoMaster "no_master",
    /// It has no memory left for writes.
    OutOfMemory "out_of_memory",
    /// Its disk does not take what it has to keep.
    Disk "disk",
    /// It is something else, or too old.
    NotRedis "not_redis",
    /// A key of ours holds something of another kind.
    WrongType "wrong_type",
    /// It said something that can't be.
    Protocol "protocol",
    /// It said something larger than may be.
    TooLarge "too_large",
    /// What we tell ourselves does not arrive.
    Deaf "deaf",
    /// It took our subscriptions away.
    Unsubscribed "unsubscribed",
    /// Another server is the master now.
    Moved "moved",
    /// It answers late.
    Slow "slow",
    /// We ended it.
    Ended "ended",
}

impl Reason {
    /// What an operator can look at; `None` where nothing but waiting helps.
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Resolve => "is the host in cluster.redis right, and does this machine's DNS know it?",
            Self::Refused => "does the Redis run, and are host and port in cluster.redis right?",
            Self::Unreachable => "is there a way from here to the host in cluster.redis?",
            Self::Timeout => {
                "does the Redis run, and is there a firewall before it? Where it speaks TLS cluster.redis begins with rediss://, and else with redis://"
            }
            Self::Closed => "does the Redis run? Where it speaks TLS cluster.redis begins with rediss://",
            Self::Tls => {
                "cluster.redis_tls names the authority (ca) and the name (server_name) of its certificate; where the Redis speaks no TLS cluster.redis begins with redis://"
            }
            Self::Auth => {
                "are cluster.redis_user and cluster.redis_password, or those in cluster.redis, what the Redis knows?"
            }
            Self::Permission => {
                "the user needs ~PREFIX:1:NAME:* &PREFIX:1:NAME:* +@all -@dangerous -@admin, with cluster.prefix and cluster.name"
            }
            Self::ReadOnly => {
                "cluster.redis names a replica: name the master, or the sentinels (redis+sentinel://HOST,HOST/MASTER)"
            }
            Self::NoReplicas => "fewer replicas are there than min-replicas-to-write of the Redis wants",
            Self::NoMaster => "do the sentinels know the name of the master in cluster.redis?",
            Self::OutOfMemory => "raise maxmemory of the Redis, or give the cluster one of its own",
            Self::Disk => "the Redis can't save what it holds: its log says why",
            Self::ClusterDown => "the Redis Cluster serves no slot of our keys: CLUSTER INFO says why",
            Self::NotRedis => "is cluster.redis right? It takes a Redis from version 6 on",
            Self::WrongType => {
                "somebody else uses keys of this name: see cluster.prefix, cluster.name, and the database in cluster.redis"
            }
            Self::Deaf | Self::Unsubscribed => {
                "may the user subscribe, and is there something between that swallows what the Redis publishes?"
            }
            Self::Starting
            | Self::Loading
            | Self::Busy
            | Self::Protocol
            | Self::TooLarge
            | Self::Moved
            | Self::Slow
            | Self::Ended => return None,
        })
    }
}

/// What the bus is like at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BusState {
    pub condition: Condition,
    /// Why it is not as it should be.
    pub reason: Option<Reason>,
    /// The reason in a sentence, with what was met; may be empty.
    pub detail: String,
    /// What an operator can look at.
    pub hint: Option<&'static str>,
    /// Since when the condition and the reason are these.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
    /// The server that is spoken to, without credentials.
    pub server: Option<String>,
    /// The latest round trip.
    #[serde(rename = "rtt_ms", serialize_with = "as_millis")]
    pub rtt: Option<Duration>,
}

impl BusState {
    #[must_use]
    pub fn embedded() -> Self {
        Self::new(Condition::Embedded, None, String::new())
    }

    /// As of now.
    #[must_use]
    pub fn new(condition: Condition, reason: Option<Reason>, detail: String) -> Self {
        Self {
            condition,
            reason,
            detail,
            hint: reason.and_then(Reason::advice),
            since: Timestamp::now(),
            server: None,
            rtt: None,
        }
    }

    /// Whether what others share is known here and what is announced gets to them.
    #[must_use]
    pub const fn works(&self) -> bool {
        !matches!(self.condition, Condition::Down)
    }
}

fn as_text<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn as_millis<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_f64((time.as_secs_f64() * 1e6).round() / 1e3),
        None => serializer.serialize_none(),
    }
}
