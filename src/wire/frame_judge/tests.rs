use super::*;
use crate::wire::http2_frames::{END_HEADERS, PADDED, PRIORITIZED, ServerFrames};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A judge that has seen what every connection begins with.
fn judge() -> Judge {
    let mut judge = Judge::new(0);
    judge.read(&mut crate::wire::request_head::H2_PREFACE.to_vec(), 0);
    assert_eq!(judge.owed_since(), Some(0));
    judge.read(&mut frame(SETTINGS, 0, 0, &[0; 18]), 0);
    assert_eq!(judge.owed_since(), None);
    judge
}

/// How many of a frame pass at once, and how many more `after` milliseconds.
fn permits(frame: &[u8], after: u64) -> (u32, u32) {
    let mut judge = judge();
    let mut count = |now| {
        let mut passed = 0;
        judge.verdict = None;
        while passed < 10_000 {
            judge.read(&mut frame.to_vec(), now);
            if judge.verdict().is_some() {
                break;
            }
            passed += 1;
        }
        passed
    };
    (count(0), count(after))
}

#[test]
fn what_is_of_no_use_has_a_burst_and_a_rate() {
    // The first SETTINGS took 20 of the control frames.
    for (kind, payload, burst, more) in [
        (RST_STREAM, &[0, 0, 0, 8][..], 1000, 330),
        (PING, &[0; 8], 1000, 330),
        (WINDOW_UPDATE, &[0, 0, 0, 1], 980, 330),
        (PRIORITY, &[0; 5], 980, 330),
        (SETTINGS, &[], 49, 16),
        (DATA, &[], 98, 33),
        (0x10, b"u=3", 980, 330),
        (DATA, b"data", 10_000, 10_000),
    ] {
        assert_eq!(permits(&frame(kind, 0, 1, payload), 10_000), (burst, more), "a frame of type {kind}");
    }
    let padded = frame(DATA, PADDED, 1, &[3, 0, 0, 0]);
    assert_eq!(permits(&padded, 10_000), (98, 33), "padding is no data");
    let last = frame(DATA, END_STREAM, 1, b"");
    assert_eq!(permits(&last, 0), (10_000, 10_000), "the end of a body may be empty");
}

#[test]
fn work_that_was_done_earns_what_was_spent() {
    let mut judge = judge();
    for _ in 0..10_000 {
        judge.read(&mut frame(RST_STREAM, 0, 1, &[0; 4]), 0);
        judge.read(&mut frame(PING, 0, 0, &[0; 8]), 0);
        judge.read(&mut frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 0);
        judge.read(&mut frame(WINDOW_UPDATE, 0, 1, &[0; 4]), 0);
        judge.written(&frame(HEADERS, END_HEADERS, 1, b"head"), 0);
        judge.written(&frame(DATA, END_STREAM, 1, &[0; 200]), 0);
    }
    assert_eq!(judge.verdict(), None);
}

#[test]
fn small_messages_may_each_be_answered_by_window_updates() {
    let mut judge = judge();
    for n in 0..60_000 {
        // 2,000 a second, after a burst.
        let now = if n < 10_000 { 0 } else { (n - 10_000) / 2 };
        judge.written(&frame(DATA, 0, 1, b"\0\0\0\0\0"), now);
        judge.read(&mut frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 5]), now);
        judge.read(&mut frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5]), now);
    }
    assert_eq!(judge.verdict(), None);
    // Without a limit to the rate they would pay for a window of so many bytes at a time.
    for _ in 0..20_000 {
        judge.written(&frame(DATA, 0, 1, b"\0\0\0\0\0"), 25_000);
        judge.read(&mut frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 5]), 25_000);
    }
    assert_eq!(judge.verdict(), Some(Abuse::WindowUpdates));
}

#[test]
fn trailers_have_no_pseudo_fields() {
    for (flags, block, is_pseudo) in [
        (0, &b"\x82"[..], true),
        (0, b"\x44\x01/", true),
        (0, b"\x04\x01/", true),
        (0, b"\x14\x01/", true),
        (0, b"\x00\x05:path\x01/", true),
        (0, b"\x40\x84\xb9\x58\xd3\x3f\x01/", true),
        (PADDED, b"\x01\x82\0", true),
        (PADDED | PRIORITIZED, b"\x01\0\0\0\0\0\x82\0", true),
        (0, b"\x3f\xe1\x1f\x82", true),
        (0, b"\xbe", true),
        (PADDED, b"\x02\xbe\x40\x01", true),
        (0, b"\x40\x01x\x011", false),
        (PADDED, b"\x01\x40\x01x\x011\x82", false),
        (0, b"\x58\x011", false),
        (0, b"\xbf", false),
        (0, b"", false),
    ] {
        let mut judge = judge();
        judge.read(&mut frame(HEADERS, END_HEADERS, 1, b"\x82\x44\x02/a"), 0);
        assert_eq!(judge.verdict(), None, "a request's head has some");
        judge.read(&mut frame(HEADERS, END_HEADERS | END_STREAM | flags, 1, block), 0);
        let fault = if is_pseudo { Some("trailers with pseudo-fields") } else { None };
        assert_eq!(
            (judge.take_fault(1), judge.take_fault(1), judge.verdict()),
            (fault, None, None),
            "{block:?}"
        );
    }
}

#[test]
fn malformed_requests_that_nobody_asks_for_have_a_bound() {
    let mut judge = judge();
    for n in 0..FAULTS as u32 {
        judge.read(&mut frame(HEADERS, END_HEADERS, 1 + 2 * n, b"\x82\x00\x01X\x00"), 0);
    }
    assert_eq!((judge.verdict(), judge.take_fault(1)), (None, Some("a capital letter in a field's name")));
    for stream in [5001, 5003] {
        judge.read(&mut frame(HEADERS, END_HEADERS, stream, b"\x82\x00\x01X\x00"), 0);
    }
    assert_eq!(judge.verdict(), Some(Abuse::StreamErrors));
}

#[test]
fn a_window_of_one_byte_does_not_pay_for_itself() {
    let mut judge = judge();
    let mut sent = 0;
    while judge.verdict().is_none() {
        judge.read(&mut frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), 0);
        judge.written(&frame(DATA, 0, 1, b"x"), 0);
        sent += 1;
        assert!(sent < 10_000);
    }
    assert_eq!(judge.verdict(), Some(Abuse::WindowUpdates));
}

#[test]
fn streams_that_we_must_reset_count_unless_it_was_our_fault() {
    for (code, verdict) in [
        (1, Some(Abuse::StreamErrors)),
        (3, Some(Abuse::StreamErrors)),
        (7, Some(Abuse::Resets)),
        (0, None),
        (2, None),
        (8, None),
    ] {
        let mut judge = judge();
        for _ in 0..2000 {
            judge.written(&frame(RST_STREAM, 0, 1, &[0, 0, 0, code]), 0);
        }
        assert_eq!(judge.verdict(), verdict, "code {code}");
    }
}

#[test]
fn the_codecs_last_word_says_what_the_client_did() {
    for (code, word, blame) in [
        (0, "", None),
        (1, "", Some(Abuse::Protocol)),
        (11, "too_many_continuations", Some(Abuse::Continuations)),
        (11, "header_list_way_too_large", Some(Abuse::Headers)),
        (11, "too_many_data_frames", Some(Abuse::SmallData)),
        (11, "too_many_internal_resets", Some(Abuse::StreamErrors)),
        (11, "too_many_resets", Some(Abuse::Resets)),
        (11, "", Some(Abuse::Resets)),
    ] {
        let mut judge = judge();
        let bytes = frame(GOAWAY, 0, 0, &[&[0, 0, 0, 0, 0, 0, 0, code], word.as_bytes()].concat());
        bytes.chunks(7).for_each(|part| judge.written(part, 0));
        assert_eq!(judge.blame(), blame, "{code} {word}");
    }
}

#[test]
fn refused_requests_are_paid_for_once_whether_their_resets_are_written_or_not() {
    let mut judge = judge();
    let reset = frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]);
    judge.written(&reset.repeat(40), 0);
    judge.refused(60, 0);
    assert_eq!((judge.errors.left, judge.verdict()), (40, None));
    judge.written(&reset.repeat(20), 0);
    assert_eq!(judge.errors.left, 40);
    judge.written(&reset, 0);
    assert_eq!(judge.errors.left, 39);
    judge.refused(1000, 0);
    assert_eq!(judge.verdict(), Some(Abuse::StreamErrors));
}

#[test]
fn a_header_block_ends_or_is_too_long() {
    let mut judge = judge();
    judge.read(&mut frame(HEADERS, END_STREAM, 1, b"x"), 5);
    assert_eq!((judge.owed_since(), judge.tally().opened), (Some(5), 0));
    judge.read(&mut frame(CONTINUATION, END_HEADERS, 1, b"x"), 6);
    assert_eq!((judge.owed_since(), judge.tally().opened), (None, 1));
    judge.read(&mut frame(HEADERS, END_STREAM | END_HEADERS, 1, b"trailers"), 6);
    assert_eq!(judge.tally().opened, 1);
    judge.read(&mut frame(HEADERS, 0, 3, b"x"), 7);
    for _ in 0..CONTINUATIONS {
        assert_eq!(judge.verdict(), None);
        judge.read(&mut frame(CONTINUATION, 0, 3, b""), 7);
    }
    judge.read(&mut frame(CONTINUATION, 0, 3, b""), 7);
    assert_eq!(judge.verdict(), Some(Abuse::Continuations));
}

#[test]
fn a_servers_header_blocks_are_told_with_what_they_have() {
    let blocks = [
        frame(SETTINGS, 0, 0, b""),
        frame(HEADERS, END_HEADERS, 1, b"\x48\x03103"),
        frame(HEADERS, 0, 3, b"\x88\x40"),
        frame(CONTINUATION, END_HEADERS, 3, b"\x01x\x011"),
        frame(DATA, 0, 3, b"\x88"),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\xbe"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xbf"),
        frame(HEADERS, END_HEADERS | END_STREAM, 5, b""),
    ]
    .concat();
    for size in 1..blocks.len() {
        let (mut frames, mut found) = (ServerFrames::new(), Vec::new());
        for part in blocks.chunks(size) {
            frames.read(&mut part.to_vec(), |block| found.push((block.stream, block.facts.has_status)));
        }
        assert_eq!(found, [(1, true), (3, true), (3, false), (1, true), (5, false)], "in pieces of {size}");
    }
}

#[test]
fn frames_are_found_however_the_bytes_are_cut() {
    let mut bytes = crate::wire::request_head::H2_PREFACE.to_vec();
    for stream in 0..5 {
        bytes.extend(frame(SETTINGS, 0, 0, &[1; 6]));
        bytes.extend(frame(HEADERS, END_HEADERS, 1 + 2 * stream, &[RST_STREAM; 300]));
        bytes.extend(frame(RST_STREAM, 0, 1, &[0; 4]));
        // Not of the length that it must have: the codec's business.
        bytes.extend(frame(RST_STREAM, 0, 1, &[9; 7]));
    }
    for size in 1..60 {
        let mut judge = Judge::new(0);
        bytes.chunks(size).for_each(|part| judge.read(&mut part.to_vec(), 0));
        assert_eq!(judge.tally().opened, 5, "in pieces of {size}");
        assert_eq!((judge.resets.left, judge.controls.left), (990, 900), "in pieces of {size}");
    }
}
