//! Servers that are alike, judged again and again: 300 runs of 40,000 requests.

use super::super::judge::{Meanwhile, Seen, reason};
use super::super::record::{FailureShare, TryRecord, Watched};
use super::*;

const RUNS: u64 = 300;
const REQUESTS: usize = 40_000;
const REMEMBERED: u32 = 63;

/// A number from 0 to 1, and the next state (xorshift).
fn next(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

fn seen(record: &TryRecord) -> Seen {
    let recent = record.recent_of(REMEMBERED);
    // A window as long as what is remembered: all others say more of the servers.
    Seen { run: record.run(), unavailable: record.unavailable(5), recent, window: recent }
}

/// For what a server is ejected in a pool of so many whose requests all fail by this share, if one is.
fn ejected(servers: usize, share: f64, state: &mut u64) -> Option<Reason> {
    let plan = outlier();
    let watched = Watched { run: 5, shares: true, times: false };
    let records: Vec<TryRecord> = (0..servers).map(|_| TryRecord::default()).collect();
    (0..REQUESTS).find_map(|request| {
        let record = &records[request % servers];
        let has_failed = next(state) < share;
        record.note(&Outcome::of(TryResult::answered(if has_failed { 503 } else { 200 })), watched);
        // Nobody is worse for a success. And one look for each turn is more than control has.
        if !has_failed {
            return None;
        }
        let own = seen(record);
        let all = records.iter().fold(Seen::default(), |sum, record| sum.plus(seen(record)));
        let others = all.minus(own);
        let same = FailureShare { ..others.recent };
        let meanwhile = Meanwhile { since: same, run: same, recent: same, window: same };
        reason(&own, &others, &meanwhile, &plan).map(|(reason, _)| reason)
    })
}

#[test]
fn of_servers_that_are_alike_none_is_ejected_by_chance() {
    for (servers, share) in [(4, 0.3), (2, 0.1), (10, 0.6)] {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let runs = if servers == 4 { RUNS } else { RUNS / 10 };
        let wrong = (0..runs).filter_map(|_| ejected(servers, share, &mut state)).count();
        assert_eq!(wrong, 0, "{servers} that fail {share}: in so many of {runs} runs");
    }
}
