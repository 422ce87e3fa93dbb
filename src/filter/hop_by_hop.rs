//! Takes out what is about one connection (RFC 9110 section 7.6.1) or its proxy (section 11.7.2). How bodies are framed is
//! the writers' matter.

use super::{Filter, RequestFacts, ResponseFacts};
use crate::fields::{Field, FieldList, tokens};
use crate::wire::edit::Edits;
use crate::wire::request::RequestView;
use crate::wire::response_head::ResponseView;
use http::{Version, header};

#[derive(Debug)]
pub(super) struct HopByHop;

impl Filter for HopByHop {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        let mut nominates = false;
        request.fields.each().enumerate().for_each(|(index, field)| {
            let goes = match field.name_length() {
                // Of HTTP/2 it says whether trailers are understood, by whoever reads them (section 10.1.4).
                2 => {
                    let is_end_to_end =
                        request.version == Version::HTTP_2 && field.value().eq_ignore_ascii_case(b"trailers");
                    field.is("te") && !is_end_to_end
                }
                // Nobody waits for a 100 in HTTP/1.0 (section 10.1.1), or who has had it.
                6 => (request.version == Version::HTTP_10 || facts.is_asked_for) && field.is("expect"),
                7 => field.is("upgrade"),
                10 => is_connection(field, &mut nominates) || field.is("keep-alive"),
                14 => field.is("http2-settings"),
                16 => field.is("proxy-connection"),
                19 => field.is("proxy-authorization"),
                _ => false,
            };
            if goes {
                edits.remove_at(index);
            }
        });
        if nominates {
            remove_nominated(request.fields, edits);
        }
    }

    fn response<'a>(&self, response: &ResponseView<'a>, _: &ResponseFacts<'a>, edits: &mut Edits<'a>) {
        let mut nominates = false;
        response.fields.each().enumerate().for_each(|(index, field)| {
            let goes = match field.name_length() {
                // It is a request's, and of no meaning here; HTTP/2 has no form for it (RFC 9113 section 8.2.2).
                2 => field.is("te"),
                // Which protocols its sender could switch to (sections 15.2.2 and 15.5.22), or else of one connection.
                7 => !matches!(response.status, 101 | 426) && field.is("upgrade"),
                10 => is_connection(field, &mut nominates) || field.is("keep-alive"),
                16 => field.is("proxy-connection"),
                _ => false,
            };
            if goes {
                edits.remove_at(index);
            }
        });
        // What a 101 nominates is what it switches to.
        if nominates && response.status != 101 {
            remove_nominated(response.fields, edits);
        }
    }
}

/// Whether this is a Connection field; what it says beyond how long the connection lasts names other fields.
fn is_connection(field: Field<'_>, nominates: &mut bool) -> bool {
    if !field.is("connection") {
        return false;
    }
    let is_of_connection = [b"close".as_slice(), b"keep-alive", b"upgrade"]
        .into_iter()
        .any(|option| field.value().eq_ignore_ascii_case(option));
    *nominates |= !is_of_connection;
    true
}

/// Takes out what Connection names, but for what says whom a request is for and where a message ends, without which the
/// message would be another one, and for Upgrade, of which was decided by itself.
fn remove_nominated(fields: FieldList<'_>, edits: &mut Edits<'_>) {
    for (index, field) in fields.each().enumerate() {
        let is_nominated =
            || tokens(fields.all(&header::CONNECTION)).any(|token| token.eq_ignore_ascii_case(field.name()));
        let is_needed = ["host", "content-length", "transfer-encoding", "upgrade"];
        if is_nominated() && !is_needed.into_iter().any(|name| field.is(name)) {
            edits.remove_at(index);
        }
    }
}
