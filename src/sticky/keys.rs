//! The secrets that sticky cookies are made and known by. Never printed.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, Tag, sign};
use std::fmt;
use std::sync::Arc;

/// Secrets in their order: the first signs, all verify.
#[derive(Clone, Default)]
pub struct StickyKeys(Arc<[Secret]>);

/// One secret.
#[derive(Clone)]
pub struct Secret {
    text: Arc<str>,
    key: Key,
    id: KeyId,
}

/// Which secret a cookie was signed by; it tells nothing of the secret.
pub type KeyId = [u8; 4];

/// What is wrong with a file of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    #[error("holds no key")]
    Empty,
    #[error("holds more than {} keys", StickyKeys::MOST)]
    TooMany,
    #[error("line {line} is no key of {} to 512 printable characters without spaces", Secret::SHORTEST)]
    Unfit { line: usize },
}

impl StickyKeys {
    /// More would only be those that somebody has forgotten.
    pub const MOST: usize = 16;

    /// One for each line; empty lines say nothing.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let lines = text.lines().map(str::trim_end).enumerate().filter(|(_, line)| !line.is_empty());
        let read = |(index, line)| Secret::new(line).ok_or(KeyFault::Unfit { line: index + 1 });
        let secrets = lines.map(read).collect::<Result<Vec<_>, _>>()?;
        match secrets.len() {
            0 => Err(KeyFault::Empty),
            n if n > Self::MOST => Err(KeyFault::TooMany),
            _ => Ok(Self(secrets.into())),
        }
    }

    pub fn each(&self) -> &[Secret] {
        &self.0
    }
}

impl From<Secret> for StickyKeys {
    fn from(secret: Secret) -> Self {
        Self([secret].into())
    }
}

impl Secret {
    /// As many as 16 bytes have in hexadecimal digits.
    pub const SHORTEST: usize = 32;

    /// `None` if it could be guessed, or cannot be written on a line.
    pub fn new(text: &str) -> Option<Self> {
        let is_fit = (Self::SHORTEST..=512).contains(&text.len());
        if !is_fit || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let key = Key::new(HMAC_SHA256, text.as_bytes());
        let tag = signed(&key, &[b"evenkeel sticky key id"]);
        let id = *tag.as_ref().first_chunk().expect("a tag is longer");
        Some(Self { text: text.into(), key, id })
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it may be called by; it tells nothing of the key.
    pub fn name(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.id)
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// What stands for it in one pool: no pool's cookie is one in another.
    pub(super) fn for_pool(&self, pool: &str) -> Key {
        let tag = signed(&self.key, &[b"evenkeel sticky pool ", pool.as_bytes()]);
        Key::new(HMAC_SHA256, tag.as_ref())
    }
}

/// The authentication code of these parts, one behind the other.
pub(super) fn signed(key: &Key, parts: &[&[u8]]) -> Tag {
    match parts {
        [part] => sign(key, part),
        parts => {
            let mut context = aws_lc_rs::hmac::Context::with_key(key);
            parts.iter().for_each(|part| context.update(part));
            context.sign()
        }
    }
}

impl PartialEq for StickyKeys {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(Secret::text).eq(other.0.iter().map(Secret::text))
    }
}

impl fmt::Debug for StickyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StickyKeys({})", self.0.len())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_file_has_a_key_on_each_line() {
        let text = format!("{KEY}\n\n{KEY}x\r\n");
        let keys = StickyKeys::parse(&text).expect("two keys");
        assert_eq!(keys.each().iter().map(Secret::text).collect::<Vec<_>>(), [KEY, &format!("{KEY}x")]);
        assert_eq!(keys, StickyKeys::parse(&text).expect("the same"));
        assert_ne!(keys, StickyKeys::parse(&format!("{KEY}x\n{KEY}")).expect("another first"));
        assert!(!format!("{keys:?} {:?}", keys.each()[0]).contains(KEY));
        for (text, fault) in [
            (String::new(), KeyFault::Empty),
            ("\n\n".to_owned(), KeyFault::Empty),
            (format!("{KEY}\n\nshort"), KeyFault::Unfit { line: 3 }),
            (format!("{KEY} {KEY}"), KeyFault::Unfit { line: 1 }),
            (format!("{KEY}\n").repeat(17), KeyFault::TooMany),
        ] {
            assert_eq!(StickyKeys::parse(&text), Err(fault));
        }
    }
}
