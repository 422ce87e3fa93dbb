//! The room as a whole: what the files in `conf/` mean, what is refused in which words, and that no input
//! however odd brings it down.

use super::plan::*;
use super::{Problems, Severity, parse};
use crate::units::{Percent, Weight};
use proptest::prelude::*;
use std::num::NonZeroU32;
use std::time::Duration;

const MINIMAL: &str = include_str!("../../conf/minimal.yaml");
const FULL: &str = include_str!("../../conf/evenkeel.yaml");
const SHOP: &str = include_str!("../../conf/shop.yaml");

fn plan(text: &str) -> Plan {
    match parse(text) {
        Ok((plan, warnings)) => {
            assert!(warnings.is_empty(), "{}", warnings.render("test.yaml", text, false));
            plan
        }
        Err(problems) => panic!("{}", problems.render("test.yaml", text, false)),
    }
}

fn problems(text: &str) -> Vec<String> {
    let found: Problems = match parse(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => problems,
    };
    found
        .iter()
        .map(|p| format!("{} {}:{} {}", p.severity, p.spot.line, p.spot.column, p.sentence()))
        .collect()
}

/// A pool `app` with these lines in it, behind a listener.
fn with_pool(lines: &str) -> String {
    format!("listeners: {{ web: {{ address: 0.0.0.0:80, pool: app }} }}\npools:\n  app:\n{lines}")
}

#[test]
fn six_lines_are_a_whole_configuration() {
    let plan = plan(MINIMAL);
    assert_eq!(plan.process.max_connections, 20_000);
    assert_eq!(plan.admin.address, "127.0.0.1:9900".parse().ok());
    let log = AccessLogPlan { path: AccessLogPath::Stdout, format: AccessLogFormat::Json };
    assert_eq!(plan.access_log, Some(log));
    let [listener] = &plan.listeners[..] else { panic!("{plan:?}") };
    assert_eq!(listener.target, TargetPlan::Pool(0));
    assert_eq!(listener.limits.connections_per_client, None);
    assert_eq!(listener.limits.request_headers, 32 * 1024);
    let [pool] = &plan.pools[..] else { panic!("{plan:?}") };
    assert_eq!(pool.balance, Balance::LeastConnections);
    assert_eq!(&*pool.servers[1].name, "10.0.0.12:8080");
    assert_eq!(pool.servers[1].weight, Weight::default());
    let health = pool.health.as_ref().expect("named");
    assert_eq!((health.interval, health.jitter), (Duration::from_secs(2), Percent(10)));
    assert!(matches!(&health.probe, ProbePlan::Http(http) if http.path == "/healthz"));
    assert_eq!(
        pool.retries.on,
        RetryOn { connect: true, reset: true, timeout: false, statuses: vec![502, 503, 504] }
    );
}

#[test]
fn the_documented_file_says_nothing_but_the_defaults() {
    let (full, minimal) = (plan(FULL), plan(MINIMAL));
    assert_eq!(full.process, minimal.process);
    assert_eq!(full.admin, minimal.admin);
    assert_eq!(full.log, minimal.log);
    assert_eq!(full.access_log, minimal.access_log);
    let (listener, default) = (&full.listeners[0], &minimal.listeners[0]);
    assert_eq!((&listener.limits, &listener.timeouts), (&default.limits, &default.timeouts));
    assert_eq!(listener.http2, default.http2);
    let (pool, default) = (&full.pools[0], &minimal.pools[0]);
    assert_eq!(pool.health, default.health);
    assert_eq!((&pool.retries, &pool.timeouts), (&default.retries, &default.timeouts));
    assert_eq!(full.routes[0].rules.last().map(|rule| &rule.matcher), Some(&Match::default()));
    assert_eq!(full.pools[1].balance, Balance::ConsistentHash { key: HashKey::ClientIp, bounded_load: None });
}

#[test]
fn the_shop_routes_by_host_then_by_path() {
    let plan = plan(SHOP);
    let rules = &plan.routes[0].rules;
    assert_eq!(rules[0].matcher.host, Some(HostPattern::Exact("secure.shop.example".into())));
    assert_eq!(rules[1].matcher.path, Some(PathPattern::Prefix("/static/".into())));
    let pools: Vec<_> = rules.iter().map(|rule| &*plan.pools[rule.pool().unwrap()].name).collect();
    assert_eq!(pools, ["checkout", "static", "static", "app", "app"]);
    assert_eq!((&*rules[3].name, rules[3].priority), ("search", Priority::Low));
    assert_eq!(&*rules[4].name, "app");
}

#[test]
fn every_way_to_write_a_value_means_what_it_says() {
    let balance = |text: &str| {
        plan(&with_pool(&format!("    servers: [10.0.0.1:1]\n    balance: {text}"))).pools[0].balance.clone()
    };
    assert_eq!(balance("round_robin"), Balance::RoundRobin);
    let hash = |key, bounded_load| Balance::ConsistentHash { key, bounded_load };
    assert_eq!(balance("consistent_hash"), hash(HashKey::ClientIp, None));
    assert_eq!(balance("{ consistent_hash: }"), hash(HashKey::ClientIp, None));
    assert_eq!(
        balance("{ consistent_hash: { key: uri, bounded_load: 125% } }"),
        hash(HashKey::Uri, Some(Percent(125)))
    );
    assert_eq!(
        balance("{ consistent_hash: { key: {cookie: EK} } }"),
        hash(HashKey::Cookie("EK".into()), None)
    );
    let maglev = |key| Balance::Maglev { key };
    assert_eq!(balance("maglev"), maglev(HashKey::ClientIp));
    assert_eq!(balance("{ maglev: { key: {query: id} } }"), maglev(HashKey::Query("id".into())));
    let status = |text: &str| {
        let pool = format!(
            "    servers: [10.0.0.1:1]\n    health: {{ http: {{ path: /, expect_status: {text} }} }}"
        );
        match plan(&with_pool(&pool)).pools[0].health.as_ref().map(|health| health.probe.clone()) {
            Some(ProbePlan::Http(http)) => http.expect_status,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status("200"), [200..=200]);
    assert_eq!(status("'200,204, 300-399'"), [200..=200, 204..=204, 300..=399]);
    assert_eq!(status("[200, 300-399]"), [200..=200, 300..=399]);
    assert_eq!(plan(&format!("{MINIMAL}access_log: off\n")).access_log, None);
    assert_eq!(plan(&format!("{MINIMAL}admin: {{ address: null }}\n")).admin.address, None);
    assert_eq!(plan(&format!("{MINIMAL}process:\n  # threads: 4\n")).process.threads, None);
}

#[test]
fn a_weight_of_zero_is_told_about_drain() {
    let text = with_pool("    servers:\n      - { address: 10.0.0.1:80, weight: 0 }\n");
    assert_eq!(
        problems(&text),
        [
            "error 5:41 pools.app.servers[0].weight: 0 is out of range; use 1 to 256, or `drain: true` to stop new requests"
        ]
    );
}

#[test]
fn several_listeners_may_leave_the_port_to_the_kernel() {
    let text = "listeners:\n  a: { address: 127.0.0.1:0, pool: p }\n  b: { address: 127.0.0.1:0, pool: p }\n\
                pools: { p: { servers: [127.0.0.1:1] } }\n";
    assert_eq!(plan(text).listeners.len(), 2);
}

/// Ten thousand servers, each a section of its own.
fn large() -> String {
    let mut text = with_pool("    servers:\n");
    for i in 0..10_000 {
        let (high, low) = (i / 250, i % 250 + 1);
        text += &format!(
            "      - {{ name: app{i}, address: 10.0.{high}.{low}:8080, weight: 100, drain: false }}\n"
        );
    }
    text
}

#[test]
fn ten_thousand_servers_are_read_in_linear_time() {
    assert_eq!(plan(&large()).pools[0].servers.len(), 10_000);
    let broken = large().replace("weight: 100", "weight: 0");
    let found = parse(&broken).expect_err("no weight is valid");
    assert_eq!((found.iter().count(), found.left_out()), (1000, 9000));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_brings_it_down(text in "\\PC*") {
        render(&text);
    }

    #[test]
    fn nothing_made_of_yaml_brings_it_down(parts in prop::collection::vec(
        prop::sample::select(vec![
            "a", "pools", ":", " ", "  ", "\n", "- ", "[", "]", "{", "}", ",", "'", "\"", "|", ">", "*a", "&a ",
            "!", "<<", "? ", "#", "%", "---", "...", "\t", "\\x", "\u{feff}", "é", "\0", "\r\n", "0", "null", "~",
        ]), 0..60,
    )) {
        render(&parts.concat());
    }

    #[test]
    fn no_damage_to_a_good_file_brings_it_down(
        file in prop::sample::select(vec![MINIMAL, FULL, SHOP]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, "[\\PC\n\t ]{0,3}"), 1..6),
    ) {
        let mut characters: Vec<char> = file.chars().collect();
        for (place, cut, insert) in damage {
            let from = place.index(characters.len());
            let to = (from + cut).min(characters.len());
            characters.splice(from..to, insert.chars());
        }
        render(&characters.into_iter().collect::<String>());
    }
}

/// A section is read to its end whatever is wrong in it, so that one pass finds everything; debug builds hold that.
#[test]
fn what_is_broken_in_a_policy_hides_nothing_else_of_it() {
    for (key, broken) in [
        ("rate_limit", "[{ per: { }, requests: 1/s, except: [nowhere] }]"),
        ("rate_limit", "[{ per: [client, { header: a, cookie: b }], except: [nowhere] }]"),
        ("rate_limit", "[{ count: { status: [] }, over: { delay: x }, except: [nowhere] }]"),
        ("concurrency", "{ per: nobody, tunnels: nowhere }"),
        ("access", "{ answer: { tarpit: x }, deny: [nowhere] }"),
        ("ban", "{ after: x, except: [nowhere] }"),
        ("cors", "{ origins: [x], max_age: nowhere }"),
        ("errors", "{ \"404\": { html: [], json: [nowhere] }, intercept: [x] }"),
        ("rewrite", "{ regex: \"(\", host: \"no where\" }"),
        ("maintenance", "{ enabled: x, except: [nowhere] }"),
        ("fault", "{ share: x, only_with: \"no where\" }"),
    ] {
        let text = format!(
            "policies: {{ all: {{ {key}: {broken} }} }}\n\
             listeners: {{ web: {{ address: '127.0.0.1:1', pool: p, policy: all }} }}\npools: {{ p: {{ servers: ['127.0.0.1:1'] }} }}"
        );
        let problems = parse(&text).expect_err(broken);
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        assert!(errors.count() >= 2, "{broken}: {}", problems.render("test.yaml", &text, false));
    }
}

/// Reads, and writes out what was found in every form.
fn render(text: &str) {
    let problems = match parse(text) {
        Ok((_, warnings)) => warnings,
        Err(problems) => {
            assert!(problems.has_errors(), "refused without a reason");
            problems
        }
    };
    problems.render("test.yaml", text, true);
    problems.to_json("test.yaml");
}

#[test]
fn a_queue_that_does_nothing_is_warned_of() {
    for (pool, warning) in [
        ("queue: { max: 5 }", Some("nobody ever waits here")),
        ("queue: { max: 5 }, max_connections: 10", None),
        ("queue: {}", None),
        ("queue: { timeout: 61s }, max_connections: 10", Some("is over after 60s by `timeouts.request`")),
        ("queue: null", None),
    ] {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, pool: app }} }}\n\
             pools: {{ app: {{ servers: [10.0.0.1:80], {pool} }} }}\n"
        );
        let (_, warnings) = parse(&text).expect("a good configuration");
        let said = warnings.render("test.yaml", &text, false);
        assert_eq!(warning.is_some(), !said.is_empty(), "{pool}: {said}");
        assert!(warning.is_none_or(|warning| said.contains(warning)), "{pool}: {said}");
    }
}

#[test]
fn a_priority_where_nobody_ever_waits_is_warned_of() {
    for (priority, pool, is_idle) in [
        ("low", "servers: [10.0.0.1:80]", true),
        ("high", "servers: [10.0.0.1:80], max_connections: 10, queue: null", true),
        ("normal", "servers: [10.0.0.1:80]", false),
        ("low", "servers: [10.0.0.1:80], max_connections: 10", false),
        ("low", "servers: [{ address: 10.0.0.1:80, max_connections: 1 }]", false),
        ("low", "servers: [app.internal.:80], max_connections: 10", false),
        (
            "low",
            "servers: [10.0.0.1:80], health: { http: / }, when_all_unhealthy: refuse, fallback: other",
            false,
        ),
    ] {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, routes: all }} }}\n\
             routes: {{ all: [{{ pool: other, match: {{ path: /other }} }}, {{ pool: app, priority: {priority} }}] }}\n\
             pools:\n  app: {{ {pool} }}\n  other: {{ servers: [10.0.0.2:80] }}\n"
        );
        let (_, warnings) = parse(&text).unwrap_or_else(|_| panic!("{text}"));
        let said = warnings.render("test.yaml", &text, false);
        assert_eq!(said.contains("nobody ever waits for a server of this pool"), is_idle, "{text}{said}");
        assert_eq!(is_idle, !said.is_empty(), "{text}{said}");
    }
}

#[test]
fn other_programs_words_for_a_balance_lead_to_ours() {
    for (balance, said) in [
        ("{ peak_ewma: {} }", "`peak_ewma` has no keys of its own; write `balance: peak_ewma`"),
        ("{ least_conn: {} }", "`least_conn` has no keys of its own; write `balance: least_connections`"),
        ("{ nonsense: {} }", "unknown key `nonsense`; known here: "),
        ("{ peak_ewma: {}, maglev: {} }", "unknown key `peak_ewma`"),
        ("least_conn", "`least_conn` is not known here, did you mean `least_connections`?"),
        ("leastconn", "`leastconn` is not known here, did you mean `least_connections`?"),
        ("roundrobin", "`roundrobin` is not known here, did you mean `round_robin`?"),
        ("source", "`source` is not known here, did you mean `consistent_hash`?"),
        ("ip_hash", "`ip_hash` is not known here, did you mean `consistent_hash`?"),
        ("random", "`random` is not known here, did you mean `random_two`?"),
        ("nonsense", "`nonsense` is not known here; use `round_robin`, "),
    ] {
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, pool: app }} }}\n\
             pools: {{ app: {{ servers: [10.0.0.1:80], balance: {balance} }} }}\n"
        );
        let problems = parse(&text).expect_err("it is refused");
        let sentences: Vec<_> = problems.iter().map(|problem| problem.sentence()).collect();
        assert!(sentences.len() == 1 && sentences[0].contains(said), "{balance}: {sentences:?}");
    }
}

#[test]
fn a_pool_that_learns_nothing_from_datagrams_is_warned_of() {
    for (pool, warning) in [
        ("balance: peak_ewma", Some("`balance: peak_ewma` of the pool `app`")),
        ("balance: { success_rate: {} }", Some("`balance: success_rate` of the pool `app`")),
        ("outlier: {}", Some("`outlier` of the pool `app`")),
        ("balance: round_robin", None),
    ] {
        for protocol in ["udp", "tcp"] {
            let text = format!(
                "listeners: {{ web: {{ address: 127.0.0.1:80, protocol: {protocol}, pool: app }} }}\n\
                 pools: {{ app: {{ servers: [10.0.0.1:80, 10.0.0.2:80], {pool} }} }}\n"
            );
            let (_, warnings) = parse(&text).unwrap_or_else(|_| panic!("{text}"));
            let said = warnings.render("test.yaml", &text, false);
            let warning = warning.filter(|_| protocol == "udp");
            assert_eq!(warning.is_some(), said.contains("which datagrams do not tell"), "{text}{said}");
            assert!(warning.is_none_or(|warning| said.contains(warning)), "{text}{said}");
        }
    }
}

#[test]
fn a_pools_limit_is_that_of_each_server_without_one() {
    let text = "listeners: { web: { address: 127.0.0.1:80, pool: app } }\n\
                pools:\n  app:\n    max_connections: 10\n    servers:\n    - 10.0.0.1:80\n\
                \x20   - { address: 10.0.0.2:80, max_connections: 3 }\n    - app.internal.:80\n";
    let (plan, _) = parse(text).expect("a good configuration");
    let limits: Vec<_> = plan.pools[0].servers.iter().map(|server| server.max_connections).collect();
    assert_eq!(limits, [NonZeroU32::new(10), NonZeroU32::new(3)]);
    assert_eq!(plan.pools[0].sources[0].template.max_connections, NonZeroU32::new(10));
}

#[test]
fn a_round_of_probes_that_takes_longer_than_the_interval_is_warned_of() {
    for (servers, timeout, warns) in [(256, "1s", false), (513, "600ms", false), (513, "900ms", true)] {
        let servers = (0..servers).map(|n| format!("10.0.{}.{}:80", n / 250, n % 250));
        let text = format!(
            "listeners: {{ web: {{ address: 127.0.0.1:80, pool: app }} }}\n\
             pools: {{ app: {{ servers: [{}], health: {{ tcp: {{}}, timeout: {timeout} }} }} }}",
            servers.collect::<Vec<_>>().join(", ")
        );
        let (_, warnings) = parse(&text).expect("a good configuration");
        let said = warnings.render("test.yaml", &text, false);
        assert_eq!(said.contains("probing them all takes"), warns, "{timeout}: {said}");
    }
}

#[test]
fn a_check_says_where_clients_are_counted_without_a_proxy() {
    for (listener, rule, is_told) in [
        ("", "", false),
        ("policy: slow", "", true),
        ("", "rate_limit: [{}]", true),
        ("", "rate_limit: [{ per: route }]", false),
        ("", "policy: slow", true),
        ("trusted_proxies: [10.0.0.0/8], policy: slow", "", false),
        ("proxy_protocol: { from: [10.0.0.0/8] }", "ban: {}", false),
    ] {
        let text = format!(
            "policies: {{ slow: {{ concurrency: {{}} }} }}\nlisteners: {{ a: {{ address: 127.0.0.1:1, routes: r, {listener} }} }}\n\
             routes: {{ r: [{{ pool: p, {rule} }}] }}\npools: {{ p: {{ servers: [10.0.0.1:1] }} }}\n"
        );
        let (told, is_good) = super::check("f", &text, false, false);
        assert!(is_good, "{told}");
        assert_eq!(told.contains("  listeners.a: clients are those who connect"), is_told, "{told}");
    }
}

#[test]
fn a_check_says_how_many_servers_may_be_left_out() {
    let text = "listeners: { a: { address: 127.0.0.1:1, pool: p } }\npools:\n\
                \x20 p: { servers: [10.0.0.1:1, 10.0.0.2:1, 10.0.0.3:1], outlier: {} }\n\
                \x20 q: { servers: [10.0.0.1:1] }\n\
                \x20 r: { discover: { dns: \"r.internal:80\" }, outlier: { max_ejected: 30% } }\n";
    let (told, is_good) = super::check("f", text, false, false);
    assert!(is_good, "{told}");
    assert!(
        told.ends_with(
            "  pools.p.outlier: at most 1 of 3 may be down or ejected for one to be ejected\n\
             \x20 pools.r.outlier: of those that are found 30% may be down or ejected\n"
        ),
        "{told}"
    );
}

#[test]
fn a_cache_that_nobody_uses_is_warned_of() {
    for (policies, rule, is_warned) in [
        ("", "", true),
        ("", "cache: null, ", true),
        ("", "cache: {}, ", false),
        ("policies: { pages: { cache: {} } }\n", "policy: pages, ", false),
    ] {
        let text = format!(
            "cache: {{ memory: 64MiB }}\nlisteners: {{ web: {{ address: 127.0.0.1:80, routes: r }} }}\n\
             {policies}routes: {{ r: [{{ {rule}pool: p }}] }}\npools: {{ p: {{ servers: [10.0.0.1:1] }} }}\n"
        );
        let (_, warnings) = parse(&text).expect("a good configuration");
        let said = warnings.render("test.yaml", &text, false);
        assert_eq!(
            said.contains("cache: nothing is kept: no rule and no policy"),
            is_warned,
            "{rule}: {said}"
        );
        assert_eq!(said.is_empty(), !is_warned, "{said}");
    }
}

#[test]
fn a_cache_that_has_no_place_to_keep_anything_is_warned_of() {
    for (cache, is_warned) in [
        ("memory: 0B", true),
        ("memory: 0B, disk: { path: /var/cache/evenkeel, size: 1GiB }", false),
        ("memory: 64MiB", false),
    ] {
        let text = format!(
            "cache: {{ {cache} }}\nlisteners: {{ web: {{ address: 127.0.0.1:80, routes: r }} }}\n\
             routes: {{ r: [{{ cache: {{}}, pool: p }}] }}\npools: {{ p: {{ servers: [10.0.0.1:1] }} }}\n"
        );
        let (_, warnings) = parse(&text).expect("a good configuration");
        let said = warnings.render("test.yaml", &text, false);
        assert_eq!(said.contains("nothing is kept, and nobody waits"), is_warned, "{cache}: {said}");
    }
}
