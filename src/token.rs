//! The secret that a request to the API shows to change something, or to be answered at all from elsewhere.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;
use std::path::Path;

/// A secret of one line; never printed.
pub(crate) struct Token(Vec<u8>);

/// What is wrong with a file that should hold one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error(
        "holds {0}; use one line of 16 to 512 printable characters, such as `openssl rand -hex 32` makes"
    )]
    Unfit(&'static str),
}

impl Token {
    pub(crate) fn read(path: &Path) -> Result<Self, TokenError> {
        Self::new(&crate::files::read_text(path)?)
    }

    pub(crate) fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim_end_matches(['\r', '\n']);
        match text {
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(TokenError::Unfit("something else than printable characters without spaces"))
            }
            _ if text.len() < 16 => Err(TokenError::Unfit("too few characters")),
            _ if text.len() > 512 => Err(TokenError::Unfit("too many characters")),
            _ => Ok(Self(text.as_bytes().to_vec())),
        }
    }

    /// As it is shown to others; it has printable characters only.
    pub(crate) fn shown(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Compares in a time that tells nothing of where they differ, nor how long the secret is.
    pub(crate) fn is(&self, shown: &[u8]) -> bool {
        let [own, shown] = [&*self.0, shown].map(|bytes| digest(&SHA256, bytes));
        verify_slices_are_equal(own.as_ref(), shown.as_ref()).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_that_cannot_be_guessed() {
        let token = Token::new("0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for wrong in ["0123456789abcdeg", "0123456789abcdef\n", "0123456789abcde", ""] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        for unfit in ["", "short", "0123456789 abcdef", "0123456789abcdef\nsecond line", "0123456789abcdéf"]
        {
            assert!(Token::new(unfit).is_err(), "{unfit:?}");
        }
        assert_eq!(format!("{token:?}"), "Token(secret)");
    }
}
