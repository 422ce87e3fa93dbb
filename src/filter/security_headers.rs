//! Fields that keep browsers from guessing and from being framed, unless the server speaks of them itself; the OWASP Secure
//! Headers Project's, as far as they break no site. `X-Powered-By` tells nobody but attackers.

use super::{Filter, ResponseFacts};
use crate::config::plan::policy::SecurityHeaders as Kind;
use crate::wire::edit::{Edits, FieldName};
use crate::wire::response_head::ResponseView;
use http::{HeaderName, header};

static STANDARD: [(FieldName, &str); 3] = [
    (FieldName::new(header::X_CONTENT_TYPE_OPTIONS, "X-Content-Type-Options"), "nosniff"),
    (FieldName::new(header::X_FRAME_OPTIONS, "X-Frame-Options"), "SAMEORIGIN"),
    (FieldName::new(header::REFERRER_POLICY, "Referrer-Policy"), "strict-origin-when-cross-origin"),
];
static POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

#[derive(Debug)]
pub(super) struct SecurityHeaders;

impl Filter for SecurityHeaders {
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        let chosen = facts.policy.and_then(|applied| applied.policy.plan.security_headers.get());
        if chosen != Some(&Kind::Standard) || response.is_interim() {
            return;
        }
        edits.remove(response.fields, &POWERED_BY);
        for (name, value) in &STANDARD {
            if !edits.leaves(response.fields, &name.name) {
                edits.add_judged(name, *value);
            }
        }
    }
}
