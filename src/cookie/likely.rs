//! Cookies as any server may read them. Servers differ in what parts pairs (a comma or a blank to some), in what a name is (PHP has `_` for a
//! dot, and `a[b]` is a part of `a`; .NET knows no case; some decode `%61`) and in what quotes are for. Where an error would show
//! somebody's page to others, a cookie counts if anybody may take it for that.

use std::iter::from_fn;

/// What of requests' Cookie fields may be the cookie of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likely<'a> {
    None,
    /// It is there as every server reads it, with these values.
    Values(Vec<&'a [u8]>),
    /// Not all servers read it so: all that may be of it, in order.
    Spelled(Vec<&'a [u8]>),
}

/// Looks for the cookie of a name in fields, one after the other. `are_joined` are fields that servers get as one.
pub fn likely<'a>(fields: &[&'a [u8]], are_joined: bool, name: &str) -> Likely<'a> {
    let plain = |pair: &'a [u8]| {
        let pair = pair.strip_prefix(b" ").unwrap_or(pair);
        pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
    };
    let pairs = || fields.iter().flat_map(|field| field.split(|byte| *byte == b';'));
    let may_be = |pair: &&[u8]| may_name(pair, |have| is_alike(have, name));
    let found: Vec<_> = pairs().filter(may_be).map(|pair| plain(pair).ok_or(pair)).collect();
    if found.is_empty() {
        return Likely::None;
    }
    // Some servers take the first field alone, and to some what stands in quotes is no cookie.
    if fields.len() > 1 && !are_joined || pairs().any(has_open_quotes) {
        return Likely::Spelled(fields.to_vec());
    }
    match found.iter().copied().collect() {
        Ok(values) => Likely::Values(values),
        Err(_) => Likely::Spelled(pairs().filter(may_be).collect()),
    }
}

/// Whether a request's Cookie field may have a cookie that one of the patterns stands for, each of which is a beginning of names if it ends
/// with `*`.
pub fn may_have(field: &[u8], patterns: &[String]) -> bool {
    let is_it = |name: &[u8]| patterns.iter().any(|pattern| is_alike(name, pattern));
    field.split(|byte| *byte == b';').any(|pair| may_name(pair, is_it))
}

/// Whether a response's Set-Cookie field may have clients send a cookie that servers take for that of a name.
pub fn may_set(field: &[u8], name: &str) -> bool {
    // A comma may part two that were fields of their own.
    let mut pairs =
        field.split(|byte| *byte == b',').filter_map(|part| part.split(|byte| *byte == b';').next());
    pairs.any(|pair| may_name(pair, |have| is_alike(have, name)))
}

/// Whether a pair, or what is a pair to some server, has a name that is wanted.
fn may_name(pair: &[u8], is_it: impl Fn(&[u8]) -> bool) -> bool {
    // Up to its mark, or all of it.
    let name = |part: &[u8]| memchr::memchr(b'=', part).unwrap_or(part.len());
    let pair = pair.trim_ascii();
    if memchr::memchr3(b',', b' ', b'\t', pair).is_none() {
        return is_it(&pair[..name(pair)]);
    }
    let mut parts = pair.split(|byte| *byte == b',');
    parts.any(|part| {
        // What stands before a blank is no pair without a mark, but for a name alone.
        let mut before: &[u8] = b"";
        is_it(part[..name(part)].trim_ascii())
            || part.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).any(|word| {
                let named = match word.first() {
                    Some(b'=') => before,
                    _ => &word[..name(word)],
                };
                before = word;
                word.contains(&b'=') && is_it(named)
            })
    })
}

/// Whether a server may go on reading a value where others see the next pair.
fn has_open_quotes(pair: &[u8]) -> bool {
    let quotes = pair.iter().filter(|byte| **byte == b'"').count();
    quotes % 2 == 1 || quotes > 0 && pair.contains(&b'\\')
}

/// Whether a name is one that the pattern stands for to any server.
fn is_alike(name: &[u8], pattern: &str) -> bool {
    // As nearly all that are others.
    if let (Some(first), Some(other)) = (name.first(), pattern.as_bytes().first())
        && first.is_ascii_alphanumeric()
        && other.is_ascii_alphanumeric()
        && !first.eq_ignore_ascii_case(other)
    {
        return false;
    }
    let (wanted, is_beginning) = match pattern.strip_suffix('*') {
        Some(beginning) => (beginning, true),
        None => (pattern, false),
    };
    let mut have = folded(name);
    for wanted in folded(wanted.as_bytes()) {
        // To PHP a bracket that nothing closes is a `_`, too.
        if have.next().is_none_or(|have| have != wanted && !(wanted == b'_' && have == b'[')) {
            return false;
        }
    }
    is_beginning || have.next().is_none_or(|next| next == b'[')
}

/// A name's letters as the most lenient servers have them.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let (mut rest, mut has_begun) = (name, false);
    from_fn(move || {
        loop {
            let (first, mut after) = rest.split_first()?;
            let mut letter = *first;
            if let (b'%', Some((digits, behind))) = (letter, after.split_first_chunk::<2>())
                && let Some(decoded) = decoded(*digits)
            {
                (letter, after) = (decoded, behind);
            }
            rest = after;
            let letter = match letter {
                // Quotes, and blanks that are none in ASCII, are no part of it.
                b'"' | b'\\' | 128.. => continue,
                // Nor are to PHP blanks before it, which up to 7.4.10 decodes names first.
                b' ' | b'+' | b'\t'..=b'\r' if !has_begun => continue,
                0 => return None,
                b'.' | b' ' | b'\t' | b'+' => b'_',
                other => other.to_ascii_lowercase(),
            };
            has_begun = true;
            return Some(letter);
        }
    })
}

fn decoded(digits: [u8; 2]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cookie_is_found_as_any_server_may_read_it() {
        for (field, is_there) in [
            ("cur=5", true),
            ("a=1; cur=5", true),
            ("cur =5", true),
            ("cur\t= 5", true),
            ("cur", true),
            ("a=1;cur ; b", true),
            ("cur[a]=5", true),
            ("cur[]=5", true),
            ("cur[a", true),
            ("cur[a]b=5", true),
            ("cur%5Ba%5d=5", true),
            ("%63ur=5", true),
            ("cur%00x=5", true),
            ("\"cur\"=5", true),
            ("\"cur=5\"", true),
            ("CUR=5", true),
            ("\u{a0}cur=5", true),
            ("%20cur=5", true),
            ("+cur=5", true),
            ("a=1; +%20%09%0a+c%75r[a]=5", true),
            ("\"%20\"+\u{a0}%22cur\"=5", true),
            ("x=1,%20cur=5", true),
            ("x=1 +cur=5", true),
            ("%20cu=5; +curs=6; %20.cur=7; c%20ur=8; +c+ur=9; %00cur=1", false),
            ("x=1,cur=9", true),
            ("x=1, cur = 9", true),
            ("x=1,cur", true),
            ("x=1 cur=9", true),
            ("x=\"1; cur=9\"", true),
            ("x=cur", false),
            ("x=a cur b", false),
            ("x=cur=9", false),
            ("curs=1; xcur=2; cu=3; cur.x=4; cur_=5", false),
            ("x==; =cur", false),
            ("", false),
        ] {
            assert_eq!(
                may_have(field.as_bytes(), &["x-no".to_owned(), "cur".to_owned()]),
                is_there,
                "{field}"
            );
            assert_eq!(likely(&[field.as_bytes()], true, "cur") != Likely::None, is_there, "{field}");
        }
        for (name, pattern, is_it) in [
            ("wp.in[7]", "wp_in_*", true),
            ("wp_in_7", "wp.in_*", true),
            ("WP in+7", "wp_in_*", true),
            ("wp-in_7", "wp_in_*", false),
            ("wp_in", "wp_in_*", false),
            ("+wp_in_7", "wp_in_*", true),
            ("%20wp.in+7", "wp_in_*", true),
            ("+wp", "wp_in_*", false),
            ("a", "*", true),
            ("my.cur[a]", "my_cur", true),
            ("my_cur", "my.cur", true),
        ] {
            assert_eq!(may_have(format!("{name}=1").as_bytes(), &[pattern.to_owned()]), is_it, "{name}");
        }
    }

    #[test]
    fn values_are_those_that_every_server_reads() {
        let values = |values: &[&'static str]| Likely::Values(values.iter().map(|v| v.as_bytes()).collect());
        let spelled = |parts: &[&'static str]| Likely::Spelled(parts.iter().map(|p| p.as_bytes()).collect());
        for (fields, expected) in [
            (&["a=1; cur=5;cur=\"6\""][..], values(&["5", "\"6\""])),
            (&["cur=5,cur=6"], values(&["5,cur=6"])),
            (&["cur=5; cur[a]=6"], spelled(&["cur=5", " cur[a]=6"])),
            (&["a=1; Cur=6; b=2"], spelled(&[" Cur=6"])),
            (&["a=1; %20cur=6; b=2"], spelled(&[" %20cur=6"])),
            (&["cur=5; +cur=6"], spelled(&["cur=5", " +cur=6"])),
            (&["a=\"1; cur=6"], spelled(&["a=\"1; cur=6"])),
            (&["a=\"\\\"; cur=6"], spelled(&["a=\"\\\"; cur=6"])),
            (&["a=\"{'b':1,'c':2}\"; cur=6"], values(&["6"])),
            (&["a=\"1; b=6"], Likely::None),
        ] {
            let fields: Vec<_> = fields.iter().map(|field| field.as_bytes()).collect();
            assert_eq!(likely(&fields, true, "cur"), expected, "{fields:?}");
        }
        let two = [&b"a=1"[..], b"cur=2"];
        assert_eq!(likely(&two, true, "cur"), values(&["2"]));
        assert_eq!(likely(&two, false, "cur"), spelled(&["a=1", "cur=2"]));
        assert_eq!(likely(&two, false, "b"), Likely::None);
    }

    #[test]
    fn what_a_response_sets_is_found_as_any_server_may_read_it_next_time() {
        for (field, sets) in [
            ("cur=a; Path=/", true),
            ("cur[a]=b", true),
            ("\"cur\"=b", true),
            ("cur", true),
            ("%20cur=1", true),
            ("+cur=1; Path=/", true),
            ("x=1; Path=/, cur=2", true),
            ("x=1,+cur=2", true),
            ("x=1,cur=2; Path=/", true),
            ("x=1; cur=2", false),
            ("x=1; Expires=Wed, 09 Jun 2027 10:18:14 GMT; Path=/", false),
        ] {
            assert_eq!(may_set(field.as_bytes(), "cur"), sets, "{field}");
        }
        assert!(!may_set(b"x=1; Path=/", "path"));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(field in prop::collection::vec(any::<u8>(), 0..80)) {
            let found = likely(&[&field], true, "a") != Likely::None;
            prop_assert_eq!(found, may_have(&field, &["a".to_owned()]));
        }
    }
}
