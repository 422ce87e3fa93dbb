//! Who may read a response: pages of which origins (the Fetch standard, "CORS protocol"). Ours is the word, whatever a server says.

use super::{Filter, ResponseFacts};
use crate::fields::has_token;
use crate::wire::edit::{Edits, FieldName};
use crate::wire::response_head::ResponseView;
use http::header;
use std::borrow::Cow;

static ALLOW_ORIGIN: FieldName =
    FieldName::new(header::ACCESS_CONTROL_ALLOW_ORIGIN, "Access-Control-Allow-Origin");
static ALLOW_CREDENTIALS: FieldName =
    FieldName::new(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "Access-Control-Allow-Credentials");
static VARY: FieldName = FieldName::new(header::VARY, "Vary");

#[derive(Debug)]
pub(super) struct Cors;

impl Filter for Cors {
    fn response<'a>(&self, response: &ResponseView<'a>, facts: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        let Some(cors) = facts.policy.and_then(|applied| applied.policy.plan.cors.get()) else { return };
        if response.is_interim() {
            return;
        }
        edits.remove(response.fields, &ALLOW_ORIGIN.name);
        edits.remove(response.fields, &ALLOW_CREDENTIALS.name);
        let varies = response.fields.all(&header::VARY);
        if !has_token(varies, "origin") && !has_token(response.fields.all(&header::VARY), "*") {
            edits.add_judged(&VARY, "Origin");
        }
        let origin = facts.request.and_then(|request| request.fields.first(&header::ORIGIN));
        if cors.allows_any() {
            edits.add_judged(&ALLOW_ORIGIN, "*");
        } else if let Some(origin) = origin.filter(|origin| cors.allows(origin)) {
            edits.add_stranger(&ALLOW_ORIGIN, Cow::Borrowed(origin));
            if cors.credentials {
                edits.add_judged(&ALLOW_CREDENTIALS, "true");
            }
        }
    }
}
