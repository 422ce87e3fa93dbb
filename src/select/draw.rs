//! Draws servers by chance, heavier ones more often.

use super::Candidates;

/// Draws for each of two before a walk to the next eligible server.
const DRAWS: usize = 8;

/// How far the walk for the second goes; the first one is good enough then.
const WALK: usize = 64;

/// A server and its load.
#[derive(Clone, Copy)]
pub(super) struct DrawnServer {
    pub(super) index: usize,
    pub(super) load: f64,
}

/// Draws indexes in proportion to weights, each by one look-up. (Vose, "A Linear Algorithm for Generating Random Numbers
/// with a Given Distribution", 1991.)
#[derive(Debug)]
pub(super) struct WeightedDraw {
    columns: Box<[AliasColumn]>,
}

/// As many as there are indexes, all drawn alike: its own index up to `own`, of 2^64, and another's beyond.
#[derive(Clone, Copy, Debug)]
struct AliasColumn {
    own: u64,
    other: u32,
}

impl WeightedDraw {
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        // In shares of `total`, what each index has to give to columns; a column holds one `total`.
        let mut left: Vec<u64> =
            weights.iter().map(|weight| u64::from(*weight) * weights.len() as u64).collect();
        let mut columns: Vec<AliasColumn> =
            (0..weights.len() as u32).map(|index| AliasColumn { own: u64::MAX, other: index }).collect();
        let (mut short, mut rich): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|index| left[*index] < total);
        while let (Some(index), Some(giver)) = (short.pop(), rich.last().copied()) {
            let own = (u128::from(left[index]) << 64) / u128::from(total);
            columns[index] = AliasColumn { own: own as u64, other: giver as u32 };
            left[giver] -= total - left[index];
            if left[giver] < total {
                rich.pop();
                short.push(giver);
            }
        }
        Self { columns: columns.into() }
    }

    /// Two eligible servers and their loads; only one if another is hard to find.
    pub(super) fn pair(
        &self,
        among: &Candidates<'_>,
        entropy: u64,
    ) -> Option<(DrawnServer, Option<DrawnServer>)> {
        let mut chance = Chance(entropy);
        let first = self.find(among, &mut chance, None, among.len())?;
        Some((first, self.find(among, &mut chance, Some(first.index), WALK)))
    }

    /// An eligible server other than `but`, and its load.
    fn find(
        &self,
        among: &Candidates<'_>,
        chance: &mut Chance,
        but: Option<usize>,
        walk: usize,
    ) -> Option<DrawnServer> {
        let eligible = |index: usize| {
            let load = among.load(index);
            (load < f64::INFINITY && Some(index) != but).then_some(DrawnServer { index, load })
        };
        (0..DRAWS).find_map(|_| eligible(self.index(chance.next()))).or_else(|| {
            let (n, start) = (among.len(), self.index(chance.next()));
            (start..n).chain(0..start).take(walk).find_map(eligible)
        })
    }

    fn index(&self, chance: u64) -> usize {
        // The whole part is the column, the fraction the place in it.
        let product = u128::from(chance) * self.columns.len() as u128;
        let index = (product >> 64) as usize;
        let column = self.columns[index];
        if (product as u64) < column.own { index } else { column.other as usize }
    }
}

/// SplitMix64: many draws from the one number a request brings.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(super::GOLDEN);
        super::mix(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_drawn_as_often_as_it_says() {
        for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[256, 1], &[7]] {
            let draw = WeightedDraw::new(weights);
            let total: u32 = weights.iter().sum();
            let mut drawn = vec![0u32; weights.len()];
            let steps = u64::from(total) * weights.len() as u64 * 100;
            (0..steps).for_each(|step| drawn[draw.index(u64::MAX / steps * step)] += 1);
            for (drawn, weight) in drawn.iter().zip(weights) {
                let expected = steps as f64 * f64::from(*weight) / f64::from(total);
                assert!((f64::from(*drawn) - expected).abs() < 20.0, "{weights:?}: {drawn} not {expected}");
            }
        }
    }
}
