use super::*;
use crate::units::{Address, Percent};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn dns() -> DiscoveryRules {
    DiscoveryRules {
        when_empty: WhenEmpty::Keep,
        keep_stale: None,
        leave_after: 10 * SECOND,
        large_change: Some(Percent(50)),
        max_servers: 10,
    }
}

fn file() -> DiscoveryRules {
    let at_once = Duration::ZERO;
    DiscoveryRules { when_empty: WhenEmpty::Remove, leave_after: at_once, large_change: None, ..dns() }
}

/// `a b=2`: names, and the last byte of their addresses where it is not 1.
fn set(text: &str) -> Vec<FoundServer> {
    let server = |text: &str| {
        let (name, host) = text.split_once('=').unwrap_or((text, "1"));
        let address = ([10, 0, 0, host.parse().unwrap()], 80);
        FoundServer::new(name.into(), Address::Inet(address.into()))
    };
    text.split_whitespace().map(server).collect()
}

/// Replies, each at a second (`0 a b`, `3 -` for none, `4 !` for a failure), and what comes of each: the set put in
/// force, `.` for none, with what is held.
#[track_caller]
fn check(rules: DiscoveryRules, begins_with: &str, steps: &[(&str, &str)]) {
    let start = Instant::now();
    let mut membership = Membership::new(rules, start);
    membership.adopt(set(begins_with), AdoptedFrom::SameSource, Duration::ZERO, start);
    for (reply, expected) in steps {
        let (at, reply) = reply.split_once(' ').unwrap();
        let now = start + at.parse::<u32>().unwrap() * SECOND;
        let reply = match reply {
            "!" => SourceReply::Failed,
            "-" => SourceReply::Servers(Vec::new()),
            servers => SourceReply::Servers(set(servers)),
        };
        assert_eq!(said(&membership.observe(reply, now)), *expected, "at {at}");
    }
}

fn said(verdict: &Verdict) -> String {
    let named = |servers: &Vec<FoundServer>| {
        let names: Vec<_> = servers.iter().map(|server| &*server.name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    };
    let set = verdict.set.as_ref().map_or_else(|| ".".to_owned(), named);
    verdict.held.map_or_else(|| set.clone(), |held| format!("{set} ({})", held.word()))
}

#[test]
fn whoever_is_named_joins_at_once() {
    check(dns(), "", &[("0 b a", "a b"), ("1 a b", "."), ("2 a b c", "a b c"), ("3 a b=2 c", "a b c")]);
}

#[test]
fn whoever_is_missing_goes_after_two_answers_and_its_time() {
    check(dns(), "a b c", &[("0 a b", "."), ("9 a b", "."), ("10 a b", "a b"), ("11 a b", ".")]);
    check(
        dns(),
        "a b c",
        &[("0 a b c", "."), ("60 a b", "."), ("61 a b c", "."), ("70 a b", "."), ("80 a b", "a b")],
    );
    check(file(), "a b c", &[("0 c", "c")]);
}

#[test]
fn a_large_change_needs_a_second_answer_later() {
    let http = DiscoveryRules { large_change: Some(Percent(50)), ..file() };
    check(
        http.clone(),
        "a b c d",
        &[("0 a b", "a b"), ("1 d", "a b d (large_change)"), ("3 d", ". (large_change)"), ("6 d", "d")],
    );
    check(
        http,
        "a b c",
        &[("0 a", ". (large_change)"), ("2 a b c", "."), ("7 a", ". (large_change)"), ("12 a", "a")],
    );
    // Whom only the second answer leaves out stays.
    check(
        DiscoveryRules { large_change: Some(Percent(50)), ..file() },
        "a b c d e f g h",
        &[("0 e f g", ". (large_change)"), ("6 a b c", "a b c e f g (large_change)"), ("11 a b c", "a b c")],
    );
    check(dns(), "a b c", &[("0 d e f", "a b c d e f"), ("10 d e f", "d e f")]);
}

#[test]
fn nothing_is_kept_or_taken_at_its_word() {
    check(dns(), "a b", &[("0 -", ". (empty)"), ("900 -", ". (empty)"), ("901 a b", ".")]);
    check(dns(), "", &[("0 -", "."), ("1 a", "a")]);
    check(file(), "a b", &[("0 -", "none"), ("1 -", "."), ("2 a", "a")]);
    let all_may_go = DiscoveryRules { when_empty: WhenEmpty::Remove, ..dns() };
    check(all_may_go, "a b", &[("0 -", "."), ("9 -", "."), ("10 -", "none")]);
}

#[test]
fn failure_is_not_emptiness() {
    check(dns(), "a b", &[("0 !", ". (stale)"), ("99999 !", ". (stale)"), ("100000 a b", ".")]);
    check(file(), "a", &[("0 !", ". (stale)"), ("99999 !", ". (stale)")]);
    check(dns(), "", &[("0 !", ".")]);
    let for_a_minute = |rules| DiscoveryRules { keep_stale: Some(60 * SECOND), ..rules };
    check(for_a_minute(file()), "a", &[("0 a", "."), ("59 !", ". (stale)"), ("60 !", "none"), ("61 a", "a")]);
    check(for_a_minute(dns()), "a", &[("0 a", "."), ("60 !", ". (stale)")]);
}

#[test]
fn failures_say_nothing_of_who_is_missing() {
    check(dns(), "a b c", &[("0 a b", "."), ("5 !", ". (stale)"), ("15 a b c", "."), ("16 a b", ".")]);
}

#[test]
fn too_many_are_refused_whole() {
    let many = (0..11).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
    check(dns(), "a", &[(&format!("0 {many}"), ". (too_many)"), ("1 a", ".")]);
}

#[test]
fn another_sources_set_gives_way_to_the_first_answer() {
    let start = Instant::now();
    let begin = || {
        let mut membership = Membership::new(dns(), start);
        membership.adopt(set("a b c"), AdoptedFrom::OtherSource, Duration::ZERO, start);
        membership
    };
    let mut membership = begin();
    assert_eq!(said(&membership.observe(SourceReply::Failed, start)), ". (stale)");
    assert_eq!(said(&membership.observe(SourceReply::Servers(Vec::new()), start)), ". (empty)");
    assert_eq!(said(&membership.observe(SourceReply::Servers(set("c d")), start)), "c d");
    assert_eq!(said(&begin().observe(SourceReply::Servers(set("a b c")), start)), ".");
}

#[test]
fn half_an_answer_takes_nobodys_place() {
    let start = Instant::now();
    let mut membership = Membership::new(dns(), start);
    membership.adopt(set("a b c"), AdoptedFrom::OtherSource, Duration::ZERO, start);
    let part = |membership: &mut Membership, servers: &str| {
        said(&membership.observe_part(SourceReply::Servers(set(servers)), start))
    };
    assert_eq!(part(&mut membership, "a d"), "a b c d", "b and c may be in the other half");
    assert_eq!(part(&mut membership, "a d"), ".");
    assert_eq!(said(&membership.observe_part(SourceReply::Failed, start)), ". (stale)");
    assert_eq!(said(&membership.observe(SourceReply::Servers(set("a d")), start)), "a d");
    let left_out = membership.observe_part(SourceReply::Servers(set("d")), start);
    assert_eq!(said(&left_out), ".", "of its own it has kept what could not be asked");
    assert_eq!(membership.n_missing(), 1);
}

#[test]
fn it_says_when_asking_again_could_let_servers_go() {
    let start = Instant::now();
    let mut membership = Membership::new(dns(), start);
    let mut after = |at: u32, servers: &str| {
        membership.observe(SourceReply::Servers(set(servers)), start + at * SECOND).ask_within
    };
    assert_eq!(after(0, "a b c"), None);
    assert_eq!(after(2, "a b"), Some(10 * SECOND));
    assert_eq!(after(5, "a b"), Some(7 * SECOND));
    assert_eq!(after(12, "a b"), None);
}

#[test]
fn of_two_with_one_name_the_first_counts() {
    let start = Instant::now();
    let mut membership = Membership::new(file(), start);
    let verdict = membership.observe(SourceReply::Servers(set("b=3 a=1 b=4")), start);
    assert_eq!(verdict.set, Some(set("a=1 b=3")));
}

/// Chance from a seed, so that a failure can be repeated.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A source that flaps: answers that leave servers out (never one for ten seconds on end), empty ones, failures,
    /// oversized ones. A server that is there all the while is never dropped, and one that has ended goes.
    #[test]
    fn flaps_never_drop_a_working_server(seed: u64) {
        let (mut chance, start) = (Seeded(seed), Instant::now());
        let mut membership = Membership::new(DiscoveryRules { max_servers: 40, ..dns() }, start);
        let name = |n: u64| format!("s{n}");
        let mut working: Vec<u64> = (0..8).collect();
        let (mut next, mut seconds) = (8, 0u64);
        // When each was last named.
        let mut named_at = std::collections::HashMap::new();
        membership.observe(SourceReply::Servers(set("s0 s1 s2 s3 s4 s5 s6 s7")), start);
        for _ in 0..300 {
            seconds += 1 + chance.below(3);
            let now = start + Duration::from_secs(seconds);
            if chance.below(10) == 0 {
                working.push(next);
                next += 1;
                working.remove(usize::try_from(chance.below(8)).unwrap());
            }
            let reply = match chance.below(8) {
                0 => SourceReply::Failed,
                1 => SourceReply::Servers(Vec::new()),
                2 => SourceReply::Servers((0..41).map(|n| set(&name(1000 + n))[0].clone()).collect()),
                _ => {
                    let mut answer = Vec::new();
                    for server in &working {
                        let is_due = named_at.get(server).is_none_or(|last| last + 5 < seconds);
                        if is_due || chance.below(3) > 0 {
                            named_at.insert(*server, seconds);
                            answer.extend(set(&name(*server)));
                        }
                    }
                    SourceReply::Servers(answer)
                }
            };
            membership.observe(reply, now);
            let is_member = |server: u64| membership.servers().any(|member| *member.name == *name(server));
            for server in &working {
                let was_named = named_at.contains_key(server);
                prop_assert!(is_member(*server) || !was_named, "{server} at {seconds}");
            }
        }
        // Two answers that say so, far enough apart.
        for after in [1, 12] {
            let answer = working.iter().flat_map(|server| set(&name(*server))).collect();
            membership.observe(SourceReply::Servers(answer), start + Duration::from_secs(seconds + after));
        }
        prop_assert_eq!(membership.len(), working.len());
    }
}
