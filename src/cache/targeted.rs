//! Cache control that is meant for some caches alone (RFC 9213): a dictionary of structured fields (RFC 9651), which is good as
//! a whole or does not count.

use super::directives::{Directives, MOST_SECONDS};

/// What a member of a dictionary has for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    True,
    Integer(i64),
    Other,
}

/// What all lines of such a field say together; `None` if there is none, or none that is good and says something.
pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Directives> {
    let joined = lines.collect::<Vec<_>>().join(&b',');
    let mut said = Directives::default();
    for (name, value) in dictionary(&joined)? {
        said.set(name, &value)?;
    }
    (said != Directives::default() || !joined.trim_ascii().is_empty()).then_some(said)
}

impl Directives {
    /// Takes a member; `None` if its value is of another type than it has.
    fn set(&mut self, name: &[u8], value: &Value) -> Option<()> {
        let seconds = || match value {
            Value::Integer(seconds) => Some(u64::try_from(*seconds).unwrap_or(0).min(MOST_SECONDS)),
            Value::True | Value::Other => None,
        };
        let flag = match name {
            b"max-age" => return seconds().map(|seconds| self.max_age = Some(seconds)),
            b"s-maxage" => return seconds().map(|seconds| self.s_maxage = Some(seconds)),
            b"stale-while-revalidate" => {
                return seconds().map(|seconds| self.stale_while_revalidate = Some(seconds));
            }
            b"stale-if-error" => return seconds().map(|seconds| self.stale_if_error = Some(seconds)),
            b"no-store" => &mut self.no_store,
            b"no-cache" => &mut self.no_cache,
            b"private" => &mut self.private,
            b"public" => &mut self.public,
            b"must-revalidate" => &mut self.must_revalidate,
            b"proxy-revalidate" => &mut self.proxy_revalidate,
            b"must-understand" => &mut self.must_understand,
            _ => return Some(()),
        };
        // What is said of some fields alone is taken to be said of all.
        *flag = true;
        Some(())
    }
}

/// RFC 9651 section 4.2.2; of two members of one name the last counts.
fn dictionary(text: &[u8]) -> Option<Vec<(&[u8], Value)>> {
    let mut input = Input(trim_spaces(text));
    let mut members: Vec<(&[u8], Value)> = Vec::new();
    while !input.0.is_empty() {
        let name = input.key()?;
        let value = if input.take(b'=') { input.item_or_list()? } else { Value::True };
        input.parameters()?;
        members.retain(|(known, _)| *known != name);
        members.push((name, value));
        input.skip_blanks();
        if input.0.is_empty() {
            break;
        }
        if !input.take(b',') {
            return None;
        }
        input.skip_blanks();
        if input.0.is_empty() {
            return None;
        }
    }
    Some(members)
}

fn trim_spaces(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|byte| *byte != b' ').unwrap_or(text.len());
    let end = text.iter().rposition(|byte| *byte != b' ').map_or(begin, |at| at + 1);
    &text[begin..end]
}

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn take_while(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !is_part(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip_blanks(&mut self) {
        self.take_while(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn key(&mut self) -> Option<&'a [u8]> {
        let begins = self.0.first().is_some_and(|byte| byte.is_ascii_lowercase() || *byte == b'*');
        begins.then(|| {
            self.take_while(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
            })
        })
    }

    fn parameters(&mut self) -> Option<()> {
        while self.take(b';') {
            self.take_while(|byte| byte == b' ');
            self.key()?;
            if self.take(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Value> {
        if !self.take(b'(') {
            return self.item();
        }
        loop {
            self.take_while(|byte| byte == b' ');
            if self.take(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        match *self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => {
                self.take(b'"');
                loop {
                    self.take_while(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
                    if self.take(b'"') {
                        return Some(Value::Other);
                    }
                    if !self.take(b'\\') || !(self.take(b'"') || self.take(b'\\')) {
                        return None;
                    }
                }
            }
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte));
                Some(Value::Other)
            }
            b':' => {
                self.take(b':');
                self.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
                self.take(b':').then_some(Value::Other)
            }
            b'?' => {
                self.take(b'?');
                let is_true = self.take(b'1');
                (is_true || self.take(b'0')).then_some(if is_true { Value::True } else { Value::Other })
            }
            b'@' => {
                self.take(b'@');
                matches!(self.number()?, Value::Integer(_)).then_some(Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let sign = if self.take(b'-') { -1 } else { 1 };
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if self.take(b'.') {
            let part = self.take_while(|byte| byte.is_ascii_digit());
            let is_good = (1..=12).contains(&whole.len()) && (1..=3).contains(&part.len());
            return is_good.then_some(Value::Other);
        }
        let digits = std::str::from_utf8(whole).ok().filter(|digits| (1..=15).contains(&digits.len()))?;
        Some(Value::Integer(sign * digits.parse::<i64>().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_lines(lines: &[&str]) -> Option<Directives> {
        parse(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn a_dictionary_is_good_as_a_whole_or_does_not_count() {
        for (line, max_age) in [
            ("max-age=60", Some(60)),
            (" max-age=60;x=\"y\", foo, bar=(1 2;a b), b=:YQ==:, c=?0, d=1.5, e=@1659578233 ", Some(60)),
            ("max-age=60, max-age=5", Some(5)),
            ("max-age=-3", Some(0)),
            ("max-age=99999999999", Some(MOST_SECONDS)),
            ("max-age=1234567890123456", None),
            ("max-age=\"60\"", None),
            ("max-age=60.0", None),
            ("max-age", None),
            ("max-age =60", None),
            ("max-age= 60", None),
            ("Max-Age=60", None),
            ("max-age=60,", None),
            ("max-age=60, &&&&&", None),
            ("max-age=60 foo", None),
            ("max-age=60, x=\"a", None),
            ("max-age=60, x=(1", None),
            ("", None),
        ] {
            assert_eq!(parse_lines(&[line]).and_then(|said| said.max_age), max_age, "{line}");
        }
        assert_eq!(parse_lines(&["max-age=1", "no-store"]).map(|said| said.no_store), Some(true));
        assert_eq!(parse_lines(&[]), None);
        assert_eq!(parse_lines(&["foo"]), Some(Directives::default()), "it says something that is not known");
        let said = parse_lines(&["private, no-cache=x, must-revalidate"]).expect("a dictionary");
        assert!(said.private && said.no_cache && said.must_revalidate && !said.public);
    }
}
