//! The value of a sticky cookie: 41 bytes in base64url. It names no server, and only who has the key can make one.
//!
//! | bytes | |
//! |---|---|
//! | 1 | version |
//! | 4 | which key |
//! | 16 | the server: HMAC-SHA256 of its name, by the key of its pool |
//! | 4 | when it was issued, in minutes since 1970 |
//! | 16 | HMAC-SHA256 of all before, likewise |

use super::keys::{KeyId, signed};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::Key;
use data_encoding::BASE64URL_NOPAD;

const VERSION: u8 = 1;
const SIGNED: usize = 1 + 4 + 16 + 4;
const BYTES: usize = SIGNED + 16;

/// How long its text is.
pub const LENGTH: usize = (BYTES * 8).div_ceil(6);

/// Which server is meant.
pub(super) type ServerTag = [u8; 16];

/// What a cookie says, as long as nobody has looked whether it is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token([u8; BYTES]);

impl Token {
    /// `None` if it has not the form of one.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; BYTES];
        if text.len() != LENGTH || BASE64URL_NOPAD.decode_mut(text, &mut bytes).is_err() {
            return None;
        }
        (bytes[0] == VERSION).then_some(Self(bytes))
    }

    pub(super) fn issue(key_id: KeyId, key: &Key, server: &ServerTag, minute: u32) -> Self {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&key_id);
        bytes[5..21].copy_from_slice(server);
        bytes[21..25].copy_from_slice(&minute.to_be_bytes());
        let code = code(key, &bytes[..SIGNED]);
        bytes[SIGNED..].copy_from_slice(&code);
        Self(bytes)
    }

    pub(super) fn key_id(&self) -> KeyId {
        *self.0[1..].first_chunk().expect("it is long enough")
    }

    /// Whether it was signed by this key. Comparing takes the same time wherever they differ.
    pub(super) fn is_signed_by(&self, key: &Key) -> bool {
        let code = code(key, &self.0[..SIGNED]);
        verify_slices_are_equal(&code, &self.0[SIGNED..]).is_ok()
    }

    pub(super) fn server(&self) -> ServerTag {
        *self.0[5..].first_chunk().expect("it is long enough")
    }

    pub(super) fn minute(&self) -> u32 {
        u32::from_be_bytes(*self.0[21..].first_chunk().expect("it is long enough"))
    }

    pub(super) fn text(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }
}

/// Whether this has the form of a token, whoever has made it.
pub fn has_form(text: &[u8]) -> bool {
    Token::parse(text).is_some()
}

pub(super) fn server_tag(key: &Key, server: &str) -> ServerTag {
    half(signed(key, &[b"server ", server.as_bytes()]).as_ref())
}

fn code(key: &Key, bytes: &[u8]) -> [u8; 16] {
    half(signed(key, &[b"token ", bytes]).as_ref())
}

/// The first 128 bits (RFC 2104 section 5).
fn half(tag: &[u8]) -> [u8; 16] {
    *tag.first_chunk().expect("a tag of SHA-256 has 32 bytes")
}
