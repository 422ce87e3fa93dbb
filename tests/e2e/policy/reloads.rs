//! Reloads that add, change and take away policies while requests are under way.

use crate::support::app::App;
use crate::support::balancer::{Balancer, Reloaded};
use crate::support::client::Client;
use crate::support::wait_until;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// Each kind of policy, in two forms that let this test's requests through.
const KINDS: [[&str; 2]; 17] = [
    ["request_headers: { set: { X-A: \"{client}\" } }", "request_headers: { remove: [X-A] }"],
    ["response_headers: { set: { X-A: b } }", "response_headers: { default: { X-A: c } }"],
    ["rewrite: { add_prefix: /v1 }", "rewrite: { to: \"/x{path}\", host: other.internal }"],
    ["canonical: { trailing_slash: remove }", "canonical: {}"],
    ["maintenance: { enabled: true, except: [127.0.0.1] }", "maintenance: {}"],
    ["errors: { \"502\": {}, intercept: [502] }", "errors: { \"500-599\": {} }"],
    ["cors: { origins: [\"*\"] }", "cors: { origins: [\"https://a.example\"], credentials: true }"],
    ["security_headers: standard", "security_headers: null"],
    [
        "fault: { share: 50%, delay: 1ms, only_with: null }",
        "fault: { share: 50%, delay: 2ms, only_with: null }",
    ],
    ["early_hints: { pass: false }", "early_hints: {}"],
    ["buffer: { request: 64KiB }", "buffer: {}"],
    ["compress: { min: 0B }", "compress: { encodings: [gzip] }"],
    ["bandwidth: { rate: 1GiB/s, after: 0B }", "bandwidth: { per: client, rate: 1GiB/s }"],
    ["access: { allow: [127.0.0.0/8] }", "access: { deny: [192.0.2.0/24], answer: close }"],
    [
        "rate_limit: [{ requests: 1000000/s }]",
        "rate_limit: [{ per: route, requests: 1000000/s, over: { delay: 1s } }]",
    ],
    ["concurrency: { requests: 1000 }", "concurrency: { requests: 2000, tunnels: true }"],
    ["ban: { after: 100/1m }", "ban: { after: 200/1m, for: 1h }"],
];

#[test]
fn reloads_of_policies_fail_no_request() {
    let app = App::saying("hello");
    let text = |policy: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, routes: shop, policy: site }} }}\n\
             policies: {{ site: {{ {policy} }} }}\nroutes: {{ shop: [{{ match: {{ path: /in/* }}, {policy}, pool: app }}, {{ pool: app }}] }}\n\
             pools: {{ app: {{ servers: [{}] }} }}\n",
            app.address
        )
        .replace("{ , pool", "{ pool")
        .replace("}, , pool", "}, pool")
    };
    let balancer = Balancer::start(&text(""));
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for path in ["/", "/in/x", "/in/y", "/z"] {
            let (balancer, is_over, answered) = (&balancer, &is_over, &answered);
            scope.spawn(move || {
                let mut client = Client::connect(balancer.address("web"));
                while !is_over.load(SeqCst) {
                    let response = client.get(path);
                    assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{path}");
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
        for policy in KINDS.iter().flat_map(|[added, changed]| [*added, changed, ""]) {
            assert_eq!(balancer.reload(&text(policy)), Reloaded::Taken, "{policy}");
            let before = answered.load(SeqCst);
            wait_until("requests go on", || answered.load(SeqCst) >= before + 8);
        }
        is_over.store(true, SeqCst);
    });
    assert_eq!(balancer.metric("evenkeel_http_requests_failed_total", &[]), 0.0);
}

#[test]
fn who_owes_owes_after_reloads_and_a_limit_that_counts_anew_is_told_before() {
    let app = App::saying("hello");
    let text = |limit: &str, more: &str| {
        format!(
            "listeners: {{ web: {{ address: 127.0.0.1:0, pool: app, policy: site }} }}\n\
             policies: {{ site: {{ rate_limit: [{limit}]{more} }} }}\npools: {{ app: {{ servers: [{}] }} }}\n",
            app.address
        )
    };
    let balancer = Balancer::start(&text("{ requests: 2/h, burst: 2 }", ""));
    let statuses = |n: usize| (0..n).map(|_| balancer.get("/").status).collect::<Vec<_>>();
    assert_eq!(statuses(3), [200, 200, 429]);
    for more in [", security_headers: standard", ", compress: {}", ""] {
        assert_eq!(
            balancer.reload(&text("{ requests: 2/h, burst: 2, fields: true }", more)),
            Reloaded::Taken
        );
        assert_eq!(statuses(1), [429], "{more}");
    }
    let other = text("{ requests: 3/h, burst: 2 }", "");
    balancer.write(&other);
    let (_, plan, _) = balancer.command(&["plan"]);
    assert!(plan.contains("limit site[1] counts something else"), "{plan}");
    assert_eq!(balancer.reload(&other), Reloaded::Taken);
    assert_eq!(statuses(3), [200, 200, 429]);
}
