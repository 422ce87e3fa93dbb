//! What passes the judge of an HTTP/2 connection's frames.

use evenkeel::fuzzing::{FramesJudged, Passing, frames};

/// The preface, which the judge passes over.
const PREFACE: usize = 24;

/// In whatever pieces the bytes pass, the judge says the same; what it has counted is what a reader of the whole finds; it
/// condemns nobody for a handful of frames, and everybody who goes on for ever; and its word is its last.
///
/// The bytes are records: one that says whose bytes follow (bit 7) and how much later (the others, in milliseconds), one
/// that says how many there are, and those.
pub(crate) fn of_frames(bytes: &[u8]) {
    let records = records(bytes);
    let judged = frames(records.iter().copied());
    assert_eq!(frames(records.iter().flat_map(|record| in_pieces(*record, 1))), judged, "byte by byte");
    assert_eq!(frames(records.iter().flat_map(|record| in_pieces(*record, 7))), judged, "in pieces of 7");

    let (mut from_client, mut from_us) = (Vec::new(), Vec::new());
    for record in &records {
        match record {
            Passing::Read(bytes, _) => from_client.extend_from_slice(bytes),
            Passing::Written(bytes, _) => from_us.extend_from_slice(bytes),
        }
    }
    let client = read(from_client.get(PREFACE..).unwrap_or_default());
    let ours = read(&from_us);
    assert_eq!(judged.opened, opened(&client), "streams opened");
    let codes: Vec<_> = ours.iter().filter(|frame| frame.kind == RST_STREAM).map(Frame::code).collect();
    assert_eq!(judged.refused, codes.iter().filter(|code| **code == 7).count() as u64);
    let is_error = |code: &&u32| ![0, 2, 7, 8].contains(*code);
    assert_eq!(judged.errors, codes.iter().filter(is_error).count() as u64);

    // Trailers with pseudo-fields are against the protocol at once. The dearest frame costs 20 of 1,000, a header block may have 32 more frames than one, and 100 errors are forgiven.
    if client.len() <= 32 && ours.len() <= 100 && !has_trailers(&client) {
        assert_eq!(judged.verdict, None);
    }
    if judged.verdict.is_some() {
        let later = records.iter().copied().chain([Passing::Read(&[0; 9], u64::from(u32::MAX))]);
        assert_eq!(frames(later).verdict, judged.verdict, "it changed its mind");
    }
    let is_settled = client.iter().any(|frame| frame.kind == SETTINGS);
    assert!(is_settled || judged.owed_since.is_some());
    goes_not_on_for_ever(&records, judged);
}

/// A client that does no more than ping, with nothing sent to it, is condemned at last.
fn goes_not_on_for_ever(records: &[Passing<'_>], judged: FramesJudged) {
    let is_between_frames = records.is_empty();
    if is_between_frames && judged.verdict.is_none() {
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let pings = [&[0; PREFACE][..], &ping.repeat(1001)].concat();
        assert!(frames([Passing::Read(&pings, 0)]).verdict.is_some());
    }
}

fn records(mut bytes: &[u8]) -> Vec<Passing<'_>> {
    let (mut records, mut now) = (Vec::new(), 0);
    while let [what, length, rest @ ..] = bytes {
        now += u64::from(what & 0x7f);
        let (record, after) = rest.split_at(usize::from(*length).min(rest.len()));
        records.push(match what & 0x80 {
            0 => Passing::Read(record, now),
            _ => Passing::Written(record, now),
        });
        bytes = after;
    }
    records
}

fn in_pieces(record: Passing<'_>, size: usize) -> impl Iterator<Item = Passing<'_>> {
    let (Passing::Read(bytes, now) | Passing::Written(bytes, now)) = record;
    bytes.chunks(size).map(move |piece| match record {
        Passing::Read(..) => Passing::Read(piece, now),
        Passing::Written(..) => Passing::Written(piece, now),
    })
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
    /// As far as it is there.
    payload: &'a [u8],
}

impl Frame<'_> {
    /// That of RST_STREAM; one of another length has none.
    fn code(&self) -> u32 {
        let code = <[u8; 4]>::try_from(self.payload).ok().filter(|_| self.length == 4);
        code.map_or(0, u32::from_be_bytes)
    }
}

/// The frames whose heads are whole, and of which all is there that is looked at.
fn read(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let needed = match kind {
            0 if flags & 8 != 0 => length.min(1),
            1 => length.min(usize::from(flags & 8 != 0) + if flags & 0x20 != 0 { 5 } else { 0 }),
            3 => length.min(4),
            7 => length.min(24),
            _ => 0,
        };
        if rest.len() < needed {
            break;
        }
        let stream = u32::from_be_bytes([*s1, *s2, *s3, *s4]) & 0x7fff_ffff;
        let (payload, after) = rest.split_at(length.min(rest.len()));
        frames.push(Frame { kind: *kind, flags: *flags, stream, length, payload });
        bytes = after;
    }
    frames
}

/// Whether a header block came for a stream that had one.
fn has_trailers(frames: &[Frame<'_>]) -> bool {
    let mut highest = 0;
    frames.iter().filter(|frame| frame.kind == HEADERS).any(|frame| {
        let is_open = frame.stream <= highest;
        highest = highest.max(frame.stream);
        is_open
    })
}

/// Streams that whole header blocks have opened.
fn opened(frames: &[Frame<'_>]) -> u64 {
    let (mut highest, mut opened, mut block) = (0, 0, None);
    for frame in frames {
        match frame.kind {
            HEADERS => {
                block = Some(frame.stream > highest);
                highest = highest.max(frame.stream);
            }
            CONTINUATION => {}
            _ => continue,
        }
        if frame.flags & END_HEADERS != 0 && frame.payload.len() == frame.length {
            opened += u64::from(block.take() == Some(true));
        }
    }
    opened
}
