//! Finds where a chunked body ends (RFC 9112 section 7.1), so that what comes after it waits its turn as the
//! next request. Strict, because framing that two readers read differently smuggles requests: every line ends
//! in CR LF, a size has a digit and nothing after it but an extension, a trailer has a name.

use super::MOST_TRAILERS;

/// A chunked body as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    state: State,
    /// Bytes of data, without their framing.
    data: u64,
    /// Bytes of extensions and trailers, and zeros before sizes.
    extra: u64,
    /// Bytes of trailers that may come beyond those.
    trailers_left: u32,
}

/// How far into a chunked body we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a chunk's size.
    Start,
    /// In a chunk's size.
    Size(u64),
    /// In white space after the size (RFC 9112 section 7.1.1 has it before an extension).
    Blank(u64),
    /// In an extension, up to the line's end.
    Extension(u64),
    /// The line feed after the size is due.
    SizeEnd(u64),
    /// In a chunk's data.
    Data(u64),
    /// The line end after the data is due.
    DataReturn,
    DataFeed,
    /// At the beginning of a line after the last chunk.
    Line,
    /// In a trailer field's name, and after it.
    TrailerName,
    Trailer,
    TrailerFeed,
    LastFeed,
    Over,
    Broken,
}

/// More digits than any size has that can be meant.
const LARGEST: u64 = 1 << 56;
/// Extensions and a request's trailers may have this much, and as much again as there is data: nobody reads them, and a limit
/// on bodies counts data.
const EXTRA: u64 = 16 << 10;

impl Chunks {
    /// At a body's beginning.
    pub(crate) fn new() -> Self {
        Self { state: State::Start, data: 0, extra: 0, trailers_left: 0 }
    }

    /// At the beginning of a response's, whose trailers are read and go on: they have a bound of their own.
    pub(crate) fn of_response() -> Self {
        Self { trailers_left: MOST_TRAILERS as u32, ..Self::new() }
    }

    /// Bytes of data so far, those announced by the present chunk's size included.
    pub(crate) fn data(&self) -> u64 {
        self.data
    }

    /// How many of `bytes` belong to the body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let data = self.take_data(&bytes[at..]);
            let framing = self.take_framing(&bytes[at + data..]);
            if data + framing == 0 {
                return at;
            }
            at += data + framing;
        }
    }

    /// Takes trailers out of `bytes`: how many of them belong to the body, and how many are left of those. Nobody has
    /// said that they are understood (RFC 9110 section 6.5.1), and what they say must not be taken for a head's.
    pub(crate) fn take_without_trailers(&mut self, bytes: &mut [u8]) -> (usize, usize) {
        self.take_but(bytes, |_, is_trailer| !is_trailer)
    }

    /// Puts trailers aside, and what ends the body behind them: how many of `bytes` belong to the body, and how many are left of those.
    pub(crate) fn take_trailers_aside(&mut self, bytes: &mut [u8], trailers: &mut Vec<u8>) -> (usize, usize) {
        self.take_but(bytes, |byte, is_trailer| {
            if is_trailer {
                trailers.push(byte);
            }
            trailers.is_empty()
        })
    }

    /// Leaves of the framing what `stays`, which is told of each byte whether it is a trailer's.
    fn take_but(&mut self, bytes: &mut [u8], mut stays: impl FnMut(u8, bool) -> bool) -> (usize, usize) {
        let (mut at, mut kept) = (0, 0);
        loop {
            let data = self.take_data(&bytes[at..]);
            if kept < at {
                bytes.copy_within(at..at + data, kept);
            }
            (at, kept) = (at + data, kept + data);
            let before = self.state;
            let Some(byte) = bytes.get(at).copied() else { return (at, kept) };
            if self.take_framing(&[byte]) == 0 {
                return (at, kept);
            }
            at += 1;
            if stays(byte, before == State::TrailerFeed || self.is_in_trailer()) {
                bytes[kept] = byte;
                kept += 1;
            }
        }
    }

    fn is_in_trailer(&self) -> bool {
        matches!(self.state, State::TrailerName | State::Trailer | State::TrailerFeed)
    }

    /// Moves the data among `bytes` to their beginning: how many of them belong to the body, and how many are data.
    pub(crate) fn strip(&mut self, bytes: &mut [u8]) -> (usize, usize) {
        let (mut at, mut kept) = (0, 0);
        loop {
            let data = self.take_data(&bytes[at..]);
            bytes.copy_within(at..at + data, kept);
            let framing = self.take_framing(&bytes[at + data..]);
            if data + framing == 0 {
                return (at, kept);
            }
            at += data + framing;
            kept += data;
        }
    }

    /// How many of `bytes` are data that comes next.
    pub(crate) fn take_data(&mut self, bytes: &[u8]) -> usize {
        let State::Data(left) = self.state else { return 0 };
        let n = left.min(bytes.len() as u64);
        self.state = if n == left { State::DataReturn } else { State::Data(left - n) };
        usize::try_from(n).unwrap_or(usize::MAX)
    }

    /// How many of `bytes` are framing, up to the next data.
    pub(crate) fn take_framing(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if let State::Data(_) = self.state {
                return at;
            }
            let next = self.state.after(*byte);
            match next {
                State::Over if self.state == State::Over => return at,
                State::Broken => {
                    self.state = State::Broken;
                    return at;
                }
                State::Data(size) => self.data = self.data.saturating_add(size),
                State::Size(0) if self.state == State::Start => {}
                State::TrailerName | State::Trailer if self.trailers_left > 0 => self.trailers_left -= 1,
                State::Size(0)
                | State::Blank(_)
                | State::Extension(_)
                | State::TrailerName
                | State::Trailer => {
                    self.extra += 1;
                    if self.extra > EXTRA.saturating_add(self.data) {
                        self.state = State::Broken;
                        return at;
                    }
                }
                _ => {}
            }
            self.state = next;
        }
        bytes.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }
}

impl State {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => Self::Size(digit(byte)),
            (Self::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if size < LARGEST => {
                Self::Size(size << 4 | digit(byte))
            }
            (Self::Size(size) | Self::Blank(size) | Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Size(size) | Self::Blank(size), b' ' | b'\t') => Self::Blank(size),
            (Self::Size(size) | Self::Blank(size), b';') => Self::Extension(size),
            (Self::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Self::Extension(size),
            (Self::SizeEnd(0), b'\n') => Self::Line,
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataReturn, b'\r') => Self::DataFeed,
            (Self::DataFeed, b'\n') => Self::Start,
            (Self::Line, b'\r') => Self::LastFeed,
            (Self::Line | Self::TrailerName, byte) if is_token(byte) => Self::TrailerName,
            (Self::TrailerName, b':') => Self::Trailer,
            (Self::Trailer, b'\t' | b' '..=b'~' | 0x80..) => Self::Trailer,
            (Self::Trailer, b'\r') => Self::TrailerFeed,
            (Self::TrailerFeed, b'\n') => Self::Line,
            (Self::LastFeed, b'\n') | (Self::Over, _) => Self::Over,
            _ => Self::Broken,
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn digit(byte: u8) -> u64 {
    char::from(byte).to_digit(16).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `|` marks the body's end; every way to cut the bytes in two gives the same.
    fn check(marked: &str) {
        let end = marked.find('|').unwrap();
        let bytes = marked.replace('|', "");
        for cut in 0..=bytes.len() {
            let (first, rest) = bytes.as_bytes().split_at(cut);
            let mut chunks = Chunks::new();
            let taken = chunks.take(first);
            let taken = if taken == first.len() { taken + chunks.take(rest) } else { taken };
            assert_eq!((taken, chunks.is_over()), (end, true), "{bytes:?} cut at {cut}");
        }
    }

    #[test]
    fn a_body_ends_after_the_empty_line_that_follows_the_last_chunk() {
        check("0\r\n\r\n|");
        check("0\r\n\r\n|GET / HTTP/1.1\r\n");
        check("3\r\nabc\r\n0\r\n\r\n|0\r\n\r\n");
        check("A;name=value\r\n0123\r\n6789\r\n000\r\n\r\n|x");
        check("1\r\na\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n|x");
    }

    #[test]
    fn data_is_counted_without_its_framing() {
        let mut chunks = Chunks::new();
        chunks.take(b"3;x\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nX: 1\r\n\r\n");
        assert_eq!((chunks.data(), chunks.is_over()), (19, true));
    }

    #[test]
    fn data_is_told_from_its_framing_wherever_it_is_cut() {
        let bytes = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n";
        for cut in 0..=bytes.len() {
            let (mut chunks, mut data) = (Chunks::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                let mut part = part.to_vec();
                let (taken, kept) = chunks.strip(&mut part);
                assert_eq!(taken, part.len());
                data.extend_from_slice(&part[..kept]);
            }
            assert_eq!((&data[..], chunks.is_over()), (&b"abc0123456789"[..], true), "cut at {cut}");
        }
        let mut more = *b"0\r\n\r\nmore";
        assert_eq!(Chunks::new().strip(&mut more), (5, 0));
    }

    #[test]
    fn trailers_are_taken_out_wherever_they_are_cut() {
        let bytes = b"3;x=y\r\nabc\r\n0;z\r\nX-Sum: 1\r\nHost: a\r\n\r\n";
        for cut in 0..=bytes.len() {
            let (mut chunks, mut left) = (Chunks::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                let mut part = part.to_vec();
                let (taken, kept) = chunks.take_without_trailers(&mut part);
                assert_eq!(taken, part.len());
                left.extend_from_slice(&part[..kept]);
            }
            assert_eq!((&left[..], chunks.is_over()), (&b"3;x=y\r\nabc\r\n0;z\r\n\r\n"[..], true), "{cut}");
        }
        let mut more = *b"0\r\nX: 1\r\n\r\nmore";
        assert_eq!(Chunks::new().take_without_trailers(&mut more), (11, 5));
        let mut broken = *b"3\r\nabcd\r\n";
        assert_eq!(Chunks::new().take_without_trailers(&mut broken), (6, 6));
    }

    #[test]
    fn trailers_are_put_aside_wherever_they_are_cut() {
        for (bytes, body, aside) in [
            (
                &b"3;x=y\r\nabc\r\n0;z\r\nX-Sum: 1\r\nHost: a\r\n\r\n"[..],
                &b"3;x=y\r\nabc\r\n0;z\r\n"[..],
                &b"X-Sum: 1\r\nHost: a\r\n"[..],
            ),
            (b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b""),
        ] {
            for cut in 0..=bytes.len() {
                let (mut chunks, mut left, mut trailers) = (Chunks::new(), Vec::new(), Vec::new());
                for part in [&bytes[..cut], &bytes[cut..]] {
                    let mut part = part.to_vec();
                    let (taken, kept) = chunks.take_trailers_aside(&mut part, &mut trailers);
                    assert_eq!(taken, part.len());
                    left.extend_from_slice(&part[..kept]);
                }
                assert_eq!((&left[..], &trailers[..], chunks.is_over()), (body, aside, true), "{cut}");
            }
        }
    }

    #[test]
    fn there_may_be_as_much_framing_as_data_and_a_little_more() {
        for (extension, data, is_broken) in
            [(EXTRA - 1, 0, false), (EXTRA, 0, true), (2 * EXTRA, 2 * EXTRA, false), (4 * EXTRA, EXTRA, true)]
        {
            let [extension, data] = [extension, data].map(|n| "x".repeat(n as usize));
            let body = format!("{:x}\r\n{data}\r\n1;{extension}\r\ny\r\n", data.len());
            let body = if data.is_empty() { format!("1;{extension}\r\ny\r\n") } else { body };
            let mut chunks = Chunks::new();
            chunks.take(body.as_bytes());
            assert_eq!(chunks.is_broken(), is_broken, "{} after {}", extension.len(), data.len());
        }
    }

    #[test]
    fn a_size_has_no_zeros_without_end() {
        let mut chunks = Chunks::new();
        assert_eq!(chunks.take(&vec![b'0'; 1 << 20]) as u64, EXTRA + 1);
        assert!(chunks.is_broken());
    }

    #[test]
    fn framing_that_can_be_read_two_ways_is_broken() {
        for broken in [
            "x\r\nabc",
            "\r\n",
            "-1\r\n",
            "0x3\r\nabc",
            "3\nabc\r\n",
            "3;a\nb\r\nabc\r\n",
            "3\r\nabcd\r\n",
            "3\r\nabc\n",
            "3\r\nabc\r\n\r\n",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
            "0\r\nX\r\n",
            "0\r\n X: 1\r\n",
            "0\r\nX : 1\r\n",
            "3 3\r\nabc",
            "fffffffffffffffff\r\n",
        ] {
            let mut chunks = Chunks::new();
            chunks.take(broken.as_bytes());
            assert!(chunks.is_broken(), "{broken:?} gave {chunks:?}");
        }
    }
}
