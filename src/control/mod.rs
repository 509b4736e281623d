//! The only mutator: every change of the running gateway is a [`Command`] that one task carries out, one after
//! the other, whoever sent it (a changed file, a signal, the admin API, the control socket). Audit entry, event
//! and log line are written there, once.
//!
//! | file | does |
//! |---|---|
//! | [`command`] | what can be asked for, by whom, and what can come of it |
//! | [`mutator`] | the task: takes commands, carries them out, writes them down |
//! | [`reload`] | load, validate, compile, bind, swap, retire |
//! | [`listeners`], [`workers`] | the sockets and the threads, which outlive configurations |
//! | [`supervise`] | looks after the workers and hears their reports |
//! | [`watch`] | notices that a file changed |
//! | [`acme`] | gets certificates from an authority, and renews them |
//! | [`dns`], [`discovery`] | keep names resolved, and follow them with the endpoints that they name |
//! | [`health`] | probes endpoints |
//! | [`drain`] | the orderly end |
//! | [`overrides`] | endpoints and balancers changed at run time, kept over reloads and restarts |
//! | [`services`] | what application servers register themselves |
//! | [`drains`] | endpoints that were told to leave: what is left there, and the deadline |
//! | [`sharing`] | what gateways have in common, and how their copies agree |
//! | [`drills`] | fail-over tried out, on purpose and for a while |
//! | [`rebalance`] | tunnels that are moved to endpoints that joined |
//! | [`cluster`] | the gateway among others: its beats, who is there, what it tells |
//! | [`following`] | what was published to the cluster, as this gateway has it |
//! | [`failover`] | the history of endpoints that went and came |
//! | [`status`] | the view that the API shows, built on demand |
//! | [`unverified`] | tells whose certificates nobody looks at |
//! | [`gateway`] | what all of these share |
//! | [`sticky_key`] | the key of sticky cookies where none is configured |
//! | [`state_dir`], [`process`], [`cores`], [`memory`], [`systemd`] | the process in its surroundings |

pub mod acme;
mod breaker;
pub mod certificates;
pub mod change;
pub mod cluster;
pub mod command;
pub mod cores;
pub mod discovery;
pub mod dns;
pub mod drain;
pub mod drains;
pub mod drills;
pub mod explain;
pub mod failover;
pub mod following;
pub mod gateway;
pub mod health;
pub mod journal;
pub mod listeners;
pub mod memory;
pub mod mutator;
pub mod outlier;
pub mod overrides;
pub mod overriding;
pub mod process;
pub mod rebalance;
pub mod reload;
pub mod services;
pub mod sharing;
pub mod state_dir;
pub mod status;
pub mod sticky_key;
pub mod supervise;
pub mod systemd;
pub mod tunnels;
pub mod unverified;
pub mod watch;
pub mod workers;

pub use command::{Action, Actor, Command, Commands, Outcome};
pub use gateway::Gateway;
