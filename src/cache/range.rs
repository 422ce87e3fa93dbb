//! Parts of what is stored whole (RFC 9110 section 14).

use bytes::Bytes;
use std::ops::Range;

/// More parts than that are nobody's honest wish.
const MOST_PARTS: usize = 16;

/// What a request for parts gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// It is not understood, or asks for so much that the whole is better.
    Whole,
    One(Range<u64>),
    Several(Vec<Range<u64>>),
    /// There is nothing of what it asks for (416).
    Unsatisfiable,
}

/// The parts that a Range field asks for of so many bytes.
pub(crate) fn parts(field: &[u8], length: u64) -> Parts {
    let Some(specs) = std::str::from_utf8(field).ok().and_then(|text| {
        let (unit, specs) = text.split_once('=')?;
        unit.trim().eq_ignore_ascii_case("bytes").then_some(specs)
    }) else {
        return Parts::Whole;
    };
    let (mut parts, mut count) = (Vec::new(), 0);
    for spec in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        count += 1;
        match part(spec, length) {
            None => return Parts::Whole,
            Some(part) if !part.is_empty() => parts.push(part),
            Some(_) => {}
        }
    }
    let asked: u64 = parts.iter().map(|part| part.end - part.start).sum();
    match parts.len() {
        _ if count == 0 || count > MOST_PARTS => Parts::Whole,
        0 => Parts::Unsatisfiable,
        1 => Parts::One(parts.remove(0)),
        // What overlaps so much would be sent many times over (section 14.2).
        _ if asked > length => Parts::Whole,
        _ => Parts::Several(parts),
    }
}

/// One of them; empty if there is nothing there, `None` if it is none.
fn part(spec: &str, length: u64) -> Option<Range<u64>> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix: u64 = number(last)?;
        return Some(length.saturating_sub(suffix)..length);
    }
    let first = number(first)?;
    let end = match last {
        "" => length,
        last => {
            let last = number(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(length)
        }
    };
    Some(if first < length { first..end } else { 0..0 })
}

/// What Content-Range says of a part.
pub(crate) fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// The bytes of a body between these places, without copying them.
pub(crate) fn slice(body: &[Bytes], part: &Range<u64>) -> Vec<Bytes> {
    let (mut slices, mut at) = (Vec::new(), 0);
    for chunk in body {
        let (begin, end) = (at, at + chunk.len() as u64);
        let (from, to) = (part.start.max(begin), part.end.min(end));
        if from < to {
            // Both are within the chunk.
            slices.push(chunk.slice((from - begin) as usize..(to - begin) as usize));
        }
        at = end;
    }
    slices
}

/// A body of several parts (section 14.6) of one of this length, between which stands `boundary`. `slice` gives a part's bytes, or where
/// they are.
pub(crate) fn multipart<P: From<Bytes>>(
    length: u64,
    parts: &[Range<u64>],
    (content_type, boundary): (&[u8], &str),
    slice: impl Fn(&Range<u64>) -> Vec<P>,
) -> Vec<P> {
    let mut pieces = Vec::new();
    for part in parts {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if !content_type.is_empty() {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("Content-Range: {}\r\n\r\n", content_range(part, length)).as_bytes());
        pieces.push(Bytes::from(head).into());
        pieces.extend(slice(part));
    }
    pieces.push(Bytes::from(format!("\r\n--{boundary}--\r\n")).into());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_is_there_of_those_asked_for() {
        for (field, expected) in [
            ("bytes=0-1", Parts::One(0..2)),
            ("Bytes = 0-1", Parts::One(0..2)),
            ("bytes=1-", Parts::One(1..10)),
            ("bytes=-3", Parts::One(7..10)),
            ("bytes=-30", Parts::One(0..10)),
            ("bytes=5-99999999999999999999999999", Parts::One(5..10)),
            ("bytes=0-0, 10-11", Parts::One(0..1)),
            ("bytes=0-0,-1", Parts::Several(vec![0..1, 9..10])),
            ("bytes=10-", Parts::Unsatisfiable),
            ("bytes=-0", Parts::Unsatisfiable),
            ("bytes=5-4", Parts::Whole),
            ("bytes=a-b", Parts::Whole),
            ("bytes=+1-2", Parts::Whole),
            ("bytes=", Parts::Whole),
            ("bytes", Parts::Whole),
            ("seconds=1-2", Parts::Whole),
            ("bytes=0-,0-", Parts::Whole),
        ] {
            assert_eq!(parts(field.as_bytes(), 10), expected, "{field}");
        }
        let many = format!("bytes={}", vec!["0-0"; 17].join(","));
        assert_eq!(parts(many.as_bytes(), 100), Parts::Whole);
        assert_eq!(parts(b"bytes=0-", 0), Parts::Unsatisfiable);
    }

    #[test]
    fn a_part_is_the_same_bytes_however_the_body_lies() {
        let body = [&b"ab"[..], b"", b"cdefg", b"h"].map(Bytes::from_static);
        for from in 0..8 {
            for to in from + 1..=8 {
                let whole = b"abcdefgh";
                assert_eq!(
                    slice(&body, &(from..to)).concat(),
                    whole[from as usize..to as usize],
                    "{from} {to}"
                );
            }
        }
        let pieces = multipart(8, &[0..1, 6..8], (b"text/plain", "=b="), |part| slice(&body, part)).concat();
        assert_eq!(
            String::from_utf8(pieces).expect("text"),
            "\r\n--=b=\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/8\r\n\r\na\
             \r\n--=b=\r\nContent-Type: text/plain\r\nContent-Range: bytes 6-7/8\r\n\r\ngh\r\n--=b=--\r\n"
        );
    }
}
