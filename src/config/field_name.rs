//! Names of header fields and cookies.

use super::problem::{Fault, quoted};
use super::tree::Scalar;
use http::HeaderName;

/// RFC 6265 section 4.1.1: a cookie's name is a token, as a header's is.
pub(super) fn cookie_name(scalar: &Scalar<'_>) -> Result<String, Fault> {
    match header_name(&scalar.text) {
        Ok(_) => Ok(scalar.text.to_string()),
        Err(_) => Err(Fault::new(
            format!("{} is not the name of a cookie", quoted(&scalar.text)),
            "use letters, digits, `-` and `_`",
        )),
    }
}

pub(super) fn header_name(name: &str) -> Result<HeaderName, Fault> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Fault::new(
            format!("{} is not the name of a header field", quoted(name)),
            "use letters, digits and `-`, like `X-Tier`",
        )
    })
}
