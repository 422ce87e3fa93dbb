//! What compressing responses has saved, and why others stayed as they were.

use super::family::Family;
use crate::compress::SkipReason;
use crate::config::plan::compress::Encoding;
use crate::store::CodedResult;
use prometheus::proto::MetricFamily;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes by coding, and responses by reason.
#[derive(Debug, Default)]
pub struct CompressionMetrics {
    plain: [AtomicU64; Encoding::ALL.len()],
    sent: [AtomicU64; Encoding::ALL.len()],
    skipped: [AtomicU64; SkipReason::ALL.len()],
    reused: [AtomicU64; Encoding::ALL.len()],
    recoded: [[AtomicU64; CodedResult::ALL.len()]; Encoding::ALL.len()],
}

impl CompressionMetrics {
    /// A compressed response has ended: its body's bytes as they came, and as they were sent.
    pub fn compressed(&self, encoding: Encoding, plain: u64, sent: u64) {
        self.plain[encoding as usize].fetch_add(plain, Relaxed);
        self.sent[encoding as usize].fetch_add(sent, Relaxed);
    }

    /// A response has left in a form that was kept.
    pub fn reused(&self, encoding: Encoding) {
        self.reused[encoding as usize].fetch_add(1, Relaxed);
    }

    /// What is kept was compressed to be kept, and what has become of that.
    pub fn recoded(&self, encoding: Encoding, result: CodedResult) {
        self.recoded[encoding as usize][result as usize].fetch_add(1, Relaxed);
    }

    pub fn skipped(&self, reason: SkipReason) {
        self.skipped[reason as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut bytes = Family::counter(
            "evenkeel_compress_bytes_total",
            "Bytes of compressed responses' bodies that have ended: as they came in, and as they went out.",
        );
        let directions = [("in", &self.plain), ("out", &self.sent)];
        for (encoding, at) in Encoding::ALL.into_iter().zip(0..) {
            let has_any = self.plain[at].load(Relaxed) > 0;
            for (direction, counts) in directions.iter().filter(|_| has_any) {
                let labels = [("encoding", encoding.label()), ("direction", *direction)];
                bytes.add(&labels, counts[at].load(Relaxed) as f64);
            }
        }
        let mut skipped = Family::counter(
            "evenkeel_compress_skipped_total",
            "Responses with a body that a policy with `compress` left as they were, and why.",
        );
        for (reason, count) in SkipReason::ALL.into_iter().zip(&self.skipped) {
            let count = count.load(Relaxed);
            if count > 0 {
                skipped.add(&[("reason", reason.label())], count as f64);
            }
        }
        let mut reused = Family::counter(
            "evenkeel_compress_reused_total",
            "Responses from the cache that left in a compressed form which is kept there.",
        );
        let mut recoded = Family::counter(
            "evenkeel_cache_compressions_total",
            "Kept responses that were compressed to be kept so, and what has become of it.",
        );
        for (encoding, at) in Encoding::ALL.into_iter().zip(0..) {
            let count = self.reused[at].load(Relaxed);
            if count > 0 {
                reused.add(&[("encoding", encoding.label())], count as f64);
            }
            for (result, count) in CodedResult::ALL.into_iter().zip(&self.recoded[at]) {
                let count = count.load(Relaxed);
                if count > 0 {
                    recoded.add(&[("encoding", encoding.label()), ("result", result.label())], count as f64);
                }
            }
        }
        [bytes, skipped, reused, recoded].into_iter().filter_map(Family::finish).collect()
    }
}
