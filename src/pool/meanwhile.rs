//! What others did at the same time: of two servers' outcomes those of the same spans of time are held against each other, so that
//! what all suffered together counts against none. (Direct standardization; how much it tells is Kish's effective sample size.)

/// The others' share in spans of time, each counting as much as one's own outcomes there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standardized {
    weight: f64,
    hits: f64,
    spread: f64,
}

impl Standardized {
    /// A span in which one had `own` outcomes, and the others `of`, with so many `hits`.
    pub(super) fn add(&mut self, own: f64, hits: f64, of: f64) {
        self.weight += own;
        self.hits += own * hits / of;
        self.spread += own * own / of;
    }

    /// The others' share, and of how many outcomes it tells as much; none if there were no spans.
    pub(super) fn share(self) -> Option<(f64, f64)> {
        (self.weight > 0.0).then(|| (self.hits / self.weight, self.weight * self.weight / self.spread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(spans: &[(f64, f64, f64)]) -> Option<(f64, f64)> {
        let mut standardized = Standardized::default();
        spans.iter().for_each(|(own, hits, of)| standardized.add(*own, *hits, *of));
        standardized.share()
    }

    #[test]
    fn spans_count_as_much_as_ones_own_outcomes_there() {
        assert_eq!(share(&[]), None);
        assert_eq!(share(&[(10.0, 5.0, 20.0)]), Some((0.25, 20.0)));
        // All failed, of which it has had nearly all of its own.
        assert_eq!(share(&[(90.0, 90.0, 90.0), (10.0, 0.0, 1000.0)]), Some((0.9, 10_000.0 / 90.1)));
    }
}
