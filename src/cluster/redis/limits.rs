//! The bucket of a limit, in the store.

use super::Client;
use super::health::Connection;
use super::ops::{OPERATION, TROUBLED};
use crate::cluster::limits::take::{BucketId, Take, Taken};
use crate::cluster::store::StoreError;
use std::time::Duration;

/// KEYS: bucket. ARGV: interval in microseconds, burst, owed, wanted, credit. Gives how many were granted, and the
/// microseconds until one more may be. The same as [`crate::cluster::limits::take::step`].
///
/// Moments are microseconds since the beginning of 2026, so that doubles have thousandths of them. A bucket that can't
/// be as it is, by another master's clock or another's hand, is full at most.
const TAKE: &str = r"
local t = redis.call('TIME')
local now = (t[1] - 1767225600) * 1000000 + t[2]
local interval, full = tonumber(ARGV[1]), now + ARGV[1] * ARGV[2]
local most = full + interval * ARGV[5]
local at = tonumber(redis.call('GET', KEYS[1]) or '') or now
if not (at >= now) then at = now end
local ahead = at > most
at = math.min(math.min(at, most) + interval * ARGV[3], most)
local granted = math.max(0, math.min(tonumber(ARGV[4]), math.floor((full - at) / interval + 0.000001)))
at = at + interval * granted
if ahead or (at > now and granted + ARGV[3] > 0) then
  redis.call('SET', KEYS[1], string.format('%.3f', at), 'PX', string.format('%.0f', math.ceil((at - now) / 1000)))
end
return {granted, math.ceil(math.max(0, at + interval - full))}
";

impl Client {
    pub(in crate::cluster) async fn take(&self, bucket: BucketId, take: &Take) -> Result<Taken, StoreError> {
        let key = [self.plane.names.key(&format!("rl:{}", bucket.text()))];
        let nanos = take.rate.interval.as_nanos();
        let args = [
            format!("{}.{:03}", nanos / 1000, nanos % 1000),
            take.rate.burst.to_string(),
            take.owed.to_string(),
            take.wanted.to_string(),
            take.credit.to_string(),
        ]
        .map(String::into_bytes);
        // Whoever asks for it waits for less. An answer that nobody waits for any more harms nobody, while the end of
        // the connection would.
        let answer = self
            .script(Connection::Commands, TAKE, &key, &args, OPERATION)
            .await?;
        let [granted, wait] = answer.list().ok_or(TROUBLED)? else {
            return Err(TROUBLED);
        };
        let granted = granted.count().and_then(|count| u32::try_from(count).ok());
        Ok(Taken {
            granted: granted.ok_or(TROUBLED)?.min(take.wanted),
            wait: Duration::from_micros(wait.count().ok_or(TROUBLED)?),
        })
    }
}
