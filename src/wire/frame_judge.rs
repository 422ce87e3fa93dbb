//! Judges an HTTP/2 connection by its frames' heads: what a client makes us do for nothing has a budget.
//!
//! The codec keeps single frames in order; what it does not weigh is their number. A client may send frames that cost
//! us work and it nothing (CVE-2023-44487, CVE-2025-8671, CVE-2019-9511 to 9518), each of them allowed. So every such
//! frame is paid for from a budget that refills with time and with useful work, which is responses that ended and
//! data that was sent. Rates are nghttp2's (1,000 at once, 33 a second), which browsers, gRPC and load
//! generators live with. A pure function of bytes and time.

use crate::wire::abuse::Abuse;
use crate::wire::header_blocks::{HeaderBlocks, Sender};
use crate::wire::http2_frames::{
    ACK, CONTINUATION, DATA, END_STREAM, Found, Frame, GOAWAY, HEADERS, HeaderBlock, PING, PRIORITY,
    RST_STREAM, SETTINGS, Scanner, WINDOW_UPDATE,
};
use crate::wire::http2_response::TRAILERS_WITH_PSEUDO;

/// What comes before a client's first frame.
const PREFACE: u32 = super::request_head::H2_PREFACE.len() as u32;

/// Codes of RST_STREAM (RFC 9113 section 7) that say who is to blame: not the client.
const NO_FAULT_OF_THE_CLIENT: [u32; 3] = [0, 2, 8];
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// CONTINUATION frames of one header block. 32 KiB of fields fit two frames of the least size a peer may have to take;
/// the codec has a bound of its own for larger limits.
const CONTINUATIONS: u32 = 32;
/// What a SETTINGS frame costs: each goes through all streams of the connection and is answered.
const SETTINGS_PRICE: u32 = 20;
/// What DATA without data and without an end costs: nobody needs it.
const EMPTY_DATA_PRICE: u32 = 10;
/// A DATA frame of at least so many bytes is worth control frames about it. Less would let a client with a window of
/// one byte pay for each WINDOW_UPDATE with the byte it brings (CVE-2019-9511).
const WORTHWHILE: u32 = 128;
/// The smallest message of gRPC: its clients answer each with WINDOW_UPDATE, for the stream and for the connection. So
/// smaller frames than the above are worth that, up to a rate.
const MESSAGE: u32 = 5;
const CONTROLS_FOR_MESSAGE: u32 = 2;
/// Control frames that such a frame, or a response's end, is worth.
const CONTROLS_FOR_WORK: u32 = 4;

/// Malformed requests whose faults nobody has asked for, as streams that were reset meanwhile leave behind.
const FAULTS: usize = 1024;

/// Something that may be spent in bursts and comes back with time.
#[derive(Debug)]
struct Budget {
    left: u32,
    burst: u32,
    per_second: u32,
    /// Until when refilled, in milliseconds.
    at: u64,
}

impl Budget {
    fn new(burst: u32, per_second: u32, now: u64) -> Self {
        Self { left: burst, burst, per_second, at: now }
    }

    /// Whether there was enough.
    fn spend(&mut self, price: u32, now: u64) -> bool {
        if self.left < price {
            let gained = now.saturating_sub(self.at) * u64::from(self.per_second) / 1000;
            self.left = u64::from(self.burst).min(u64::from(self.left) + gained) as u32;
            // What is not a whole one yet goes on to count.
            self.at = match self.left == self.burst {
                true => now,
                false => self.at + gained * 1000 / u64::from(self.per_second),
            };
        }
        let enough = self.left >= price;
        self.left = self.left.saturating_sub(price);
        enough
    }

    fn earn(&mut self, amount: u32) {
        self.left = self.burst.min(self.left.saturating_add(amount));
    }
}

/// How a header block is coming along.
#[derive(Clone, Copy, Debug)]
struct Block {
    opens_a_stream: bool,
    continuations: u32,
    since: u64,
}

/// One connection's judge.
#[derive(Debug)]
pub(crate) struct Judge {
    incoming: Scanner,
    outgoing: Scanner,
    /// Streams that the client resets, or opens beyond the limit.
    resets: Budget,
    /// Streams that we reset because the client broke a rule.
    errors: Budget,
    /// SETTINGS, PRIORITY, WINDOW_UPDATE, frames of unknown types, and DATA without data.
    controls: Budget,
    /// Small DATA frames of ours that are worth control frames.
    messages: Budget,
    /// Data that is sent earns them, however little: gRPC measures the way with one for each answer.
    pings: Budget,
    block: Option<Block>,
    /// The client's first SETTINGS have not come since then.
    unsettled: Option<u64>,
    highest: u32,
    /// Errors paid for before their RST_STREAM was written.
    prepaid: u64,
    /// Errors written that were compared with refused requests already.
    settled: u64,
    tally: Tally,
    verdict: Option<Abuse>,
    /// What our GOAWAY says that the client did.
    goodbye: Option<Abuse>,
    /// Streams whose header blocks make their requests malformed, as long as nobody has asked.
    faults: Vec<(u32, &'static str)>,
}

/// Frames counted, to tell what became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Streams that the client opened with a whole header block.
    pub(crate) opened: u64,
    /// Of them refused because too many were open.
    pub(crate) refused: u64,
    /// Streams that were reset because the client broke a rule.
    pub(crate) errors: u64,
}

impl Judge {
    /// For a connection whose first byte is still to come by. `now` is in milliseconds.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            incoming: Scanner::after(PREFACE, Some(HeaderBlocks::new(Sender::Client))),
            outgoing: Scanner::after(0, None),
            resets: Budget::new(1000, 33, now),
            errors: Budget::new(100, 10, now),
            controls: Budget::new(1000, 33, now),
            messages: Budget::new(10_000, 2000, now),
            pings: Budget::new(1000, 33, now),
            block: None,
            unsettled: Some(now),
            highest: 0,
            prepaid: 0,
            settled: 0,
            tally: Tally::default(),
            verdict: None,
            goodbye: None,
            faults: Vec::new(),
        }
    }

    /// Bytes from the client. What the codec would end the connection for is changed, where one request is at fault.
    pub(crate) fn read(&mut self, mut bytes: &mut [u8], now: u64) {
        loop {
            let (n, found) = self.incoming.next_mended(bytes);
            bytes = &mut bytes[n..];
            match found {
                Some(Found::Frame(frame)) => self.incoming_frame(frame, now),
                Some(Found::Block(block)) => self.end_of_block(block),
                None => return,
            }
        }
    }

    /// Bytes to the client.
    pub(crate) fn written(&mut self, mut bytes: &[u8], now: u64) {
        while let (n, Some(found)) = self.outgoing.next(bytes) {
            bytes = &bytes[n..];
            if let Found::Frame(frame) = found {
                self.outgoing_frame(frame, now);
            }
        }
    }

    /// Whether the connection must end, and for what.
    pub(crate) fn verdict(&self) -> Option<Abuse> {
        self.verdict
    }

    /// Since when the client owes us the rest of a header block, or its first SETTINGS.
    pub(crate) fn owed_since(&self) -> Option<u64> {
        self.block.map(|block| block.since).or(self.unsettled)
    }

    /// Whether a request has begun whose head is not whole.
    pub(crate) fn has_half_a_head(&self) -> bool {
        self.block.is_some_and(|block| block.opens_a_stream)
    }

    /// What a connection that the codec has ended was ended for, if it was the client's fault.
    pub(crate) fn blame(&self) -> Option<Abuse> {
        self.goodbye.and(self.verdict).or(self.goodbye)
    }

    /// What makes a stream's request malformed that the codec has let pass. It is told once.
    pub(crate) fn take_fault(&mut self, stream: u32) -> Option<&'static str> {
        let at = self.faults.iter().position(|(other, _)| *other == stream)?;
        Some(self.faults.swap_remove(at).1)
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    fn condemn(&mut self, abuse: Abuse) {
        self.verdict.get_or_insert(abuse);
    }

    fn incoming_frame(&mut self, frame: Frame, now: u64) {
        match frame.kind {
            DATA if frame.length > frame.padding || frame.flags & END_STREAM != 0 => {}
            DATA => self.control(EMPTY_DATA_PRICE, Abuse::EmptyData, now),
            HEADERS => {
                let opens_a_stream = frame.stream > self.highest;
                self.highest = self.highest.max(frame.stream);
                self.block = Some(Block { opens_a_stream, continuations: 0, since: now });
            }
            CONTINUATION => {
                if let Some(block) = &mut self.block {
                    block.continuations += 1;
                    if block.continuations > CONTINUATIONS {
                        self.condemn(Abuse::Continuations);
                    }
                }
            }
            RST_STREAM => {
                if !self.resets.spend(1, now) {
                    self.condemn(Abuse::Resets);
                }
            }
            SETTINGS => {
                self.unsettled = None;
                let price = if frame.flags & ACK == 0 { SETTINGS_PRICE } else { 1 };
                self.control(price, Abuse::Settings, now);
            }
            PING => {
                if !self.pings.spend(1, now) {
                    self.condemn(Abuse::Pings);
                }
            }
            // The last frame that matters.
            GOAWAY => self.control(1, Abuse::UnknownFrames, now),
            PRIORITY => self.control(1, Abuse::Priorities, now),
            WINDOW_UPDATE => self.control(1, Abuse::WindowUpdates, now),
            _ => self.control(1, Abuse::UnknownFrames, now),
        }
    }

    /// So many requests were refused by the codec. They are paid for now, because a client that does not read would put
    /// off for ever that the resets are written.
    pub(crate) fn refused(&mut self, requests: u64, now: u64) {
        let unwritten = requests.saturating_sub(self.tally.errors - self.settled);
        self.settled = self.tally.errors;
        self.prepaid += unwritten;
        let price = u32::try_from(unwritten).unwrap_or(u32::MAX);
        self.spend_errors(price, now);
    }

    fn spend_errors(&mut self, price: u32, now: u64) {
        if !self.errors.spend(price, now) {
            self.condemn(Abuse::StreamErrors);
        }
    }

    fn control(&mut self, price: u32, abuse: Abuse, now: u64) {
        if !self.controls.spend(price, now) {
            self.condemn(abuse);
        }
    }

    fn end_of_block(&mut self, found: HeaderBlock) {
        let Some(block) = self.block.take() else { return };
        self.tally.opened += u64::from(block.opens_a_stream);
        // Trailers have none (RFC 9113 section 8.1). The codec lets them pass without a word.
        let pseudo = (!block.opens_a_stream && found.facts.has_pseudo()).then_some(TRAILERS_WITH_PSEUDO);
        if let Some(fault) = found.facts.fault.or(pseudo) {
            self.faults.push((found.stream, fault));
            if self.faults.len() > FAULTS {
                self.condemn(Abuse::StreamErrors);
            }
        }
    }

    fn outgoing_frame(&mut self, frame: Frame, now: u64) {
        match frame.kind {
            DATA | HEADERS => {
                self.pings.earn(1);
                let is_end = frame.flags & END_STREAM != 0;
                if is_end {
                    self.resets.earn(1);
                    self.errors.earn(1);
                }
                if is_end || frame.kind == DATA && frame.length >= WORTHWHILE {
                    self.controls.earn(CONTROLS_FOR_WORK);
                } else if frame.kind == DATA && frame.length >= MESSAGE && self.messages.spend(1, now) {
                    self.controls.earn(CONTROLS_FOR_MESSAGE);
                }
            }
            RST_STREAM if frame.code == REFUSED_STREAM => {
                self.tally.refused += 1;
                if !self.resets.spend(1, now) {
                    self.condemn(Abuse::Resets);
                }
            }
            RST_STREAM if !NO_FAULT_OF_THE_CLIENT.contains(&frame.code) => {
                self.tally.errors += 1;
                match self.prepaid.checked_sub(1) {
                    Some(rest) => self.prepaid = rest,
                    None => self.spend_errors(1, now),
                }
            }
            GOAWAY => self.goodbye = farewell(frame.code, self.outgoing.debug_data()).or(self.goodbye),
            _ => {}
        }
    }
}

/// What the codec's last word says of the client. It has a word for each of its limits there.
fn farewell(code: u32, words: &[u8]) -> Option<Abuse> {
    const BY_WORD: [(&[u8], Abuse); 4] = [
        (b"too_many_continu", Abuse::Continuations),
        (b"header_list_way_", Abuse::Headers),
        (b"too_many_data_fr", Abuse::SmallData),
        (b"too_many_interna", Abuse::StreamErrors),
    ];
    match code {
        0 => None,
        ENHANCE_YOUR_CALM => {
            let known = BY_WORD.iter().find(|(word, _)| words.starts_with(word));
            Some(known.map_or(Abuse::Resets, |(_, abuse)| *abuse))
        }
        _ => Some(Abuse::Protocol),
    }
}

#[cfg(test)]
mod tests;
