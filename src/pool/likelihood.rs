//! How much two shares differ for there to be no difference: who looks again and again finds one by chance some day, unless it
//! takes one that hardly ever comes about.

/// Twice the logarithm of how much likelier it is that one has so many `hits` of `of`, and the others so many of theirs, if each
/// have a share of their own than if all have the same (the likelihood-ratio test, or G-test: Wilks, "The Large-Sample Distribution
/// of the Likelihood Ratio for Testing Composite Hypotheses", 1938). It is the square of the standard deviations that they are
/// apart; 0 if nothing was seen of one of them.
pub(super) fn ratio((hits, of): (u64, u64), (others_hits, others_of): (u64, u64)) -> f64 {
    let surprise = |hits: u64, of: u64| term(hits, of) + term(of.saturating_sub(hits), of);
    let apart = surprise(hits, of) + surprise(others_hits, others_of);
    let alike = surprise(hits + others_hits, of + others_of);
    (2.0 * (apart - alike)).max(0.0)
}

/// The logarithm of the likelihood of so many of so many, if that is their share.
fn term(part: u64, of: u64) -> f64 {
    if part == 0 { 0.0 } else { part as f64 * (part as f64 / of as f64).ln() }
}

#[cfg(test)]
mod tests {
    use super::ratio;
    use proptest::prelude::*;

    #[test]
    fn it_is_the_statistic_of_the_g_test() {
        let near = |ratio: f64, expected: f64| assert!((ratio - expected).abs() < 0.01, "{ratio}");
        near(ratio((0, 0), (5, 10)), 0.0);
        near(ratio((5, 10), (50, 100)), 0.0);
        // 2 Σ observed × ln(observed ÷ expected).
        near(ratio((9, 30), (0, 189)), 38.43);
        near(ratio((10, 20), (30, 100)), 2.86);
    }

    proptest! {
        #[test]
        fn the_same_shares_of_more_differ_by_more(hits in 0u64..50, of in 50u64..100, others in 0u64..50, others_of in 50u64..300) {
            let once = ratio((hits, of), (others, others_of));
            let twice = ratio((hits * 2, of * 2), (others * 2, others_of * 2));
            prop_assert!(once >= 0.0 && (twice - 2.0 * once).abs() < 1e-6, "{once} {twice}");
        }
    }
}
