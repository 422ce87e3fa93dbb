use super::*;
use crate::policy::{Policy, Variables};
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use std::sync::LazyLock;
use std::time::Instant;

const SHOP: &str = "\
listeners:
  web: { address: 0.0.0.0:80, redirect_to_https: true }
  shop: { address: 0.0.0.0:8080, routes: shop }
  other: { address: 0.0.0.0:8081, pool: app }
  db: { address: 0.0.0.0:5432, protocol: tcp, pool: db }
routes:
  shop:
    - { name: pay, match: { host: secure.shop.example }, pool: checkout }
    - { name: assets, match: { path: /static/*, methods: [GET, HEAD] }, pool: app }
    - { name: beta, match: { headers: { X-Beta: \"yes\" } }, pool: checkout }
    - { name: rest, match: { path: /shop/* }, pool: app }
pools:
  app: { servers: [{ name: a, address: 10.0.0.1:80 }, { name: b, address: 10.0.0.2:80, weight: 50 }] }
  checkout:
    balance: { consistent_hash: { key: { cookie: session } } }
    servers: [{ name: c, address: 10.0.0.3:80 }, { name: d, address: 10.0.0.4:80, drain: true }]
  db: { balance: { consistent_hash: {} }, servers: [10.0.0.5:5432] }
";

fn nothing_known() -> Known<'static> {
    static NOTHING: LazyLock<Overrides> = LazyLock::new(Overrides::default);
    Known { overrides: &NOTHING, limiter: None, kept: None, passing: Passing::new(&NobodysWord) }
}

/// Takes no proxy's word, and changes nothing.
struct NobodysWord;

impl PassesOn for NobodysWord {
    fn client(&self, _: &PassedFrom<'_>, _: FieldList<'_>) -> Option<IpAddr> {
        None
    }

    fn is_secure(&self, from: &PassedFrom<'_>, _: FieldList<'_>) -> bool {
        from.is_encrypted
    }

    fn pass(
        &self,
        _: (&RequestView<'_>, &PassedFrom<'_>),
        _: (&Policy, &Variables<'_>),
        _: bool,
        with: &mut WithPassed<'_>,
    ) {
        with(&Edits::default(), b"");
    }
}

fn snapshot() -> Snapshot {
    let (plan, _) = crate::config::parse(SHOP).expect("a good configuration");
    Snapshot::empty().evolve(plan, Instant::now()).0
}

fn asked(
    method: &str,
    url: &str,
    listener: Option<&str>,
    headers: &[(&'static str, &str)],
) -> ExplainRequest {
    ExplainRequest {
        method: method.parse().unwrap(),
        url: url.parse().unwrap(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect(),
        client: "192.0.2.7".parse().unwrap(),
        listener: listener.map(str::to_owned),
        alpn: Vec::new(),
        minute: 29_000_000,
    }
}

fn told(request: &ExplainRequest) -> Explanation {
    explain(&snapshot(), nothing_known(), request, 7, Instant::now()).expect("it is clear")
}

#[test]
fn each_rule_before_the_one_that_matches_says_what_does_not_fit() {
    let report = told(&asked("POST", "http://shop.example:8080/shop/cart", None, &[("x-beta", "no")]));
    let misfits: Vec<_> = report.rules.iter().map(|rule| rule.misfit.as_deref().unwrap_or("-")).collect();
    assert_eq!(
        misfits,
        [
            "host shop.example is not secure.shop.example",
            "path /shop/cart is not /static/*",
            "field x-beta is \"no\", not \"yes\"",
            "-"
        ]
    );
    assert!(report.rules[3].matched);
    let report = told(&asked("DELETE", "http://shop.example:8080/static/a.css", None, &[]));
    assert_eq!(report.rules[1].misfit.as_deref(), Some("method DELETE is not GET or HEAD"));
    assert_eq!(report.rules[2].misfit.as_deref(), Some("there is no field x-beta"));
    assert_eq!((report.rules.len(), report.winner), (4, None));
    assert_eq!(report.rule, "no rule matches: the answer is 404");
}

#[test]
fn candidates_say_what_speaks_for_them_or_why_they_are_out() {
    let report = told(&asked("GET", "http://secure.shop.example:8080/", None, &[("cookie", "session=s1")]));
    assert_eq!(report.key.as_deref(), Some("cookie session \"s1\""));
    assert_eq!(report.hash, Some(format!("{:016x}", crate::select::hash(b"s1"))));
    assert_eq!(report.winner.as_ref().map(|server| &*server.name), Some("c"));
    assert_eq!(report.candidates[1].out.as_deref(), Some("drain by the configuration"));
    let text = render(&report, false);
    assert!(text.contains("  > c  up, 0 in flight  ring "), "{text}");
    let report = told(&asked("GET", "http://secure.shop.example:8080/", None, &[]));
    assert_eq!(report.key.as_deref(), Some("no cookie session, so client address 192.0.2.7"));
    let report = told(&asked("GET", "http://x:8081/", None, &[]));
    let scores: Vec<_> = report.candidates.iter().map(|one| one.score.clone().unwrap_or_default()).collect();
    assert_eq!(scores, ["load 0.0000", "load 0.0000"]);
    assert_eq!(report.then.len(), 1, "one retry by default");
}

#[test]
fn an_explanation_fits_80_columns_and_has_colours_when_asked() {
    let long = format!("http://shop.example:8080/{}?q={}", "shop/".repeat(20), "x".repeat(100));
    let report = told(&asked("GET", &long, None, &[("x-beta", &"no ".repeat(40))]));
    let text = render(&report, false);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let whole: String = text.split_whitespace().collect();
    assert!(whole.contains(&"x".repeat(100)), "nothing is left out: {text}");
    assert!(!text.contains('\x1b'));
    let text = render(&told(&asked("GET", "http://x:8081/", None, &[])), true);
    assert!(text.contains("winner    \x1b[32ma\x1b[0m"), "{text}");
}

#[test]
fn the_url_decides_by_which_listener_it_comes_in() {
    let listener = |url: &str| told(&asked("GET", url, None, &[])).listener.name;
    assert_eq!(listener("http://shop.example:8081/"), "other");
    assert_eq!(listener("http://shop.example/"), "web");
    let redirect = told(&asked("GET", "http://shop.example/a?b=c", None, &[])).redirect;
    assert_eq!(redirect.as_deref(), Some("https://shop.example/a?b=c"));
    let report = told(&asked("GET", "http://shop.example/", Some("db"), &[]));
    assert_eq!(report.key.as_deref(), Some("client address 192.0.2.7"));
    let refused = |url: &str, listener: Option<&str>| {
        let request = asked("GET", url, listener, &[]);
        explain(&snapshot(), nothing_known(), &request, 7, Instant::now()).unwrap_err().to_string()
    };
    assert!(refused("https://shop.example/", None).contains("no listener takes https requests"));
    assert!(refused("http://shop.example:9/", None).contains("--listener: web, shop, other"));
    assert!(refused("http://shop.example/", Some("wbe")).contains("there are: web, shop, other, db"));
    assert!(refused("/cart", Some("shop")).contains("has no host"));
}

#[test]
fn a_tls_clients_protocols_choose_where_only_its_hello_is_read() {
    let text = "listeners:\n  tls: { address: 0.0.0.0:443, protocol: tls_passthrough, routes: r }\n  \
                web: { address: 0.0.0.0:80, pool: app }\nroutes:\n  r:\n    \
                - { name: h2, match: { alpn: [h2, grpc] }, pool: app }\n    - { name: rest, pool: old }\n\
                pools: { app: { servers: [10.0.0.1:443] }, old: { servers: [10.0.0.2:443] } }\n";
    let (plan, _) = crate::config::parse(text).expect("a good configuration");
    let snapshot = Snapshot::empty().evolve(plan, Instant::now()).0;
    let told = |alpn: &[&str], url: &str| {
        let request = ExplainRequest {
            alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
            ..asked("GET", url, None, &[])
        };
        explain(&snapshot, nothing_known(), &request, 7, Instant::now())
    };
    let misfit = |alpn: &[&str]| told(alpn, "https://x/").expect("it is clear").rules[0].misfit.clone();
    assert_eq!(misfit(&["http/1.1", "h2"]), None);
    assert_eq!(misfit(&["http/1.1"]).as_deref(), Some("ALPN http/1.1 is not h2 or grpc"));
    assert_eq!(misfit(&[]).as_deref(), Some("no ALPN is offered, and it asks for h2 or grpc"));
    assert_eq!(told(&["h2"], "https://x/").map(|report| report.pool), Ok(Some("app".to_owned())));
    let refused = told(&["h2"], "http://x/").map(|report| report.pool);
    assert_eq!(refused, Err(Unexplained::NoAlpn { listener: "web".to_owned() }));
}

#[test]
fn a_pool_that_fails_open_says_why() {
    let text = "listeners: { web: { address: 0.0.0.0:80, pool: app } }\npools:\n  app:\n    \
                health: { tcp: {}, fall: 1 }\n    \
                servers: [{ name: a, address: 10.0.0.1:80 }, { name: b, address: 10.0.0.2:80 }, \
                { name: c, address: 10.0.0.3:80, drain: true }]\n";
    let (plan, _) = crate::config::parse(text).expect("a good configuration");
    let snapshot = Snapshot::empty().evolve(plan, Instant::now()).0;
    let pool = &snapshot.pools()[0];
    let rule = crate::pool::HealthThresholds::from(pool.plan.health.as_ref().expect("it is probed"));
    pool.members[0].server.observe(false, &rule, Instant::now());
    let report =
        explain(&snapshot, nothing_known(), &asked("GET", "http://x/", None, &[]), 7, Instant::now());
    let report = report.expect("it is clear");
    assert!(report.failing_open);
    let because = report.failing_open_because.as_deref();
    assert_eq!(because, Some("a: down after failed probes (`fall: 1`); b: no probe has passed yet"));
}

#[test]
fn the_urls_host_is_a_field_for_rules_and_keys() {
    let text = "listeners: { web: { address: 0.0.0.0:80, routes: r } }\nroutes:\n  r:\n    \
                - { name: shop, match: { headers: { Host: shop.example } }, pool: app }\n\
                pools: { app: { balance: { consistent_hash: { key: { header: Host } } }, servers: [10.0.0.1:80] } }\n";
    let (plan, _) = crate::config::parse(text).expect("a good configuration");
    let snapshot = Snapshot::empty().evolve(plan, Instant::now()).0;
    let request = asked("GET", "http://shop.example/", None, &[]);
    let report = explain(&snapshot, nothing_known(), &request, 7, Instant::now()).expect("it is clear");
    assert!(report.rules[0].matched);
    assert_eq!(report.key.as_deref(), Some("field host \"shop.example\""));
}

#[test]
fn an_ejection_is_told_with_the_time_that_is_left() {
    let sticky = SHOP.replacen(
        "pools:\n  app: { servers",
        "pools:\n  app: { outlier: {}, sticky: { cookie: EK }, servers",
        1,
    );
    for (text, by_whom) in
        [(SHOP, ""), (&*sticky, ", by requests whose clients are bound to no other server")]
    {
        let (plan, _) = crate::config::parse(text).expect("a good configuration");
        let now = Instant::now();
        let (snapshot, _) = Snapshot::empty().evolve(plan, now);
        let b = &snapshot.pools()[0].members[1].server;
        let until = now + Duration::from_secs(12);
        let (reason, evidence) = (crate::pool::outlier::Reason::WorseBy, "9 of 24 tries failed".to_owned());
        let ejection =
            crate::pool::outlier::Ejection { reason, evidence, since: now, began: now, until, trial: None };
        let mut standing = b.outlier().standing();
        standing.ejection = Some(ejection.clone());
        b.outlier().set_standing(standing.clone());
        b.set_ejected(true);
        let told = |now: Instant| {
            let request = asked("GET", "http://shop.example:8081/", None, &[]);
            let told = explain(&snapshot, nothing_known(), &request, 7, now).expect("it is clear");
            let candidate = told.candidates[1].clone();
            (candidate.ejection.expect("it is ejected").seconds_left, candidate.out.expect("it is out"))
        };
        assert_eq!(told(now), (12, "ejected for 12s more (worse_by): 9 of 24 tries failed".to_owned()));
        let trial = crate::pool::outlier::TrialState { moved: until, passed: 2 };
        standing.ejection = Some(crate::pool::outlier::Ejection { trial: Some(trial), ..ejection });
        b.outlier().set_standing(standing);
        let expected =
            format!("ejected, and tried out{by_whom}: 2 of 3 went well (worse_by): 9 of 24 tries failed");
        assert_eq!(told(until), (0, expected));
    }
}

#[test]
fn a_server_that_is_tried_out_is_told_as_ejected_whoever_is_chosen() {
    let text = SHOP.replacen("pools:\n  app: { servers", "pools:\n  app: { outlier: {}, servers", 1);
    let (plan, _) = crate::config::parse(&text).expect("a good configuration");
    let now = Instant::now();
    let (snapshot, _) = Snapshot::empty().evolve(plan, now);
    let pool = &snapshot.pools()[0];
    let b = &pool.members[1].server;
    let (reason, evidence) = (crate::pool::outlier::Reason::WorseBy, "9 of 24 tries failed".to_owned());
    let trial = Some(crate::pool::outlier::TrialState { moved: now, passed: 2 });
    let mut standing = b.outlier().standing();
    standing.ejection =
        Some(crate::pool::outlier::Ejection { reason, evidence, since: now, began: now, until: now, trial });
    b.outlier().set_standing(standing);
    b.set_ejected(true);
    b.outlier().open_trial();
    let told = |method: &str| {
        let request = asked(method, "http://shop.example:8081/", None, &[]);
        let told = explain(&snapshot, nothing_known(), &request, 7, now).expect("it is clear");
        let text = render(&told, false).split_whitespace().collect::<Vec<_>>().join(" ");
        (told.winner.map(|winner| winner.name), text)
    };
    let tried_out = "ejected, and tried out: 2 of 3 went well (worse_by): 9 of 24 tries failed";
    let (winner, text) = told("GET");
    assert_eq!(winner.as_deref(), Some("b"));
    assert!(text.contains(&format!("> b ejected, 0 in flight, weight 50 {tried_out} winner")), "{text}");
    let (winner, text) = told("POST");
    assert_eq!(winner.as_deref(), Some("a"));
    assert!(text.contains(&format!("b ejected, 0 in flight, weight 50 out: {tried_out} winner")), "{text}");
    crate::pool::sample::set_down(pool, "a");
    let (winner, text) = told("POST");
    assert_eq!(winner.as_deref(), Some("b"), "there is no better one");
    assert!(text.contains("> b ejected, 0 in flight, weight 50 load 0.0000, ejected, and"), "{text}");
}

#[test]
fn a_backup_that_serves_is_told_from_one_that_stands_by() {
    let text = SHOP.replacen(
        "{ name: b, address: 10.0.0.2:80, weight: 50 }",
        "{ name: b, address: 10.0.0.2:80, backup: true }",
        1,
    );
    let (plan, _) = crate::config::parse(&text).expect("a good configuration");
    let (snapshot, _) = Snapshot::empty().evolve(plan, Instant::now());
    let pool = &snapshot.pools()[0];
    let told = || {
        let request = asked("GET", "http://shop.example:8081/", None, &[]);
        let told = explain(&snapshot, nothing_known(), &request, 7, Instant::now()).expect("it is clear");
        let b = told.candidates[1].clone();
        (b.backup, b.out, b.score, pool.backups_serve())
    };
    let stands_by = "stands by: others work (backup)".to_owned();
    assert_eq!(told(), (true, Some(stands_by), None, false));
    crate::pool::sample::set_down(pool, "a");
    let (is_backup, out, score, serves) = told();
    assert_eq!((is_backup, out, serves), (true, None, true));
    assert!(
        score
            .as_deref()
            .is_some_and(|score| score.ends_with("serves, for none of the others works (backup)")),
        "{score:?}"
    );
}

#[test]
fn what_binds_a_client_to_a_server_is_told() {
    const TEXT: &str = "\
listeners: { web: { address: 0.0.0.0:80, pool: app } }
pools:
  app:
    servers: [{ name: a, address: 10.0.0.1:80, max_connections: 1 }, { name: b, address: 10.0.0.2:80, max_connections: 1 }]
    sticky: { cookie: EK, max_life: 1d }
";
    let (mut plan, _) = crate::config::parse(TEXT).expect("a good configuration");
    let key = || crate::sticky::Secret::new(&"k".repeat(32)).expect("a key");
    if let Some(sticky) = &mut Arc::make_mut(&mut plan.pools[0]).sticky {
        sticky.keys = key().into();
    }
    let (snapshot, _) = Snapshot::empty().evolve(plan, Instant::now());
    let pool = &snapshot.pools()[0];
    let told = |cookie: &str, minute: u32| {
        let request = asked("GET", "http://shop.example/", None, &[("cookie", cookie)]);
        let request = ExplainRequest { minute, ..request };
        let told = explain(&snapshot, nothing_known(), &request, 7, Instant::now()).expect("it is clear");
        (told.sticky.expect("the pool is sticky"), told.winner.map(|winner| winner.name))
    };
    let table = pool.sticky_table().expect("the pool is sticky");
    let cookie = format!("EK={}", table.issue(1, 1000).expect("there is a key"));
    let (b, any) = (Some("b".to_owned()), Some("a".to_owned()));
    assert_eq!(told(&cookie, 1000), ("cookie EK means b".to_owned(), b.clone()));
    assert_eq!(told(&cookie, 1090), ("cookie EK means b, for 90 minutes".to_owned(), b.clone()));
    assert_eq!(told(&cookie, 1001 + 24 * 60).0, "cookie EK means b, and is older than `max_life`");
    let bound = "no cookie EK: the client is bound to the server that answers";
    assert_eq!(told("a=1", 1000), (bound.to_owned(), any));
    assert_eq!(told("EK=b", 1000).0, "cookie EK is none of ours, or of a key that is gone: as none");
    pool.members[1].server.set_operator(crate::pool::Operator::Drain);
    assert_eq!(told(&cookie, 1000).1, b, "who is drained keeps its clients");
    let bound = pool.bound_to(1, std::time::Duration::ZERO).expect("there is one");
    let lease = pool.pick_bound(&bound, &mut crate::pool::Tried::new(), Instant::now());
    let full = "cookie EK means b; that is full: it waits up to 2s, then any will do";
    assert_eq!(told(&cookie, 1000), (full.to_owned(), b.clone()));
    for (queue, said, winner) in [
        ("queue: { timeout: 1s }", "it waits up to 1s (`queue.timeout`), then the answer is 503", b),
        ("queue: null", "and nobody waits for it", Some("a".to_owned())),
    ] {
        let (mut plan, _) =
            crate::config::parse(&format!("{TEXT}    {queue}\n")).expect("a good configuration");
        if let Some(sticky) = &mut Arc::make_mut(&mut plan.pools[0]).sticky {
            sticky.keys = key().into();
        }
        let (snapshot, _) = snapshot.evolve(plan, Instant::now());
        let request = asked("GET", "http://shop.example/", None, &[("cookie", &cookie)]);
        let request = ExplainRequest { minute: 1000, ..request };
        let told = explain(&snapshot, nothing_known(), &request, 7, Instant::now()).expect("it is clear");
        assert!(told.sticky.as_ref().is_some_and(|told| told.ends_with(said)), "{:?}", told.sticky);
        assert_eq!(told.winner.map(|winner| winner.name), winner);
    }
    drop(lease);
    pool.members[1].server.set_operator(crate::pool::Operator::Maint);
    let (said, winner) = told(&cookie, 1000);
    assert_eq!((&*said, winner.as_deref()), ("cookie EK means b, which is of no use now", Some("a")));
}

#[test]
fn who_is_banned_or_owes_too_much_is_told() {
    let text = "listeners: { web: { address: 127.0.0.1:80, routes: r, limits: { uri: 100B } } }\n\
                routes: { r: [{ name: cl, match: { path: /cl }, rate_limit: [{ requests: 1/m, burst: 1 }], pool: app }, \
                { name: mt, match: { path: /mt }, maintenance: { enabled: true }, pool: app }, { name: all, pool: app }] }\n\
                pools: { app: { servers: [127.0.0.1:1] } }\n";
    let (plan, _) = crate::config::parse(text).expect("it is good");
    let now = Instant::now();
    let (snapshot, _) = Snapshot::empty().evolve(plan, now);
    let limiter = Limiter::new(crate::limit::LimitSecret::new(), 64, now);
    let overrides = Overrides::default();
    let known = Known { overrides: &overrides, limiter: Some(&limiter), ..nothing_known() };
    let decided = |url: &str| {
        let report = explain(&snapshot, known, &asked("GET", url, None, &[]), 7, now).expect("it is clear");
        report.policy.into_iter().find(|phase| phase.decides).map(|phase| (phase.phase, phase.does))
    };
    let rate = |url: &str| decided(url).filter(|(phase, does)| phase == "rate_limit" && does.contains("429"));
    assert_eq!((rate("http://x/cl"), rate("http://x/%63l")), (None, None));

    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let policies = &snapshot.listeners()[0].policies.rules;
    let limit =
        &policies[0].as_ref().and_then(|policy| policy.limits.as_ref()).expect("it has limits").rates[0];
    let prefix = crate::limit::ClientPrefix::default();
    let key =
        crate::limit::KeyHasher::new(&limiter.secret, limit.id.number).client(Some(client), prefix).finish();
    limiter.rates.take(key, limit.plan.rate, now);
    // By another spelling of its path, too.
    for url in ["http://x/cl", "http://x/%63l", "http://x//cl"] {
        assert!(rate(url).is_some(), "{url}: {:?}", decided(url));
    }
    assert_eq!(decided("http://x//mt").map(|(phase, _)| phase).as_deref(), Some("maintenance"));
    let long = format!("http://x/{}", "a".repeat(100));
    assert!(decided(&long).is_some_and(|(_, does)| does.ends_with("limits.uri: 414")));
    assert_eq!(decided("http://x/"), None);

    use crate::limit::Ban;
    let until = now + Duration::from_secs(60);
    let ban = Ban { scope: Ban::EVERYWHERE, client, until, by: "anna".to_owned() };
    limiter.bans.ban(&limiter.rates, Ban::key(&limiter.secret, Ban::EVERYWHERE, client, prefix), ban, now);
    assert!(decided("http://x/").is_some_and(|(phase, does)| phase == "ban" && does.contains("192.0.2.7")));
}
