//! Each coding, read back by a decoder.

use super::Encoder;
use crate::config::plan::compress::Encoding;
use proptest::prelude::*;
use std::io::Read;

/// What a whole stream decodes to.
fn decoded(encoding: Encoding, stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match encoding {
        Encoding::Gzip => {
            let mut decoder = flate2::read::GzDecoder::new(stream);
            decoder.read_to_end(&mut out).expect("gzip");
            assert!(decoder.into_inner().is_empty(), "nothing comes behind it");
        }
        Encoding::Br => {
            brotli::Decompressor::new(stream, 4096).read_to_end(&mut out).expect("brotli");
        }
        Encoding::Zstd => {
            out.reserve(1 << 24);
            zstd_safe::DCtx::create().decompress(&mut out, stream).expect("zstd");
        }
    }
    out
}

/// What can be read of a stream whose end has not come.
fn so_far(encoding: Encoding, stream: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 1 << 20];
    let n = match encoding {
        Encoding::Gzip => {
            let mut decoder = flate2::Decompress::new_gzip(15);
            decoder.decompress(stream, &mut out, flate2::FlushDecompress::Sync).expect("gzip");
            usize::try_from(decoder.total_out()).expect("it fits")
        }
        Encoding::Br => {
            let (mut decoder, mut n) = (brotli::Decompressor::new(stream, 4096), 0);
            while let Ok(read @ 1..) = decoder.read(&mut out[n..]) {
                n += read;
            }
            n
        }
        Encoding::Zstd => {
            let mut read = zstd_safe::OutBuffer::around(&mut out[..]);
            let mut input = zstd_safe::InBuffer::around(stream);
            zstd_safe::DCtx::create().decompress_stream(&mut read, &mut input).expect("zstd");
            read.pos()
        }
    };
    out.truncate(n);
    out
}

/// Text-like bytes and others, in parts of any size, each with whether what there is of it is given out behind it.
fn parts() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let words = prop::collection::vec("[a-e]{1,6} ", 0..2000).prop_map(|words| words.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..20_000);
    let long = (1usize..150_000, any::<u8>()).prop_map(|(n, seed)| {
        (0..n).map(|at| (at as u8).wrapping_mul(seed) ^ (at >> 7) as u8).collect::<Vec<u8>>()
    });
    prop::collection::vec((prop_oneof![words, noise, long], any::<bool>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_put_however_it_was_cut(
        parts in parts(),
        again in parts(),
        (level, at_once) in (1u8..=6, 1usize..40_000),
    ) {
        for encoding in Encoding::ALL {
            let mut encoder = Encoder::new(encoding, level).expect("there is memory");
            for parts in [&parts, &again] {
                let (mut plain, mut stream) = (Vec::new(), Vec::new());
                for (part, is_flushed) in parts {
                    for piece in part.chunks(at_once) {
                        encoder.put(piece, &mut stream).expect("it takes it");
                    }
                    plain.extend_from_slice(part);
                    if *is_flushed {
                        encoder.flush(&mut stream).expect("it gives it out");
                        prop_assert!(so_far(encoding, &stream) == plain, "{encoding:?} after a flush");
                    }
                }
                encoder.finish(&mut stream).expect("it ends");
                prop_assert!(decoded(encoding, &stream) == plain, "{encoding:?}");
                if !encoder.reset() {
                    encoder = Encoder::new(encoding, level).expect("there is memory");
                }
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing_in_the_next_one() {
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let mut encoder = Encoder::new(encoding, 3).expect("there is memory");
        encoder.put(b"of somebody else", &mut Vec::new()).expect("it takes it");
        assert!(encoder.reset());
        let mut stream = Vec::new();
        encoder.put(b"mine", &mut stream).expect("it takes it");
        encoder.finish(&mut stream).expect("it ends");
        assert_eq!(decoded(encoding, &stream), b"mine");
    }
}

#[test]
fn windows_are_no_larger_than_they_are_said_to_be() {
    // Of a length that is not known: the descriptor behind the frame's first five bytes (RFC 8878 section 3.1.1.1.2).
    let mut stream = Vec::new();
    let mut encoder = Encoder::new(Encoding::Zstd, 9).expect("there is memory");
    encoder.put(&[7; 300_000], &mut stream).expect("it takes it");
    encoder.finish(&mut stream).expect("it ends");
    assert_eq!(stream[5], (17 - 10) << 3);
    // RFC 7932 section 9.1: 18 bits are `0011` with a one behind it, from the right.
    let mut stream = Vec::new();
    let mut encoder = Encoder::new(Encoding::Br, 4).expect("there is memory");
    encoder.put(&[7; 300_000], &mut stream).expect("it takes it");
    encoder.finish(&mut stream).expect("it ends");
    assert_eq!(stream[0] & 0x0f, 0b0011);
}
