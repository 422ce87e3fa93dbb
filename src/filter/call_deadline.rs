//! What is left of a gRPC call's deadline: the server is told of that, not of what its client had at first, so that it does
//! no work that nobody waits for any more ("gRPC over HTTP2", the protocol's document; Envoy and gRPC's own proxies do so too).

use super::{Filter, RequestFacts};
use crate::wire::edit::{Edits, FieldName};
use crate::wire::request::RequestView;
use http::HeaderName;
use std::time::Duration;

static TIMEOUT: FieldName = FieldName::new(HeaderName::from_static("grpc-timeout"), "grpc-timeout");

#[derive(Debug)]
pub(super) struct CallDeadline;

impl Filter for CallDeadline {
    fn request<'a>(&self, request: &RequestView<'a>, facts: &RequestFacts<'a>, edits: &mut Edits<'a>) {
        if let Some(left) = facts.call_left {
            edits.set(request.fields, &TIMEOUT, written(left));
        }
    }
}

/// In the finest unit that eight digits have room for; never nothing, which would be no deadline.
fn written(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match (left.as_micros(), left.as_millis()) {
        (micros @ ..=MOST, _) => format!("{}u", micros.max(1)),
        (_, millis @ ..=MOST) => format!("{millis}m"),
        _ => format!("{}S", u128::from(left.as_secs()).min(MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_has_eight_digits_at_most() {
        for (left, text) in [
            (Duration::ZERO, "1u"),
            (Duration::from_micros(1_500), "1500u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(written(left), text);
        }
    }
}
