//! Keys of a gateway among others.

use super::DEADLINE;
use super::tls::{CA, CERT, KEY};
use crate::config::choices::Choice;
use crate::config::form::Form;
use crate::config::keys::{Key, legacy};
use crate::config::model::{ConfigSource, DuplicateNode};

pub(super) const CLUSTER: &[Key] = &[
    Key::new(
        "name",
        Form::Name,
        "default",
        "Name of the cluster. Clusters of different names share a Redis without seeing each other.",
    )
    .restart(),
    Key::optional(
        "redis",
        Form::Redis,
        "\"redis://127.0.0.1:6379\"",
        "The Redis, from version 6 on, that the gateways of the cluster share: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `redis+unix:///PATH`, `redis+sentinel://HOST,HOST/MASTER` or `redis+cluster://HOST,HOST`; with `rediss` in place of `redis` over TLS. Several HOSTs after `redis://` are a master and its replicas, of which the first that answers as a master is taken: never two masters. Also `env:NAME` or `file:/PATH`, where that URL is kept. No request waits for it: while it is away every gateway goes by what it knows. Absent: a cluster of one; from one to the other takes a restart.",
    )
    .legacy(&legacy::REDIS_URL),
    Key::new(
        "enabled",
        Form::Bool,
        "true",
        "false: one gateway alone, whatever `redis` says.",
    )
    .legacy(&legacy::ENABLE_CLUSTERING)
    .or_legacy(&legacy::CLUSTER_MODE)
    .restart(),
    Key::optional(
        "redis_user",
        Form::Word,
        "\"tidegate\"",
        "User of the Redis, in place of one in the URL. It needs `~PREFIX:1:NAME:* &PREFIX:1:NAME:* +@all -@dangerous -@admin`.",
    ),
    Key::optional(
        "redis_password",
        Form::Secret,
        "\"env:REDIS_PASSWORD\"",
        "Password of the Redis: `env:NAME` or `file:/PATH`.",
    ),
    Key::optional("sentinel_user", Form::Word, "\"tidegate\"", "User of the sentinels."),
    Key::optional(
        "sentinel_password",
        Form::Secret,
        "\"env:SENTINEL_PASSWORD\"",
        "Password of the sentinels: `env:NAME` or `file:/PATH`.",
    ),
    Key::table(
        "redis_tls",
        REDIS_TLS,
        "Terms of TLS to the Redis and its sentinels, for `rediss` URLs. Default: the system's certificates, and the host in the URL as the name.",
    ),
    Key::optional(
        "node",
        Form::Name,
        "\"gw-1\"",
        "Id of this gateway among the others. Default: one made once, in the state directory.",
    )
    .legacy(&legacy::NODE_ID)
    .restart(),
    Key::new(
        "prefix",
        Form::Name,
        "tidegate",
        "First part of the names of keys and channels: `PREFIX:1:NAME:…`.",
    )
    .legacy(&legacy::REDIS_KEY_PREFIX)
    .restart(),
    Key::optional(
        "key",
        Form::Secret,
        "\"env:TIDEGATE_CLUSTER_KEY\"",
        "Secret of the cluster, the same on all its gateways: signs what they announce, and seals what they share. With it nothing is believed that it did not sign.",
    )
    .restart(),
    Key::new(
        "heartbeat",
        DEADLINE,
        "1s",
        "Time between the signs of life of a gateway.",
    )
    .legacy(&legacy::HEARTBEAT)
    .restart(),
    Key::new(
        "gone_after",
        DEADLINE,
        "3s",
        "A gateway without a sign of life for so long is no member any more. Where only `heartbeat` is named it is three of those, and at least the default.",
    )
    .legacy(&legacy::GONE_AFTER)
    .restart(),
    Key::new(
        "duplicate",
        Form::Choice(DuplicateNode::NAMES),
        "rename",
        "What a gateway does that finds another with its id, until the id is free: `rename` takes part under the id with a number behind it, `refuse` stays out of the cluster. It serves either way.",
    )
    .restart(),
    Key::new(
        "config",
        Form::Choice(ConfigSource::NAMES),
        "off",
        "`follow`: what is published to the cluster (`tidegate config publish FILE`) takes the place of `dns`, `listeners`, `routes` and `upstreams` of this file, which serve until something is published and after it was taken back. The other sections, and variables of the environment, stay the gateway's own. What was in force last is kept in the state directory, and a start needs no Redis. `off`: the file alone counts.",
    )
    .restart(),
    Key::new(
        "ping",
        Form::Bool,
        "false",
        "Ask other gateways directly whether they live, one question per heartbeat at the admin listener of each, so that members are known while the Redis is away. It takes `key`, which signs questions and answers, and an admin listener that the others reach. The 15 next ones are asked.",
    )
    .restart(),
    Key::optional(
        "advertise",
        Form::Listen,
        "\"10.0.0.1:9900\"",
        "Where other gateways reach the admin listener of this one, for `ping`. Default: its own address.",
    )
    .restart(),
    Key::table("labels", LABELS, "What other gateways and operators see of this one."),
];

const REDIS_TLS: &[Key] = &[
    Key::optional(
        "server_name",
        Form::Word,
        "\"redis.internal\"",
        "Name, or IP address, that certificates must have. Default: the host that is connected to, as the URL or a sentinel names it.",
    ),
    CA,
    CERT,
    KEY,
    Key::new(
        "verify",
        Form::Bool,
        "true",
        "Look at certificates. false: whoever answers is believed to be the Redis.",
    ),
];

const LABELS: &[Key] = &[
    Key::optional("role", Form::Name, "\"main\"", "What it is for.")
        .legacy(&legacy::ROLE)
        .restart(),
    Key::optional("region", Form::Name, "\"eu-west\"", "Where it is.").restart(),
    Key::optional("zone", Form::Name, "\"a\"", "Where it is, more exactly.").restart(),
];
