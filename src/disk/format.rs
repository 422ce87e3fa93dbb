//! How a response lies in a file: a fixed part, a head with room behind it, and the body as it is. Nothing of it is believed before its
//! checksum holds: the fixed part's, the head's, and that of each piece of the body, which depends on the key and on the place, so that a
//! piece of another response, or another piece of this one, is found out as well.

use crate::cache::{Moment, Terms, Vary};
use crate::store::{StoredBody, StoredResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed, xxh3_128};

/// Another number for each other layout, and for each other way in which keys, URLs and places are made: by those that were, a purge would not
/// reach what lies there.
pub(super) const VERSION: u32 = 3;
pub(super) const MAGIC: [u8; 8] = *b"evenkeel";
/// Bytes of the fixed part.
pub(super) const FIXED: usize = 64;
/// As much of a body is checked, read and sent at once.
pub(super) const PIECE: u64 = 64 << 10;
/// A head may grow by so much before its file has to be written anew.
const SPARE: usize = 256;
const ALIGNED: usize = 512;
/// No head is longer: its fields, its tags and its pieces' checksums.
const MOST_HEAD: u32 = 8 << 20;

/// Why what lies in a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Of another version of this program.
    Foreign,
    Broken,
}

/// The number under which a key is found.
pub(super) fn key_hash(key: &[u8]) -> u128 {
    xxh3_128(key)
}

/// The number by which variants of a key are told apart.
pub(super) fn selected_hash(selected: &[u8]) -> u64 {
    xxh3_64_with_seed(selected, 2)
}

/// The fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) head: u32,
    /// Bytes between the fixed part and the body.
    pub(super) room: u32,
    pub(super) body: u64,
    head_sum: u64,
    pub(super) key: u128,
}

impl Fixed {
    fn bytes(&self) -> [u8; FIXED] {
        let mut bytes = [0; FIXED];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.head.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.room.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.body.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.head_sum.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.key.to_le_bytes());
        let sum = xxh3_64(&bytes[..56]);
        bytes[56..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// What a file begins with.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader(bytes.get(..FIXED).ok_or(Unreadable::Broken)?);
        let (Some(magic), Some(version)) = (reader.bytes(8), reader.u32()) else {
            return Err(Unreadable::Broken);
        };
        if magic != MAGIC {
            return Err(Unreadable::Broken);
        }
        let sum = u64::from_le_bytes(bytes[56..FIXED].try_into().map_err(|_| Unreadable::Broken)?);
        if version != VERSION {
            return Err(Unreadable::Foreign);
        }
        if sum != xxh3_64(&bytes[..56]) {
            return Err(Unreadable::Broken);
        }
        let read = (|| {
            Some(Self {
                head: reader.u32()?,
                room: reader.u32()?,
                body: reader.u64()?,
                head_sum: reader.u64()?,
                key: u128::from_le_bytes(reader.bytes(16)?.try_into().ok()?),
            })
        })();
        read.filter(|fixed| fixed.head <= fixed.room && fixed.room <= MOST_HEAD).ok_or(Unreadable::Broken)
    }

    /// Where the body begins.
    pub(super) fn body_at(&self) -> u64 {
        FIXED as u64 + u64::from(self.room)
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.body_at().saturating_add(self.body)
    }
}

/// What stands before the body of a response in its file.
pub(super) fn begin(key: &[u8], response: &StoredResponse, pieces: &[Bytes]) -> Option<Vec<u8>> {
    begin_with(key, response, &sums(key_hash(key), pieces))
}

/// The same with its pieces' checksums; it is as long whatever they are.
pub(super) fn begin_with(key: &[u8], response: &StoredResponse, sums: &[u64]) -> Option<Vec<u8>> {
    let head = head(key, response, sums);
    let room = u32::try_from((head.len() + SPARE).next_multiple_of(ALIGNED)).ok()?;
    block(key, response.length, &head, room)
}

/// The same for a head that takes another's place in its file, if there is room for it.
pub(super) fn begin_again(
    key: &[u8],
    response: &StoredResponse,
    sums: &[u64],
    fixed: &Fixed,
) -> Option<Vec<u8>> {
    block(key, fixed.body, &head(key, response, sums), fixed.room)
}

fn block(key: &[u8], body: u64, head: &[u8], room: u32) -> Option<Vec<u8>> {
    let length = u32::try_from(head.len()).ok().filter(|length| *length <= room && room <= MOST_HEAD)?;
    let fixed = Fixed { head: length, room, body, head_sum: xxh3_64(head), key: key_hash(key) };
    let mut block = Vec::with_capacity(FIXED + room as usize);
    block.extend_from_slice(&fixed.bytes());
    block.extend_from_slice(head);
    block.resize(FIXED + room as usize, 0);
    Some(block)
}

/// Bytes that a response takes in a file, about: what is written is measured.
pub(super) fn is_within(response: &StoredResponse, most: u64) -> bool {
    response.length.saturating_add(u64::from(MOST_HEAD / 64)) <= most
}

/// The checksums of a body's pieces, however it lies in memory.
fn sums(key: u128, body: &[Bytes]) -> Vec<u64> {
    let mut sums = Vec::new();
    let begin = |place: usize| Xxh3::with_seed(seed(key, place as u64));
    let (mut hasher, mut hashed) = (begin(0), 0_u64);
    for mut bytes in body.iter().map(|chunk| &chunk[..]) {
        while !bytes.is_empty() {
            let left = usize::try_from(PIECE - hashed).unwrap_or(bytes.len());
            let (now, later) = bytes.split_at(bytes.len().min(left));
            hasher.update(now);
            hashed += now.len() as u64;
            bytes = later;
            if hashed == PIECE {
                sums.push(hasher.digest());
                (hasher, hashed) = (begin(sums.len()), 0);
            }
        }
    }
    if hashed > 0 {
        sums.push(hasher.digest());
    }
    sums
}

fn seed(key: u128, place: u64) -> u64 {
    (key as u64) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Whether this is the piece that stood there.
pub(super) fn is_piece(key: u128, place: u64, bytes: &[u8], sum: u64) -> bool {
    piece_sum(key, place, bytes) == sum
}

/// The checksum of a piece, by itself.
pub(super) fn piece_sum(key: u128, place: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, seed(key, place))
}

fn head(key: &[u8], response: &StoredResponse, sums: &[u64]) -> Vec<u8> {
    let mut writer = Writer(Vec::with_capacity(1024 + key.len() + sums.len() * 8));
    writer.text(key);
    writer.u64(u64::from(response.status.as_u16()));
    writer.u64(response.fields.len() as u64);
    for (name, value) in &response.fields {
        writer.text(name.as_str().as_bytes());
        writer.text(value.as_bytes());
    }
    let terms = &response.terms;
    for number in [
        terms.received.0,
        terms.initial_age,
        terms.lifetime,
        terms.stale_while_revalidate,
        terms.stale_if_error,
        response.epoch,
        response.url,
        response.purge_epoch,
    ] {
        writer.u64(number);
    }
    let flags = [terms.is_always_validated, terms.may_be_stale, terms.is_for_authorized];
    writer.0.extend(flags.map(u8::from));
    writer.u64(terms.vary.0.len() as u64);
    terms.vary.0.iter().for_each(|name| writer.text(name.as_str().as_bytes()));
    writer.u64(terms.without.len() as u64);
    terms.without.iter().for_each(|name| writer.text(name.as_bytes()));
    writer.text(&response.selected);
    writer.text(response.place.as_bytes());
    writer.numbers(&response.tags);
    writer.numbers(sums);
    writer.0
}

/// What a head says.
#[derive(Debug)]
pub(super) struct FileHead {
    pub(super) key: Vec<u8>,
    /// Without its body.
    pub(super) response: StoredResponse,
    /// Of the body's pieces.
    pub(super) sums: Vec<u64>,
}

impl FileHead {
    /// Reads the bytes behind the fixed part.
    pub(super) fn parse(fixed: &Fixed, bytes: &[u8]) -> Result<Self, Unreadable> {
        let bytes = bytes.get(..fixed.head as usize).ok_or(Unreadable::Broken)?;
        if xxh3_64(bytes) != fixed.head_sum {
            return Err(Unreadable::Broken);
        }
        let head = read(fixed, bytes).ok_or(Unreadable::Broken)?;
        let pieces = fixed.body.div_ceil(PIECE);
        match key_hash(&head.key) == fixed.key && head.sums.len() as u64 == pieces {
            true => Ok(head),
            false => Err(Unreadable::Broken),
        }
    }
}

fn read(fixed: &Fixed, bytes: &[u8]) -> Option<FileHead> {
    let mut reader = Reader(bytes);
    let key = reader.text()?.to_vec();
    let status = StatusCode::from_u16(u16::try_from(reader.u64()?).ok()?).ok()?;
    let mut fields = HeaderMap::new();
    for _ in 0..reader.u64()? {
        let name = HeaderName::from_bytes(reader.text()?).ok()?;
        fields.try_append(name, HeaderValue::from_bytes(reader.text()?).ok()?).ok()?;
    }
    let received = Moment(reader.u64()?);
    let (initial_age, lifetime) = (reader.u64()?, reader.u64()?);
    let (stale_while_revalidate, stale_if_error) = (reader.u64()?, reader.u64()?);
    let (epoch, url, purge_epoch) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let flags = reader.bytes(3)?;
    let mut vary = Vary::default();
    for _ in 0..reader.u64()? {
        vary.0.push(HeaderName::from_bytes(reader.text()?).ok()?);
    }
    let mut without = Vec::new();
    for _ in 0..reader.u64()? {
        without.push(String::from_utf8(reader.text()?.to_vec()).ok()?);
    }
    let terms = Terms {
        received,
        initial_age,
        lifetime,
        is_always_validated: flags[0] != 0,
        stale_while_revalidate,
        stale_if_error,
        may_be_stale: flags[1] != 0,
        is_for_authorized: flags[2] != 0,
        vary,
        without,
    };
    let response = StoredResponse {
        status,
        fields,
        body: StoredBody::Memory(Arc::from([])),
        length: fixed.body,
        coded: Arc::default(),
        terms,
        selected: reader.text()?.into(),
        epoch,
        url,
        place: std::str::from_utf8(reader.text()?).ok()?.into(),
        tags: reader.numbers()?.into(),
        purge_epoch,
        unpurged_at: AtomicU64::new(purge_epoch),
    };
    let sums = reader.numbers()?;
    reader.0.is_empty().then_some(FileHead { key, response, sums })
}

/// Writes numbers, and bytes behind their number.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn numbers(&mut self, numbers: &[u64]) {
        self.u64(numbers.len() as u64);
        numbers.iter().for_each(|number| self.u64(*number));
    }
}

/// Reads them again, as far as they are there.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.bytes(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.bytes(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.bytes(length)
    }

    fn numbers(&mut self) -> Option<Vec<u64>> {
        let count = usize::try_from(self.u64()?).ok().filter(|count| *count <= self.0.len() / 8)?;
        (0..count).map(|_| self.u64()).collect()
    }
}
