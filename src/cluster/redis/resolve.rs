//! Which server to talk to. Asked again at every attempt: what was true before an attempt failed need not be any more.

use super::dial::{self, Raw};
use super::fault::Fault;
use super::resp::Value;
use super::{Access, Login};
use crate::cluster::state::Reason;
use crate::config::model::{RedisAddress, RedisKind};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::timeout;

/// How long one sentinel, or one node of a cluster, may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Slots of a Redis Cluster.
const SLOTS: u16 = 16_384;
/// What stands between the braces of all our keys.
const TAG: &[u8] = b"c";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Resolver {
    /// Where an answer came from last: it is asked first. Rotates on failure.
    asked: Mutex<Vec<RedisAddress>>,
}

impl Resolver {
    pub(super) fn new(access: &Access) -> Self {
        Self {
            asked: Mutex::new(access.url.addresses.clone()),
        }
    }

    /// The server that takes our commands, as far as can be known without talking to it.
    pub(super) async fn resolve(&self, access: &Access) -> Result<RedisAddress, Fault> {
        let mut last = Fault::new(Reason::Resolve, "there is no address");
        let addresses = self.lock().clone();
        for address in addresses {
            let answer = match &access.url.kind {
                RedisKind::Single => return Ok(address),
                RedisKind::Sentinel { master } => {
                    timeout(ANSWER, ask_sentinel(access, &address, master)).await
                }
                RedisKind::Cluster => timeout(ANSWER, ask_node(access, &address)).await,
            };
            match answer {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(fault)) => last = worse(last, fault),
                Err(_) => last = Fault::new(Reason::Timeout, format!("{address} does not answer")),
            }
            self.pass_over(&address);
        }
        Err(last)
    }

    /// All servers that hold something: in a Redis Cluster every master, else the one.
    pub(super) async fn masters(&self, access: &Access) -> Result<Vec<RedisAddress>, Fault> {
        if access.url.kind != RedisKind::Cluster {
            return Ok(vec![self.resolve(access).await?]);
        }
        let mut last = Fault::new(Reason::Resolve, "there is no address");
        for address in &access.url.addresses {
            match timeout(ANSWER, ask_slots(access, address)).await {
                Ok(Ok(ranges)) => {
                    let masters: BTreeSet<RedisAddress> =
                        ranges.into_iter().map(|range| range.master).collect();
                    return Ok(masters.into_iter().collect());
                }
                Ok(Err(fault)) => last = worse(last, fault),
                Err(_) => last = Fault::new(Reason::Timeout, format!("{address} does not answer")),
            }
        }
        Err(last)
    }

    /// These are asked from now on.
    pub(super) fn begin_with(&self, addresses: &[RedisAddress]) {
        *self.lock() = addresses.to_vec();
    }

    /// Others are asked before this one from now on. Of single servers too: the next one may be the master.
    pub(super) fn pass_over(&self, address: &RedisAddress) {
        let mut asked = self.lock();
        if asked.first() == Some(address) {
            asked.rotate_left(1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RedisAddress>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of two faults the one that says more: that somebody answered, and what.
fn worse(known: Fault, other: Fault) -> Fault {
    let says = |fault: &Fault| {
        !matches!(
            fault.reason,
            Reason::Resolve | Reason::Refused | Reason::Timeout | Reason::Closed | Reason::Unreachable
        )
    };
    if says(&known) && !says(&other) {
        known
    } else {
        other
    }
}

async fn ask_sentinel(access: &Access, address: &RedisAddress, master: &str) -> Result<RedisAddress, Fault> {
    let mut raw = dial::connect(address, access.secure.as_ref()).await?;
    log_in(&mut raw, &access.sentinel_login).await?;
    let answer = raw
        .ask(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()])
        .await
        .map_err(|fault| {
            if fault.detail.starts_with("ERR unknown command") {
                Fault::new(Reason::NotRedis, format!("{address} is no sentinel"))
            } else {
                fault
            }
        })?;
    let unknown = || {
        Fault::new(
            Reason::NoMaster,
            format!("{address} knows no master called {master}"),
        )
    };
    let parts = answer.list().ok_or_else(unknown)?;
    let host = parts.first().and_then(Value::text).ok_or_else(unknown)?;
    let port = parts
        .get(1)
        .and_then(Value::number)
        .and_then(|port| u16::try_from(port).ok());
    Ok(RedisAddress::Tcp {
        host: host.to_owned(),
        port: port.ok_or_else(unknown)?,
    })
}

/// In the old protocol, which sentinels of every age speak.
async fn log_in(raw: &mut Raw, login: &Login) -> Result<(), Fault> {
    let Some(password) = &login.password else {
        return Ok(());
    };
    let answer = match &login.user {
        Some(user) => raw.ask(&[b"AUTH", user.as_bytes(), password.as_bytes()]).await,
        None => raw.ask(&[b"AUTH", password.as_bytes()]).await,
    };
    answer.map(drop).map_err(|fault| fault.without(Some(password)))
}

async fn ask_node(access: &Access, address: &RedisAddress) -> Result<RedisAddress, Fault> {
    let ours = i64::from(slot(TAG));
    let ranges = ask_slots(access, address).await?;
    let serves = |range: &Range| (range.from..=range.to).contains(&ours);
    let range = ranges.into_iter().find(serves);
    range
        .map(|range| range.master)
        .ok_or_else(|| Fault::new(Reason::ClusterDown, format!("nobody serves slot {ours}")))
}

/// Slots, and who serves them.
struct Range {
    from: i64,
    to: i64,
    master: RedisAddress,
}

async fn ask_slots(access: &Access, address: &RedisAddress) -> Result<Vec<Range>, Fault> {
    let mut raw = dial::connect(address, access.secure.as_ref()).await?;
    let greeting = dial::greet(&mut raw, &access.login, "tidegate-resolve").await?;
    if !greeting.clustered {
        return Err(Fault::new(
            Reason::NotRedis,
            format!("{address} is in no Redis Cluster"),
        ));
    }
    let answer = raw.ask(&[b"CLUSTER", b"SLOTS"]).await?;
    let ranges = answer.list().unwrap_or_default().iter();
    Ok(ranges.filter_map(|told| range(told, address)).collect())
}

/// What one node, asked at `asked`, tells of a range.
fn range(told: &Value, asked: &RedisAddress) -> Option<Range> {
    let told = told.list()?;
    let bound = |at: usize| told.get(at).and_then(Value::number);
    let master = told.get(2)?.list()?;
    let port = u16::try_from(master.get(1)?.number()?).ok()?;
    let host = match (master.first().and_then(Value::text), asked) {
        // It does not know its own address: the one it was asked at.
        (None | Some("" | "?"), RedisAddress::Tcp { host, .. }) => host.clone(),
        (Some(host), _) => host.to_owned(),
        (None, RedisAddress::Unix(_)) => return None,
    };
    Some(Range {
        from: bound(0)?,
        to: bound(1)?,
        master: RedisAddress::Tcp { host, port },
    })
}

/// The slot of a key with this between its braces: CRC-16/XMODEM.
fn slot(tag: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    for byte in tag {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot(b"123456789"), 0x31c3 % SLOTS);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn of_several_faults_the_one_that_says_most_is_told() {
        let refused = Fault::new(Reason::Refused, "");
        let unknown = Fault::new(Reason::NoMaster, "");
        assert_eq!(worse(unknown.clone(), refused.clone()), unknown);
        assert_eq!(worse(refused, unknown.clone()), unknown);
    }
}
