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

/// Requests for so many seconds, of which b's take as long as `time_of` says of how many it has had by then; the others' take 10 ms.
fn serve(load: &mut Load, seconds: u64, time_of: impl Fn(u64) -> u64) {
    let (until, mut had) = (load.now + Duration::from_secs(seconds), 0);
    while load.now < until {
        load.pass(load.pause);
        let lease = load.lease(true).expect("one is ready");
        let is_b = lease.server().name().as_ref() == "b";
        had += u64::from(is_b);
        let ms = if is_b { time_of(had) } else { 10 };
        lease.finish(&Outcome::of(TryResult::answered(200)).after(Duration::from_millis(ms)));
    }
}

#[test]
fn who_was_slow_is_not_back_before_it_is_as_quick_as_the_others() {
    let plan = OutlierPlan {
        slower_than: Some("5x".parse().expect("a factor")),
        window: Duration::from_secs(2),
        ..outlier()
    };
    let mut load = Load::new("a b c d", plan, 200, 3);
    serve(&mut load, 10, |_| 200);
    assert_eq!(load.ejected(), [("b".to_owned(), Reason::SlowerThan)]);
    serve(&mut load, 600, |_| 200);
    let (first, later) =
        load.ejected().split_first().map(|(first, later)| (first.1, later.to_vec())).expect("some");
    assert_eq!(first, Reason::SlowerThan);
    assert!(later.len() >= 2 && later.iter().all(|(_, reason)| *reason == Reason::Trial), "{later:?}");
    let evidence = member(&load.pool, "b").outlier().standing().ejection.map(|ejection| ejection.evidence);
    let evidence = evidence.expect("it is ejected");
    assert!(evidence.starts_with("two requests that tried it out took longer than 4"), "{evidence}");
    assert!(!load.changes.iter().any(|change| matches!(change, OutlierChange::Back { .. })));
    // One that takes long is chance.
    serve(&mut load, 400, |had| if had == 2 { 200 } else { 10 });
    assert!(!load.is_ejected("b"));
    // Who is ejected for anything else is asked whether it serves.
    let mut load = with_b_ejected(plan);
    serve(&mut load, 45, |had| if had < 4 { 200 } else { 10 });
    assert!(!load.is_ejected("b"));
}
