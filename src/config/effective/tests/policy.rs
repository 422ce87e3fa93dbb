//! Policies of any kind, for a policy's own section and for rules.

use super::{Choices, maybe, section};

/// What a policy says.
pub(super) fn policy(choices: &mut Choices) -> Vec<String> {
    let mut lines = limits(choices);
    for key in ["request_headers", "response_headers"] {
        maybe(&mut lines, choices, key, |choices| match choices.below(4) {
            3 => "null".to_owned(),
            _ => field_rules(choices),
        });
    }
    for (key, values) in VALUES {
        maybe(&mut lines, choices, key, |choices| choices.one(values).to_owned());
    }
    lines
}

/// Of each of the other keys, each form that it may have.
const VALUES: [(&str, &[&str]); 12] = [
    (
        "rewrite",
        &[
            "{ strip_prefix: /api/, add_prefix: '/a~', host: '{host}:81' }",
            "{ regex: '^/a(?P<b>.)$', to: '/x{query}' }",
            "{}",
            "null",
        ],
    ),
    ("canonical", &["{ https: true, www: remove, trailing_slash: add }", "{}", "null"]),
    (
        "maintenance",
        &["{ enabled: true, file: 'a b', retry_after: 90s, except: [10.0.0.0/8] }", "{}", "null"],
    ),
    ("errors", &["{ '502-504': { html: a, json: 'b c' }, '404': {}, intercept: [502, 404] }", "{}", "null"]),
    (
        "cors",
        &[
            "{ origins: ['https://a.example', 'https://*.b.example'], methods: [PUT], headers: [X-A], credentials: true, max_age: 0s }",
            "{ origins: [\"*\"], headers: [\"*\"] }",
            "null",
        ],
    ),
    ("security_headers", &["standard", "null"]),
    ("bandwidth", &["{ per: client, rate: 3 MiB/s, after: 1500B }", "{ rate: 1KiB/s }", "{}", "null"]),
    ("fault", &["{ share: 5%, delay: 1500ms, status: 503, only_with: null }", "{ status: 500 }", "null"]),
    ("early_hints", &["{ pass: false }", "{}", "null"]),
    ("buffer", &["{ request: 64KiB }", "{}", "null"]),
    (
        "cache",
        &[
            "{ ttl: 90s, ttl_by_status: { '404': 10s, '301': 1h }, force_ttl: 1500ms, heuristic: 10%, stale_while_revalidate: 1m, stale_if_error: 1d, obey_client: true, targeted: [X-A, CDN-Cache-Control], drop_set_cookie: true, tags: { fields: [X-Tag], send: true }, coalesce: 0s, uncacheable_for: 90s, min_uses: 3, status_field: false }",
            "{ key: { host: false, query: [page, 'a~'], ignore_query: [], sort_query: false, headers: [Store], cookies: [X-Magento-Vary], device: true, methods: [GET] }, bypass: { cookies: [sid, wp_*], headers: [X-No], paths: [/checkout/*, /a] }, targeted: [] }",
            "{ key: { query: all, ignore_query: [a*] } }",
            "{ key: { query: [] } }",
            "{}",
            "null",
        ],
    ),
    (
        "compress",
        &[
            "{ encodings: [gzip, zstd], min: 0B, types: [Text/HTML, application/*], level: { gzip: 9, br: 6, zstd: 12 }, streams: true }",
            "{}",
            "null",
        ],
    ),
];
/// Who may ask, and how often.
fn limits(choices: &mut Choices) -> Vec<String> {
    let mut lines = Vec::new();
    maybe(&mut lines, choices, "access", |choices| match choices.below(4) {
        3 => "null".to_owned(),
        _ => {
            let answer = choices.one(&["{ tarpit: 1500ms }", "close", "404"]);
            let countries = choices.one(&["{ allow: [DE, no] }", "{ deny: [XX] }", "{}"]);
            format!(
                "{{ allow: [office], deny: ['b.d', 192.0.2.0/24], countries: {countries}, asns: {{ deny: [7] }}, answer: {answer} }}"
            )
        }
    });
    maybe(&mut lines, choices, "rate_limit", |choices| match choices.below(4) {
        3 => choices.one(&["null", "[]"]).to_owned(),
        _ => format!("[{}, {{ per: route, count: {{ status: [401, '500-599'] }} }}]", rate_limit(choices)),
    });
    maybe(&mut lines, choices, "concurrency", |choices| match choices.below(4) {
        3 => "null".to_owned(),
        _ => {
            let tunnels = choices.one(&["true", "false"]).to_owned();
            format!(
                "{{ per: {}, requests: {}, tunnels: {tunnels} }}",
                per(choices),
                choices.within(1, 1_000_000)
            )
        }
    });
    maybe(&mut lines, choices, "ban", |choices| {
        let after = choices.one(&["1/1s", "1000000/1d", "20/90s"]);
        format!("{{ after: {after}, status: ['500-599', 401], for: 1h, except: [office] }}")
    });
    lines
}

fn per(choices: &mut Choices) -> String {
    choices
        .one(&[
            "[client, route, { header: X-Key }, { cookie: id }, { query: q }]",
            "client",
            "{ header: x-key }",
            "{ cookie: id }",
            "{ query: '~' }",
        ])
        .to_owned()
}

fn rate_limit(choices: &mut Choices) -> String {
    let over = choices.one(&["{ delay: 1s }", "reject", "log"]);
    let count = match over {
        "{ delay: 1s }" => "all",
        _ => choices.one(&["{ status: [401, '500-599'] }", "all"]),
    };
    let (requests, burst) = (choices.one(&["1/h", "100/m", "1000000/s"]), choices.one(&["null", "7"]));
    let fields = choices.one(&["true", "false"]);
    format!(
        "{{ per: {}, requests: {requests}, burst: {burst}, count: {count}, over: {over}, except: [office], fields: {fields} }}",
        per(choices)
    )
}

fn field_rules(choices: &mut Choices) -> String {
    let mut lines = Vec::new();
    maybe(&mut lines, choices, "set", |choices| {
        choices.one(&["{ X-Set: 'a {{b} {client}', 'null': '~', X-Off: null }", "{}"]).to_owned()
    });
    maybe(&mut lines, choices, "add", |choices| choices.one(&["{ X-Add: '{header.X-A}' }", "{}"]).to_owned());
    maybe(&mut lines, choices, "default", |choices| choices.one(&["{ X-Default: '1' }", "{}"]).to_owned());
    maybe(&mut lines, choices, "remove", |choices| choices.one(&["[X-Gone, '~']", "[]"]).to_owned());
    section(lines)
}

/// Where a rule leads, if not to a pool.
pub(super) fn target(choices: &mut Choices) -> String {
    match choices.below(3) {
        0 => "redirect: { to: 'https://shop.example{path}', status: 303, keep_query: false }".to_owned(),
        1 => "respond: { status: 404, body: 'no ~', headers: { X-A: '{host}' } }".to_owned(),
        _ => "respond: { file: 'a b.html' }".to_owned(),
    }
}
