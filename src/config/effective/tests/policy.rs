//! Policies of any kind, for a policy's own section and for rules.

use super::{Choices, maybe, section};

/// What a policy says.
pub(super) fn policy(choices: &mut Choices) -> Vec<String> {
    let mut lines = Vec::new();
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
const VALUES: [(&str, &[&str]); 8] = [
    (
        "rewrite",
        &[
            "{ strip_prefix: /api/, add_prefix: '/a~', host: '{host}:81' }",
            "{ regex: '^/a(?P<b>.)$', to: '/x{query}' }",
            "{}",
            "null",
        ],
    ),
    ("canonical", &["{ https: true, www: add, trailing_slash: remove }", "{}", "null"]),
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
    ("fault", &["{ share: 5%, delay: 1500ms, status: 503, only_with: null }", "{ status: 500 }", "null"]),
    ("early_hints", &["{ pass: false }", "{}", "null"]),
];

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
