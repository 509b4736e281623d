//! Smooth weighted turns.
//!
//! Every member has turns at even distances on a line, as many per unit as its weight, and whoever's turn is next
//! is picked: in a 5:1:1 upstream the two light ones come at a quarter and at three quarters of a round, not one
//! after the other. A heap finds the next turn, so a pick costs the logarithm of the number of members.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::collections::binary_heap::PeekMut;

/// Length of a round, in which every member has as many turns as its weight. Fine enough for the largest weights;
/// the line is long enough for any process.
const ROUND: u128 = 1 << 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: u128,
    member: u32,
}

/// The turns to come.
#[derive(Clone, Debug, Default)]
pub(super) struct Wheel {
    turns: BinaryHeap<Reverse<Turn>>,
    /// By member.
    steps: Vec<u128>,
    /// Members whose turn came and who could not be picked; empty between picks.
    passed: Vec<Turn>,
}

impl Wheel {
    /// Turns of members with these weights, all above 0, from a random place on.
    pub fn new(weights: &[u32], rng: &mut fastrand::Rng) -> Self {
        let start = rng.u128(0..ROUND);
        let mut alike: HashMap<u32, (u128, u128)> = HashMap::new();
        for weight in weights {
            alike.entry(*weight).or_default().0 += 1;
        }
        let mut wheel = Self::default();
        for (member, weight) in weights.iter().enumerate() {
            let step = ROUND / u128::from(*weight);
            // Those of one weight divide the distance between two turns evenly among them.
            let (count, position) = alike.entry(*weight).or_default();
            let first = step * (2 * *position + 1) / (2 * *count);
            *position += 1;
            let missed = start.saturating_sub(first).div_ceil(step);
            wheel.steps.push(step);
            wheel.turns.push(Reverse(Turn {
                at: first + missed * step,
                member: member as u32,
            }));
        }
        wheel
    }

    /// The next member that may be picked. Those that may not lose the turns that came.
    pub fn turn(&mut self, mut usable: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut now = None;
        while let Some(mut next) = self.turns.peek_mut() {
            let Reverse(Turn { at, member }) = *next;
            if usable(member as usize) {
                next.0.at += self.steps[member as usize];
                now = Some((at, member as usize));
                break;
            }
            self.passed.push(PeekMut::pop(next).0);
        }
        for mut turn in self.passed.drain(..) {
            if let Some((now, _)) = now {
                let step = self.steps[turn.member as usize];
                turn.at += ((now - turn.at) / step + 1) * step;
            }
            self.turns.push(Reverse(turn));
        }
        now.map(|(_, member)| member)
    }
}
