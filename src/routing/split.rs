//! Weighted choice among upstreams.

/// Choices with weights. A choice of weight 0 is never made.
#[derive(Clone, Debug)]
pub struct Split<T> {
    /// Each with the sum of the weights up to and including its own.
    choices: Box<[(u64, T)]>,
}

impl<T> Split<T> {
    /// `None` when no weight is above 0.
    pub fn new(choices: impl IntoIterator<Item = (T, u32)>) -> Option<Self> {
        let mut sum = 0u64;
        let choices: Box<[_]> = choices
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(choice, weight)| {
                sum += u64::from(weight);
                (sum, choice)
            })
            .collect();
        (sum > 0).then_some(Self { choices })
    }

    /// The choice that this random number falls on; uniform numbers give shares as the weights are.
    pub fn choose(&self, random: u64) -> &T {
        let (total, last) = &self.choices[self.choices.len() - 1];
        // The high half of the product is uniform below `total`, without a division.
        let point = ((u128::from(random) * u128::from(*total)) >> 64) as u64;
        let index = self.choices.partition_point(|(upto, _)| *upto <= point);
        self.choices.get(index).map_or(last, |(_, choice)| choice)
    }

    /// All choices that can be made, each with its share from 0 to 1.
    pub fn shares(&self) -> impl Iterator<Item = (&T, f64)> {
        let total = self.choices.last().map_or(1, |(upto, _)| *upto) as f64;
        let mut before = 0;
        self.choices.iter().map(move |(upto, choice)| {
            let weight = upto - std::mem::replace(&mut before, *upto);
            (choice, weight as f64 / total)
        })
    }

    /// All choices that can be made.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.choices.iter().map(|(_, choice)| choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_to_choose_is_no_split() {
        assert!(Split::<&str>::new([]).is_none());
        assert!(Split::new([("a", 0)]).is_none());
    }

    #[test]
    fn the_ends_of_the_range_fall_on_the_ends_of_the_list() {
        let split = Split::new([("zero", 0), ("a", 1), ("none", 0), ("b", u32::MAX), ("last", 0)]).unwrap();
        assert_eq!(*split.choose(0), "a");
        assert_eq!(*split.choose(u64::MAX), "b");
        assert_eq!(split.iter().copied().collect::<Vec<_>>(), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn evenly_spread_numbers_give_the_weights(weights in proptest::collection::vec(0u32..20, 1..6)) {
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            let Some(split) = Split::new(weights.iter().copied().enumerate()) else {
                prop_assert_eq!(total, 0);
                return Ok(());
            };
            let mut counts = vec![0u32; weights.len()];
            for step in 0..total {
                // The middle of each of `total` equal parts of the range.
                let random = ((u128::from(step) * 2 + 1) << 63) / u128::from(total);
                counts[*split.choose(random as u64)] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
