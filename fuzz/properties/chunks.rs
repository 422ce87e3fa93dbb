//! Bodies in chunks.

use evenkeel::fuzzing::{chunked_body, chunked_length, chunked_stripped};

/// In whatever pieces it comes, a body has the same data and the same end, those that a reader of the whole finds; and its
/// data in chunks of our own, or without its trailers, are the same data. The first byte says how long the pieces are.
pub(crate) fn of_a_chunked_body(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let whole = chunked_body([bytes]);
    assert_eq!(chunked_body(bytes.chunks(1)), whole, "byte by byte");
    assert_eq!(chunked_body(bytes.chunks(usize::from(*size).max(1))), whole, "in pieces of {size}");
    assert_eq!(chunked_length(bytes), whole.length);
    assert!(!(whole.is_over && whole.is_broken));
    assert!(whole.data.len() as u64 <= whole.announced);

    // Beyond that there is a bound on what is not data, which a reader to the letter knows nothing of.
    if bytes.len() <= 16 << 10 {
        let (end, data) = read(bytes);
        let found = match (whole.is_over, whole.is_broken) {
            (true, _) => End::At(whole.length),
            (_, true) => End::Broken,
            _ => End::Beyond,
        };
        assert_eq!(found, end);
        assert_eq!(whole.data, data);
    }
    let (data, body) = chunked_stripped([bytes]);
    assert_eq!(data, whole.data);
    assert_eq!(chunked_stripped(bytes.chunks(1)), (data.clone(), body.clone()), "byte by byte");
    let without = chunked_body([&body[..]]);
    assert_eq!((without.is_over, without.length, without.data), (whole.is_over, body.len(), data));
    if whole.is_over {
        assert!(body.ends_with(b"\r\n\r\n"), "an empty line follows the last chunk at once");
        assert_eq!(whole.announced, whole.data.len() as u64);
        let mut ours = Vec::new();
        for chunk in whole.data.chunks(usize::from(*size).max(1)) {
            ours.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            ours.extend_from_slice(chunk);
            ours.extend_from_slice(b"\r\n");
        }
        ours.extend_from_slice(b"0\r\n\r\n");
        let again = chunked_body([&ours[..]]);
        assert_eq!((again.is_over, again.length, again.data), (true, ours.len(), whole.data));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    At(usize),
    /// It is not over yet.
    Beyond,
    Broken,
}

/// Reads a whole body at once (RFC 9112 section 7.1), as far as it goes.
fn read(bytes: &[u8]) -> (End, Vec<u8>) {
    let mut reader = Reader { rest: bytes, data: Vec::new() };
    let end = match reader.body() {
        Ok(()) => End::At(bytes.len() - reader.rest.len()),
        Err(Stop::More) => End::Beyond,
        Err(Stop::Broken) => End::Broken,
    };
    (end, reader.data)
}

struct Reader<'a> {
    rest: &'a [u8],
    data: Vec<u8>,
}

enum Stop {
    More,
    Broken,
}

impl Reader<'_> {
    fn body(&mut self) -> Result<(), Stop> {
        loop {
            let size = self.size()?;
            self.extensions()?;
            if size == 0 {
                break;
            }
            let n = usize::try_from(size).unwrap_or(usize::MAX).min(self.rest.len());
            let (data, rest) = self.rest.split_at(n);
            self.data.extend_from_slice(data);
            self.rest = rest;
            if (n as u64) < size {
                return Err(Stop::More);
            }
            self.line_end()?;
        }
        while self.peek()? != b'\r' {
            if self.skip(super::message::is_token)? == 0 {
                return Err(Stop::Broken);
            }
            self.expect(b':')?;
            self.skip(is_text)?;
            self.line_end()?;
        }
        self.line_end()
    }

    /// Less than 2^60, as nobody means more.
    fn size(&mut self) -> Result<u64, Stop> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = String::from_utf8_lossy(&self.rest[..digits]);
        let significant = text.trim_start_matches('0');
        if significant.len() > 15 {
            return Err(Stop::Broken);
        }
        self.rest = &self.rest[digits..];
        self.peek()?;
        if digits == 0 { Err(Stop::Broken) } else { Ok(u64::from_str_radix(significant, 16).unwrap_or(0)) }
    }

    fn extensions(&mut self) -> Result<(), Stop> {
        self.skip(|byte| byte == b' ' || byte == b'\t')?;
        if self.peek()? == b';' {
            self.skip(is_text)?;
        }
        self.line_end()
    }

    fn line_end(&mut self) -> Result<(), Stop> {
        self.expect(b'\r')?;
        self.expect(b'\n')
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Broken);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// How many such bytes there were before another.
    fn skip(&mut self, is_such: impl Fn(u8) -> bool) -> Result<usize, Stop> {
        let n = self.rest.iter().take_while(|byte| is_such(**byte)).count();
        self.rest = &self.rest[n..];
        self.peek().map(|_| n)
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.rest.first().copied().ok_or(Stop::More)
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
