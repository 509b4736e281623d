//! Variables that users' systems already carry, for keys that have them.

use crate::config::choices::Choice;
use crate::config::form::quantity;
use crate::config::model::Balance;
use std::time::Duration;

/// A variable for one key.
#[derive(Debug)]
pub struct Legacy {
    pub variable: &'static str,
    /// The text of the value in our terms, empty where it says nothing of the key, or what is wrong with it.
    pub translate: fn(&str) -> Result<String, String>,
    /// Whether it wins over the file: so for what a node has once; what stands for every upstream or route is
    /// a default, that the one which says otherwise is not bound by.
    pub wins: bool,
}

/// Algorithm of every upstream that does not name one.
pub const ALGORITHM: Legacy = Legacy {
    variable: "LB_ALGORITHM",
    translate: algorithm,
    wins: false,
};

/// Seconds that an endpoint has to answer, where the route does not say.
pub const TIMEOUT: Legacy = Legacy {
    variable: "LB_TIMEOUT",
    translate: seconds,
    wins: false,
};

/// Seconds from one probe of an endpoint to the next, where the upstream's checks do not say.
pub const HEALTH_INTERVAL: Legacy = Legacy {
    variable: "LB_HEALTH_CHECK_INTERVAL",
    translate: seconds_above_zero,
    wins: false,
};

/// Seconds after which a probe without an answer has failed, where the upstream's checks do not say.
pub const HEALTH_TIMEOUT: Legacy = Legacy {
    variable: "FAILOVER_DETECTION_TIMEOUT",
    translate: seconds_above_zero,
    wins: false,
};

/// Further tries of a request, where the upstream does not say.
pub const RETRIES: Legacy = Legacy {
    variable: "LB_RETRY_ATTEMPTS",
    translate: one_more,
    wins: false,
};

/// Tries of a request, the first included, where neither the upstream nor the variable above says.
pub const MAX_ATTEMPTS: Legacy = Legacy {
    variable: "FAILOVER_MAX_ATTEMPTS",
    translate: attempts,
    wins: false,
};

/// Seconds that an endpoint is left alone after it failed, where the upstream does not say.
pub const RECOVERY: Legacy = Legacy {
    variable: "FAILOVER_RECOVERY_TIMEOUT",
    translate: seconds_above_zero,
    wins: false,
};

/// Client connections of the node.
pub const MAX_CONNECTIONS: Legacy = Legacy {
    variable: "MAX_CONNECTIONS",
    translate: as_it_is,
    wins: true,
};

/// Workers of the node.
pub const WORKERS: Legacy = Legacy {
    variable: "CLUSTER_WORKERS",
    translate: as_it_is,
    wins: true,
};

/// The Redis of the cluster.
pub const REDIS_URL: Legacy = Legacy {
    variable: "REDIS_URL",
    translate: as_it_is,
    wins: true,
};

/// Whether the node uses that at all.
pub const ENABLE_CLUSTERING: Legacy = Legacy {
    variable: "ENABLE_CLUSTERING",
    translate: on_or_off,
    wins: true,
};

/// Off: neither several processes nor several gateways, as an app server understands it.
pub const CLUSTER_MODE: Legacy = Legacy {
    variable: "CLUSTER_MODE",
    translate: off_or_nothing,
    wins: true,
};

/// The same for the workers.
pub const ONE_WORKER: Legacy = Legacy {
    variable: "CLUSTER_MODE",
    translate: one_or_nothing,
    wins: true,
};

/// First part of keys in it.
pub const REDIS_KEY_PREFIX: Legacy = Legacy {
    variable: "REDIS_KEY_PREFIX",
    translate: without_colon,
    wins: true,
};

/// Id of the node.
pub const NODE_ID: Legacy = Legacy {
    variable: "NODE_ID",
    translate: as_it_is,
    wins: true,
};

/// What the node is for.
pub const ROLE: Legacy = Legacy {
    variable: "ROLE",
    translate: as_it_is,
    wins: true,
};

/// Milliseconds between signs of life.
pub const HEARTBEAT: Legacy = Legacy {
    variable: "HEARTBEAT_INTERVAL",
    translate: milliseconds,
    wins: true,
};

/// Milliseconds without one after which a node is gone.
pub const GONE_AFTER: Legacy = Legacy {
    variable: "FAILURE_DETECTION_TIMEOUT",
    translate: milliseconds,
    wins: true,
};

/// An algorithm by our word for it, or one that other systems have.
///
/// # Errors
/// The algorithms that there are.
pub fn algorithm(text: &str) -> Result<String, String> {
    const ALIASES: [(&str, Balance); 10] = [
        ("weighted_round_robin", Balance::Weighted),
        ("least_conn", Balance::LeastConnections),
        ("leastconn", Balance::LeastConnections),
        ("ai_optimized", Balance::Adaptive),
        ("random", Balance::RandomTwo),
        ("least_response_time", Balance::LeastTime),
        ("response_time", Balance::LeastTime),
        ("iphash", Balance::IpHash),
        ("source", Balance::IpHash),
        ("consistent_hash", Balance::Hash),
    ];
    let lower = text.trim().to_ascii_lowercase().replace('-', "_");
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| *alias == lower)
        .map(|(_, balance)| *balance);
    match alias.or_else(|| Balance::from_name(&lower)) {
        Some(balance) => Ok(balance.name().to_owned()),
        None => Err(format!("this version has {}", Balance::NAMES.join(", "))),
    }
}

fn seconds(text: &str) -> Result<String, String> {
    let text = text.trim();
    let value = text
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(|| quantity::duration(text).ok())
        .filter(|value| *value <= quantity::MAX_DURATION);
    value
        .map(quantity::write_duration)
        .ok_or_else(|| "accepted: a number of seconds".to_owned())
}

fn seconds_above_zero(text: &str) -> Result<String, String> {
    let text = seconds(text)?;
    if quantity::duration(&text).is_ok_and(|value| value.is_zero()) {
        return Err("accepted: a number of seconds above 0".to_owned());
    }
    Ok(text)
}

/// Most tries that a request may have.
const MOST_ATTEMPTS: u32 = 8;

fn one_more(text: &str) -> Result<String, String> {
    let retries = text.trim().parse::<u32>().ok();
    let attempts = retries.filter(|retries| *retries < MOST_ATTEMPTS);
    match attempts {
        Some(retries) => Ok((retries + 1).to_string()),
        None => Err(format!(
            "accepted: a number of retries from 0 to {}",
            MOST_ATTEMPTS - 1
        )),
    }
}

fn attempts(text: &str) -> Result<String, String> {
    let attempts = text.trim().parse::<u32>().ok();
    match attempts.filter(|attempts| (1..=MOST_ATTEMPTS).contains(attempts)) {
        Some(attempts) => Ok(attempts.to_string()),
        None => Err(format!(
            "accepted: a number of attempts from 1 to {MOST_ATTEMPTS}"
        )),
    }
}

fn milliseconds(text: &str) -> Result<String, String> {
    let number = text.trim().parse::<u64>().ok();
    let value = number.map(Duration::from_millis).filter(|value| !value.is_zero());
    value
        .filter(|value| *value <= quantity::MAX_DURATION)
        .map(quantity::write_duration)
        .ok_or_else(|| "accepted: a number of milliseconds above 0".to_owned())
}

fn on_or_off(text: &str) -> Result<String, String> {
    let on = switch(text).ok_or_else(|| "accepted: true or false".to_owned())?;
    Ok(on.to_string())
}

/// On says nothing: the file may say otherwise.
fn off_or_nothing(text: &str) -> Result<String, String> {
    Ok(Some(on_or_off(text)?)
        .filter(|on| on == "false")
        .unwrap_or_default())
}

fn one_or_nothing(text: &str) -> Result<String, String> {
    let off = !off_or_nothing(text)?.is_empty();
    Ok(if off { "1".to_owned() } else { String::new() })
}

fn switch(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn without_colon(text: &str) -> Result<String, String> {
    Ok(text.trim().trim_end_matches(':').to_owned())
}

fn as_it_is(text: &str) -> Result<String, String> {
    Ok(text.trim().to_owned())
}
