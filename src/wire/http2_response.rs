//! Responses by HTTP/2 as requests and probes take them: the codec lets more of their heads and trailers pass.

use super::field_text::UPGRADE;
use super::header_blocks::BlockFacts;
use super::{LONGEST_HEAD, MOST_TRAILERS, RESPONSE_TOO_LONG, TRAILERS_TOO_LONG};
use crate::fields::list_size;
use http::{HeaderMap, StatusCode, header};

/// Of a response or a request.
pub(super) const TRAILERS_WITH_PSEUDO: &str = "trailers with pseudo-fields";

/// What is wrong with a head, interim or not, if anything is.
pub(crate) fn judge_head(
    status: StatusCode,
    fields: &HeaderMap,
    facts: BlockFacts,
) -> Result<(), &'static str> {
    if let Some(fault) = facts.fault {
        // RFC 9113 section 8.1.1.
        return Err(fault);
    }
    let lengths = || fields.get_all(header::CONTENT_LENGTH).iter().count();
    match lengths() {
        0 => {}
        // It has none (RFC 9110 section 8.6), and the codec holds the response behind it to that length.
        _ if status.is_informational() => return Err("an interim response with Content-Length"),
        1 => {}
        _ => return Err("more than one Content-Length"),
    }
    if facts.has_others {
        // RFC 9113 section 8.3.
        return Err("a response with a request's pseudo-fields");
    }
    if list_size(fields) > LONGEST_HEAD {
        return Err(RESPONSE_TOO_LONG);
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UPGRADE);
    }
    Ok(())
}

/// The same of trailers.
pub(crate) fn judge_trailers(trailers: &HeaderMap, facts: BlockFacts) -> Result<(), &'static str> {
    if let Some(fault) = facts.fault {
        return Err(fault);
    }
    if facts.has_pseudo() {
        // RFC 9113 section 8.1.
        return Err(TRAILERS_WITH_PSEUDO);
    }
    if list_size(trailers) > MOST_TRAILERS {
        return Err(TRAILERS_TOO_LONG);
    }
    Ok(())
}
