//! A second reader of HTTP/1 heads: RFC 9112 to the letter, which forgives nothing. What our judges let pass must be read
//! the same here, for among the servers behind us there may be one as strict or as odd.

/// A head's first line and its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) start: &'a [u8],
    pub(super) fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Head<'a> {
    /// Reads a whole head and nothing beside it; `None` if it is anything else.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut lines = split_lines(bytes.strip_suffix(b"\r\n\r\n")?);
        let start = lines.remove(0);
        if start.is_empty() || start.iter().any(|byte| is_control(*byte)) {
            return None;
        }
        let fields = lines.into_iter().map(field).collect::<Option<_>>()?;
        Some(Self { start, fields })
    }

    /// The values of all fields of this name.
    pub(super) fn all(&self, name: &str) -> Vec<&'a [u8]> {
        let named = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|(_, value)| *value).collect()
    }

    /// What Content-Length and Transfer-Encoding say together; `None` if they can be read two ways.
    pub(super) fn framing(&self) -> Option<Framing> {
        match (&self.all("content-length")[..], &self.all("transfer-encoding")[..]) {
            ([], []) => Some(Framing::Unsaid),
            ([], [coding]) => coding.eq_ignore_ascii_case(b"chunked").then_some(Framing::Chunked),
            ([digits], []) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
                Some(Framing::Length(std::str::from_utf8(digits).ok()?.parse().ok()?))
            }
            _ => None,
        }
    }
}

/// What a head says of its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Unsaid,
    Length(u64),
    Chunked,
}

fn split_lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(at) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&bytes[..at]);
        bytes = &bytes[at + 2..];
    }
    lines.push(bytes);
    lines
}

/// RFC 9112 section 5.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_good = !name.is_empty() && name.iter().copied().all(is_token);
    (is_good && !value.iter().any(|byte| is_control(*byte))).then(|| (name, trim(value)))
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// No part of a line, CR, LF and NUL least of all.
fn is_control(byte: u8) -> bool {
    byte != b'\t' && byte.is_ascii_control()
}

pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Where to cut something of this length to see what its beginnings mean: everywhere, or at some places of it.
pub(super) fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(1 + length / 64).chain(length.saturating_sub(6)..length)
}
