//! Numbers that a seed determines, the same on every machine and in every version: what a failed round needs to be
//! played again. Not a library's generator, whose sequence may change with its version.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Returns the dice of one round. Each round has its own, so that it can be played without those before it.
    pub fn of(seed: u64, round: u32) -> Self {
        let mut dice = Self(seed);
        let mixed = dice.roll();
        Self(mixed ^ u64::from(round).wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll() % (most - least + 1)
    }

    /// Returns one of several, each as often as its weight says.
    pub fn among<T: Copy>(&mut self, weighted: &[(T, u64)]) -> T {
        let all = weighted.iter().map(|(_, weight)| weight).sum();
        let mut left = self.between(1, all);
        for (one, weight) in weighted {
            if left <= *weight {
                return *one;
            }
            left -= weight;
        }
        unreachable!("the number is at most the sum of the weights");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_one_that_is_published() {
        // The reference implementation's first numbers for this seed.
        let mut dice = Dice(1_234_567);
        assert_eq!(dice.roll(), 6_457_827_717_110_365_317);
        assert_eq!(dice.roll(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen() {
        let mut dice = Dice::of(1, 1);
        let chosen: Vec<_> =
            (0..100).map(|_| dice.among(&[('a', 1), ('b', 0), ('c', 3)])).collect();
        assert!(chosen.contains(&'a') && chosen.contains(&'c') && !chosen.contains(&'b'));
    }
}
