//! Trials while all servers of a pool have a share of failures.

use super::*;

/// What b's trial comes to that fails so often then, where all others fail this share. Whether it is back by it.
fn is_back(own: f64, others: f64, seed: u64) -> bool {
    let mut load = Load::new("a b c d", outlier(), 100, seed);
    (0..400).for_each(|_| drop(load.request(|_| 0.0)));
    while !load.is_ejected("b") {
        load.request(|name| f64::from(u8::from(name == "b")));
    }
    // Until its time is nearly over, and there is some history of the others' failures.
    load.pass(Duration::from_secs(25));
    load.changes.clear();
    let is_over = |load: &Load| {
        let decides = |change: &OutlierChange| !matches!(change, OutlierChange::OnTrial { .. });
        load.changes.iter().any(decides)
    };
    while !is_over(&load) {
        load.request(|name| if name == "b" { own } else { others });
    }
    !load.is_ejected("b")
}

fn back_of_40(own: f64, others: f64) -> usize {
    (1..=40).filter(|seed| is_back(own, others, *seed)).count()
}

#[test]
fn who_fails_as_the_others_do_comes_back_by_its_first_trial() {
    for share in [0.05, 0.1, 0.2, 0.3, 0.5] {
        let back = back_of_40(share, share);
        assert!(back >= 36, "{share}: {back} of 40");
    }
}

#[test]
fn who_fails_more_than_the_others_does_not() {
    for (own, others, most) in [(1.0, 0.0, 0), (1.0, 0.05, 0), (1.0, 0.3, 0), (0.8, 0.1, 4), (0.8, 0.3, 6)] {
        let back = back_of_40(own, others);
        assert!(back <= most, "{own} beside {others}: {back} of 40");
    }
}

#[test]
fn nobody_is_tried_out_who_is_out_of_use() {
    let mut load = with_b_ejected(outlier());
    member(&load.pool, "b").set_operator(crate::pool::Operator::Maint);
    load.pass(Duration::from_secs(60));
    assert!(load.changes.is_empty() && !load.pool.outliers.has_trials(), "{:?}", load.changes);
    member(&load.pool, "b").set_operator(crate::pool::Operator::Ready);
    load.pass(Duration::from_secs(1));
    assert!(matches!(load.changes[..], [OutlierChange::OnTrial { .. }]), "{:?}", load.changes);
    member(&load.pool, "b").set_operator(crate::pool::Operator::Maint);
    load.pass(Duration::from_secs(1));
    assert!(load.is_ejected("b") && !load.pool.outliers.has_trials());
}
