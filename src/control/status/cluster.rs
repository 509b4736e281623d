//! The cluster as the API shows it.

use crate::cluster::membership::Liveness;
use crate::cluster::record::Record;
use crate::cluster::state::BusState;
use crate::control::following::Following;
use crate::control::gateway::{Gateway, Phase};
use crate::control::sharing::config::document::About;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Instant;

/// This gateway among others.
#[derive(Debug, Serialize)]
pub struct ClusterStatus {
    /// Whether it shares anything with others: there is a Redis.
    pub mode: bool,
    pub name: String,
    /// `cluster-RANDOM-SECONDS-RANDOM`, the same on all its gateways; empty before it is known.
    pub id: String,
    /// Gateways that are there, this one counted.
    pub nodes: usize,
    /// What this one is known by.
    pub node: String,
    pub incarnation: u64,
    /// Another gateway has its id.
    pub duplicate: bool,
    pub bus: BusState,
    /// Version of the announcements that this one makes: the greatest that all who are there understand.
    pub speaks: u8,
    /// Announcements that were not signed by `cluster.key`, or were meant for another channel, since the start.
    pub forged: u64,
    /// Whether what is told of the others is about now; otherwise it is the last that was known.
    pub fresh: bool,
    pub members: Vec<MemberStatus>,
    pub leases: Vec<LeaseStatus>,
    /// Version of the shared configuration; 0 for none.
    pub config_version: u64,
    /// What of it this gateway has.
    pub config: ConfigStatus,
}

/// The shared configuration, as this gateway has it.
#[derive(Debug, Serialize)]
pub struct ConfigStatus {
    /// Whether it takes what is published.
    pub follows: bool,
    /// What it has in force; 0 for its own file.
    pub version: u64,
    /// Who published that, when, why.
    pub published: Option<About>,
    /// How long the store has something that is not in force here; 0 while it has not.
    pub lag_seconds: f64,
    /// What was published and can't be taken here.
    pub refused: Option<RefusedStatus>,
}

/// What was published and is not in force.
#[derive(Debug, Serialize)]
pub struct RefusedStatus {
    /// 0 where that can't be told.
    pub version: u64,
    pub why: String,
    /// RFC 3339.
    pub since: String,
}

impl ConfigStatus {
    fn of(following: &Following) -> Self {
        let now = following.now();
        Self {
            follows: following.on,
            version: following.version(),
            published: now.map(|now| now.about.clone()),
            lag_seconds: (following.lag() * 1000.0).round() / 1000.0,
            refused: following.refused().map(|refused| RefusedStatus {
                version: refused.version,
                why: refused.why,
                since: refused.since.to_string(),
            }),
        }
    }
}

/// One gateway.
#[derive(Debug, Serialize)]
pub struct MemberStatus {
    pub node: String,
    /// `node-SUFFIX-NUMBER-RANDOM`, with the last part of the cluster's id; empty before it has one.
    pub id: String,
    pub incarnation: u64,
    /// `alive`, `suspect`, `draining`.
    pub state: &'static str,
    #[serde(rename = "self")]
    pub own: bool,
    /// Whether it has the same `cluster.key` as this one, or none as this one.
    pub same_key: bool,
    /// Whether its opinions count.
    pub voting: bool,
    pub version: String,
    pub role: String,
    pub region: String,
    pub zone: String,
    pub admin: String,
    /// RFC 3339.
    pub started: String,
    pub workers: u64,
    pub connections: u64,
    /// Version of the shared configuration that it has in force; 0 for its own file.
    pub config_version: u64,
    /// Share of its workers' time that is used, 0–1.
    pub load: f64,
    /// Time since its last sign of life.
    pub silent_ms: u64,
    /// How this is known of another: `redis`, or by its own answers, `ping`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'static str>,
}

/// Who does a chore that only one does.
#[derive(Debug, Serialize)]
pub struct LeaseStatus {
    pub task: String,
    pub holder: String,
    pub token: u64,
    pub remaining_ms: u64,
}

impl ClusterStatus {
    #[must_use]
    pub fn of(gateway: &Gateway) -> Self {
        let cluster = &gateway.cluster;
        let view = cluster.view();
        let now = Instant::now();
        let mut own = member(
            cluster.bus.node().to_string(),
            cluster.bus.incarnation(),
            &view.own,
        );
        own.own = true;
        own.id.clone_from(&cluster.identity().node);
        own.config_version = gateway.following.version();
        own.connections = gateway.board.connections() as u64;
        if gateway.phase() == Phase::Draining {
            own.state = "draining";
        }
        let mut members = vec![own];
        members.extend(view.members.iter().map(|known| {
            let mut shown = member(known.node.to_string(), known.incarnation, &known.record);
            shown.silent_ms = u64::try_from(known.silent(now).as_millis()).unwrap_or(u64::MAX);
            let directly = !view.fresh && known.is_known_directly();
            shown.same_key = cluster.has_our_key(&known.record);
            shown.via = Some(if directly { "ping" } else { "redis" });
            if known.liveness == Liveness::Suspect {
                shown.state = "suspect";
            }
            shown
        }));
        Self {
            mode: !cluster.bus.is_embedded(),
            name: cluster.name.clone(),
            id: cluster.identity().cluster.clone(),
            nodes: members.len(),
            node: cluster.bus.node().to_string(),
            incarnation: cluster.bus.incarnation(),
            duplicate: view.duplicate.is_some(),
            bus: cluster.bus.state(),
            speaks: cluster.bus.spoken(),
            forged: cluster.bus.counters().forged.get(),
            fresh: view.fresh,
            members,
            leases: view
                .leases
                .iter()
                .map(|lease| LeaseStatus {
                    task: lease.task.clone(),
                    holder: lease.holder.clone(),
                    token: lease.token,
                    remaining_ms: u64::try_from(lease.remaining.as_millis()).unwrap_or(u64::MAX),
                })
                .collect(),
            config_version: view.config,
            config: ConfigStatus::of(&gateway.following),
        }
    }

    /// Members that take work.
    #[must_use]
    pub fn active(&self) -> usize {
        self.members
            .iter()
            .filter(|member| member.state == "alive")
            .count()
    }

    /// The mean of the members' loads, 0–1.
    #[must_use]
    pub fn load(&self) -> f64 {
        let sum: f64 = self.members.iter().map(|member| member.load).sum();
        sum / self.members.len().max(1) as f64
    }
}

fn member(node: String, incarnation: u64, record: &Record) -> MemberStatus {
    MemberStatus {
        node,
        id: record.id.clone(),
        incarnation,
        state: if record.draining { "draining" } else { "alive" },
        own: false,
        same_key: true,
        voting: record.voting,
        version: record.version.clone(),
        role: record.role.clone(),
        region: record.region.clone(),
        zone: record.zone.clone(),
        admin: record.admin.clone(),
        started: Timestamp::from_millisecond(record.started)
            .map_or_else(|_| String::new(), |time| time.to_string()),
        workers: record.workers,
        connections: record.connections,
        config_version: record.config,
        load: (record.load * 1000.0).round() / 1000.0,
        silent_ms: 0,
        via: None,
    }
}
