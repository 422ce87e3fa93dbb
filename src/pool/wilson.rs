//! Between which bounds a share lies of which only so much was seen.

/// Wilson's score interval (Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927): where
/// `hits` of `of` were seen, the lowest and the highest share that this fits, at `z` standard deviations. Of nothing seen
/// everything may be.
pub fn bounds(hits: u64, of: u64, z: f64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, share, z2) = (of as f64, hits.min(of) as f64 / of as f64, z * z);
    let middle = share + z2 / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::bounds;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_interval_of_the_paper() {
        let near = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!((low - expected.0).abs() < 5e-4 && (high - expected.1).abs() < 5e-4, "{low} {high}");
        };
        near(bounds(0, 0, 1.96), (0.0, 1.0));
        near(bounds(5, 5, 1.96), (0.5655, 1.0));
        near(bounds(0, 20, 1.96), (0.0, 0.1611));
        near(bounds(6, 20, 1.96), (0.1455, 0.5190));
        near(bounds(300, 1000, 1.96), (0.2724, 0.3291));
    }

    proptest! {
        #[test]
        fn more_evidence_is_a_narrower_interval_around_the_share(of in 1u64..5000, share in 0.0f64..=1.0, z in 1.0f64..4.0) {
            let hits = (of as f64 * share) as u64;
            let (low, high) = bounds(hits, of, z);
            let (closer_low, closer_high) = bounds(hits * 10, of * 10, z);
            let seen = hits as f64 / of as f64;
            prop_assert!(0.0 <= low && low <= seen + 1e-9 && seen <= high + 1e-9 && high <= 1.0);
            prop_assert!(closer_high - closer_low <= high - low + 1e-9);
        }
    }
}
