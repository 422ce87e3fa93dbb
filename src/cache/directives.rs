//! Cache-Control (RFC 9111 section 5.2): what a message asks of caches. Read strictly where a mistake would keep something for
//! too long: a number that is none counts as 0, and of two the smaller one holds.

use smallvec::SmallVec;

/// As many seconds as any cache counts (RFC 9111 section 1.2.2).
pub(crate) const MOST_SECONDS: u64 = 1 << 31;

/// What is said to caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) stale_while_revalidate: Option<u64>,
    pub(crate) stale_if_error: Option<u64>,
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) only_if_cached: bool,
    /// Of a request: how far beyond its time a response may be.
    pub(crate) max_stale: Option<u64>,
    pub(crate) min_fresh: Option<u64>,
    /// Fields that are to be kept by nobody, or not by a cache that many share.
    pub(crate) without: Vec<String>,
}

impl Directives {
    /// What all lines of a Cache-Control field say together.
    pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut said = Self::default();
        for line in lines {
            members(line).for_each(|member| said.add(member));
        }
        said
    }

    fn add(&mut self, member: &[u8]) {
        let (name, value) = match member.iter().position(|byte| *byte == b'=') {
            Some(at) => (&member[..at], Some(&member[at + 1..])),
            None => (member, None),
        };
        // Nobody may have a space there (section 5.2); where somebody has, the value is one that cannot be read.
        let value = match (name.trim_ascii_end().len() == name.len(), value) {
            (false, Some(_)) => Some(&b""[..]),
            (_, value) => value,
        };
        let name = name.trim_ascii_end().to_ascii_lowercase();
        match &name[..] {
            b"max-age" => shorten(&mut self.max_age, value),
            b"s-maxage" => shorten(&mut self.s_maxage, value),
            b"stale-while-revalidate" => shorten(&mut self.stale_while_revalidate, value),
            b"stale-if-error" => shorten(&mut self.stale_if_error, value),
            b"min-fresh" => self.min_fresh = Some(seconds(value).unwrap_or(MOST_SECONDS)),
            b"max-stale" => match value {
                None => self.max_stale = Some(MOST_SECONDS),
                Some(_) => shorten(&mut self.max_stale, value),
            },
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache |= !self.leave_out(value),
            b"private" => self.private |= !self.leave_out(value),
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }

    /// Notes the fields that a directive is about alone; without any it is about the whole message.
    fn leave_out(&mut self, value: Option<&[u8]>) -> bool {
        let Some(value) = value.map(unquoted) else { return false };
        let before = self.without.len();
        for name in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let Ok(name) = http::HeaderName::from_bytes(name) else {
                self.without.truncate(before);
                return false;
            };
            self.without.push(name.as_str().to_owned());
        }
        true
    }
}

fn shorten(known: &mut Option<u64>, value: Option<&[u8]>) {
    let said = seconds(value).unwrap_or(0);
    *known = Some(known.map_or(said, |known| known.min(said)));
}

/// Seconds as digits, quoted or not.
fn seconds(value: Option<&[u8]>) -> Option<u64> {
    digits(&unquoted(value?))
}

/// A whole number of seconds; more than anybody counts is as many as anybody does.
pub(super) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(MOST_SECONDS);
    Some(text.iter().fold(0, add))
}

/// What a quoted string stands for (RFC 9110 section 5.6.4), or a text without quotes as it is.
fn unquoted(value: &[u8]) -> SmallVec<[u8; 32]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")) else {
        return value.into();
    };
    let mut text = SmallVec::new();
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        text.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    text
}

/// The members of a list, which commas part but for those in quotes.
pub(super) fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (mut is_quoted, mut is_escaped) = (false, false);
            let end = rest.iter().position(|byte| {
                let ends = *byte == b',' && !is_quoted;
                match byte {
                    _ if is_escaped => is_escaped = false,
                    b'\\' if is_quoted => is_escaped = true,
                    b'"' => is_quoted = !is_quoted,
                    _ => {}
                }
                ends
            });
            let member = &rest[..end.unwrap_or(rest.len())];
            rest = end.map_or(&[], |end| &rest[end + 1..]);
            let member = member.trim_ascii();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Directives {
        Directives::parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn of_several_numbers_the_smallest_holds_and_what_is_none_is_zero() {
        for (lines, max_age) in [
            (&["max-age=5"][..], Some(5)),
            (&["MaX-AgE=5"], Some(5)),
            (&["max-age=\"5\""], Some(5)),
            (&["max-age=007"], Some(7)),
            (&["max-age=9, max-age=5"], Some(5)),
            (&["max-age=5", "max-age=9"], Some(5)),
            (&["max-age=99999999999999999999999"], Some(MOST_SECONDS)),
            (&["max-age"], Some(0)),
            (&["max-age="], Some(0)),
            (&["max-age=-5"], Some(0)),
            (&["max-age=5.5"], Some(0)),
            (&["max-age=5a"], Some(0)),
            (&["max-age='5'"], Some(0)),
            (&["max-age =5"], Some(0)),
            (&["max-age= 5"], Some(0)),
            (&["x=\"max-age=5\""], None),
            (&["x=\"a\\\", max-age=9\", max-age=5"], Some(5)),
            (&["x-max-age=5"], None),
            (&[], None),
        ] {
            assert_eq!(parse(lines).max_age, max_age, "{lines:?}");
        }
    }

    #[test]
    fn what_is_about_some_fields_is_not_about_the_message() {
        let said = parse(&["no-cache=\"Set-Cookie, A\", private=b"]);
        assert!(!said.no_cache && !said.private);
        assert_eq!(said.without, ["set-cookie", "a", "b"]);
        for whole in ["no-cache", "no-cache=", "no-cache=\"\"", "no-cache=\"a, b c\"", "no-cache=a, no-cache"]
        {
            assert!(parse(&[whole]).no_cache, "{whole}");
        }
        assert!(parse(&["private=\"(\""]).private);
    }

    #[test]
    fn all_that_caches_are_told_is_read() {
        let said =
            parse(&["no-store, Public,must-revalidate ,, proxy-revalidate", "must-understand, immutable"]);
        let all =
            [said.no_store, said.public, said.must_revalidate, said.proxy_revalidate, said.must_understand];
        assert_eq!(all, [true; 5]);
        let said = parse(&["s-maxage=1, stale-while-revalidate=2, stale-if-error=3, min-fresh=4, max-stale"]);
        let numbers = (said.s_maxage, said.stale_while_revalidate, said.stale_if_error);
        assert_eq!(numbers, (Some(1), Some(2), Some(3)));
        assert_eq!((said.min_fresh, said.max_stale), (Some(4), Some(MOST_SECONDS)));
        assert_eq!(parse(&["max-stale=7, only-if-cached"]).max_stale, Some(7));
    }
}
