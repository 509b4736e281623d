//! Consistent hashing: endpoints have points on a circle, and a key belongs to the next point.
//!
//! Points depend on an endpoint's address and weight alone. So every gateway, and every start, sends a key to the
//! same endpoint; an endpoint that comes takes keys from the others and moves none between them, and one that goes
//! leaves its keys to all of them.

use crate::upstream::shared::plan::EndpointPlan;

/// Points of the heaviest endpoint. Shares of equal endpoints then differ by about a twelfth (1/√160); it takes
/// 1.3 MB for 1,000 endpoints.
const POINTS: u64 = 160;
/// Points passed in search of an endpoint that may be picked, before all endpoints are asked.
const MOST_PASSED: usize = 64;

/// The circle of one rank (primaries or backups) of an upstream.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Place, and index of the endpoint; sorted.
    points: Vec<(u32, u32)>,
    /// Index and hash of every endpoint on the ring.
    endpoints: Vec<(u32, u64)>,
}

impl Ring {
    /// The endpoints of this rank that are meant to take requests.
    #[must_use]
    pub fn new(endpoints: &[EndpointPlan], backup: bool) -> Self {
        let mut ring = Self::default();
        let members = || {
            let all = endpoints.iter().enumerate();
            all.filter(|(_, endpoint)| endpoint.backup == backup && endpoint.is_open())
        };
        let heaviest = members().map(|(_, endpoint)| endpoint.weight).max().unwrap_or(1);
        for (index, endpoint) in members() {
            let hash = hash(endpoint.state.key.address.as_bytes());
            let count = (POINTS * u64::from(endpoint.weight)).div_ceil(u64::from(heaviest));
            for point in 0..count {
                let place = mix(hash ^ mix(point + 1));
                ring.points.push(((place >> 32) as u32, index as u32));
            }
            ring.endpoints.push((index as u32, hash));
        }
        let address = |index: u32| &endpoints[index as usize].state.key.address;
        // Where two share a place, the addresses decide: not the order of the file.
        ring.points
            .sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| address(a.1).cmp(address(b.1))));
        ring
    }

    /// The endpoint for a key: the next on the circle that may be picked.
    pub fn pick(&self, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let key = mix(key);
        let place = (key >> 32) as u32;
        let start = self.points.partition_point(|(point, _)| *point < place);
        let (before, after) = self.points.split_at(start);
        let mut passed = None;
        for (_, endpoint) in after.iter().chain(before).take(MOST_PASSED) {
            if passed != Some(*endpoint) && usable(*endpoint as usize) {
                return Some(*endpoint as usize);
            }
            passed = Some(*endpoint);
        }
        // Few are left. Each of them bids for the key, which is as consistent.
        let left = self
            .endpoints
            .iter()
            .filter(|(endpoint, _)| usable(*endpoint as usize));
        let winner = left.max_by_key(|(_, hash)| mix(hash ^ key))?;
        Some(winner.0 as usize)
    }
}

/// Hash of a key or an address: the same in every process and on every machine.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = mix(state ^ word);
    }
    let rest = chunks.remainder();
    let word = rest
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(state ^ word)
}

/// Spreads the bits (the finisher of splitmix64, after its constant was added: 0 is as good as any).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
