//! Members drawn at random, each as often as its weight says.

/// Tries before all members are looked at: if half can be picked, one draw in sixteen needs that.
const TRIES: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Draw {
    /// Sum of the weights up to and with each member's.
    sums: Vec<u64>,
}

impl Draw {
    /// For members with these weights.
    pub fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let add = |weight: &u32| {
            sum += u64::from(*weight);
            sum
        };
        Self {
            sums: weights.iter().map(add).collect(),
        }
    }

    /// One of those that may be picked.
    pub fn draw(&self, rng: &mut fastrand::Rng, mut usable: impl FnMut(usize) -> bool) -> Option<usize> {
        let total = *self.sums.last()?;
        for _ in 0..TRIES {
            let at = rng.u64(0..total.max(1));
            let member = self.sums.partition_point(|sum| *sum <= at);
            if usable(member) {
                return Some(member);
            }
        }
        let mut lottery = Lottery::default();
        let mut before = 0;
        for (member, sum) in self.sums.iter().enumerate() {
            if usable(member) {
                lottery.enter(member, sum - before, rng);
            }
            before = *sum;
        }
        lottery.winner
    }
}

/// Draws among those who enter, without keeping them.
#[derive(Debug, Default)]
pub(super) struct Lottery {
    pub winner: Option<usize>,
    weights: u64,
}

impl Lottery {
    pub fn enter(&mut self, member: usize, weight: u64, rng: &mut fastrand::Rng) {
        self.weights += weight;
        if self.winner.is_none() || rng.u64(0..self.weights.max(1)) < weight {
            self.winner = Some(member);
        }
    }
}
