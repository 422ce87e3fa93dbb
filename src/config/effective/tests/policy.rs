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
    lines
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
