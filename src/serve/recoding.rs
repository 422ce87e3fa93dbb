//! Compresses what is kept and often asked for once more, to be kept: with all that a codec can do, and so on a thread of its own,
//! which gives way to the cores'. One response at a time, so that it needs no more memory than one encoder.

use crate::compress::Encoder;
use crate::config::plan::compress::Encoding;
use crate::control::Live;
use crate::store::{BodyWriter, CodedBody, CodedResult, Store, StoredBody, StoredResponse};
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;

/// Bytes of a body, at most: the next ones wait as long as it takes.
const MOST: u64 = 16 << 20;
/// So many may wait.
const WAITING: usize = 64;
/// What is put into an encoder at once.
const PART: usize = 64 << 10;
/// How far behind the cores' threads ours stands where there is too much to do.
const NICENESS: i32 = 10;

/// What is to be compressed.
pub(super) struct Job {
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<Store>,
    /// Under which it lies there.
    pub(super) key: Vec<u8>,
    pub(super) response: Arc<StoredResponse>,
    pub(super) encoding: Encoding,
}

/// Begun when the first is to be done.
static JOBS: LazyLock<Option<SyncSender<Job>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(WAITING);
    let started = thread::Builder::new().name("cache-compress".to_owned()).spawn(move || work(&receiver));
    if let Err(error) = &started {
        tracing::warn!(%error, "what is kept is compressed for each client: there can be no more threads");
    }
    started.is_ok().then_some(sender)
});

/// How hard each coding tries: the work is done once.
fn level(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Gzip | Encoding::Br => 9,
        Encoding::Zstd => 12,
    }
}

impl Job {
    /// Has it done when its turn comes.
    pub(super) fn begin(self) {
        if self.response.length > MOST {
            return self.end(CodedResult::TooLong);
        }
        let Some(jobs) = &*JOBS else { return self.end(CodedResult::Failed) };
        match jobs.try_send(self) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.end(CodedResult::Busy),
            Err(TrySendError::Disconnected(job)) => job.end(CodedResult::Failed),
        }
    }

    fn end(&self, result: CodedResult) {
        self.live.metrics.compression.recoded(self.encoding, result);
        if result.may_pass() {
            self.response.coded.count_anew(self.encoding);
        }
    }

    fn run(&self) -> CodedResult {
        let StoredBody::Memory(body) = &self.response.body else { return CodedResult::Gone };
        // What comes of it has room among what is on its way into the cache.
        let made = compress(body, (self.encoding, self.response.length), self.store.writer(None));
        let body = match made {
            Ok(body) => body,
            Err(result) => return result,
        };
        match self.store.keep_coded(&self.key, (&self.response.coded, self.encoding), body) {
            true => CodedResult::Kept,
            false => CodedResult::Gone,
        }
    }
}

fn work(jobs: &Receiver<Job>) {
    // Without that it takes its part of the cores, and no more.
    let _ = rustix::process::nice(NICENESS);
    for job in jobs {
        let done = catch_unwind(AssertUnwindSafe(|| job.run()));
        job.end(done.unwrap_or(CodedResult::Failed));
    }
}

/// A body in a coding, if that is shorter.
fn compress(
    body: &[Bytes],
    (encoding, plain): (Encoding, u64),
    mut writer: BodyWriter,
) -> Result<CodedBody, CodedResult> {
    let mut encoder = Encoder::new(encoding, level(encoding)).ok_or(CodedResult::Failed)?;
    let mut out = Vec::new();
    let mut write = |out: &mut Vec<u8>| {
        let is_shorter = writer.length() + (out.len() as u64) < plain;
        let written = writer.push(out);
        out.clear();
        match written {
            Ok(()) if is_shorter => Ok(()),
            Ok(()) => Err(CodedResult::NotShorter),
            Err(_) => Err(CodedResult::NoRoom),
        }
    };
    for part in body.iter().flat_map(|chunk| chunk.chunks(PART)) {
        encoder.put(part, &mut out).ok_or(CodedResult::Failed)?;
        write(&mut out)?;
    }
    encoder.finish(&mut out).ok_or(CodedResult::Failed)?;
    write(&mut out)?;
    let length = writer.length();
    Ok(CodedBody { pieces: writer.finish(), length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreSize;
    use std::io::Read;

    fn store(memory: u64) -> Store {
        Store::new(StoreSize { memory, max_object: 1 << 20, has_disk: false }, 0)
    }

    /// Text of three pieces.
    fn body() -> Vec<Bytes> {
        let text: String = (0..12_000).map(|n| format!("{n} bottles, {}\n", n * 7919 % 1009)).collect();
        text.as_bytes().chunks(100_000).map(Bytes::copy_from_slice).collect()
    }

    fn decoded(encoding: Encoding, coded: &CodedBody) -> Vec<u8> {
        let (bytes, mut out) = (coded.pieces.concat(), Vec::new());
        match encoding {
            Encoding::Gzip => {
                _ = flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out).expect("gzip")
            }
            Encoding::Br => {
                _ = brotli::Decompressor::new(&bytes[..], 4096).read_to_end(&mut out).expect("br")
            }
            Encoding::Zstd => {
                out.reserve(1 << 22);
                zstd_safe::DCtx::create().decompress(&mut out, &bytes).expect("zstd");
            }
        }
        out
    }

    #[test]
    fn a_body_is_compressed_harder_than_for_one_client_and_stays_the_same() {
        let (store, body) = (store(64 << 20), body());
        let whole = body.concat();
        for encoding in Encoding::ALL {
            let coded =
                compress(&body, (encoding, whole.len() as u64), store.writer(None)).expect("it is shorter");
            assert_eq!(coded.length, coded.pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
            assert!(decoded(encoding, &coded) == whole, "{encoding:?}");
            let mut usual = Vec::new();
            let mut encoder = Encoder::new(encoding, 3).expect("there is memory");
            body.iter().for_each(|chunk| encoder.put(chunk, &mut usual).expect("it takes it"));
            encoder.finish(&mut usual).expect("it ends");
            assert!(coded.length < usual.len() as u64, "{encoding:?}: {} {}", coded.length, usual.len());
        }
        assert_eq!(store.in_use().filling, 0, "its room is given back");
    }

    #[test]
    fn what_gets_no_shorter_and_what_has_no_room_is_not_kept() {
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
        for (body, memory, result) in [
            (vec![Bytes::from(random)], 64 << 20, CodedResult::NotShorter),
            (vec![Bytes::from_static(b"a")], 64 << 20, CodedResult::NotShorter),
            (body(), 64 << 10, CodedResult::NoRoom),
        ] {
            let (store, plain) = (store(memory), body.iter().map(|chunk| chunk.len() as u64).sum());
            for encoding in Encoding::ALL {
                let made = compress(&body, (encoding, plain), store.writer(None));
                assert_eq!(made.map(|coded| coded.length), Err(result), "{encoding:?}");
            }
            assert_eq!(store.in_use().filling, 0);
        }
    }
}
