//! What was purged and changed, and by what keys something lies there, as the folder's log has it: one record behind the other, each with its
//! checksum, so that a process that begins with the responses of another knows what of them is not to be used.

use super::format::{MAGIC, Reader, Unreadable, Writer};
use crate::config::plan::cache::{KeyPlan, QueryKey};
use crate::store::{OwnedPurge, PurgeRecord, Purged};
use xxhash_rust::xxh3::xxh3_64;

/// Another number for each other layout of the log or of files: what another version has left is not looked at.
const VERSION: u64 = super::format::VERSION as u64;
const BEGINNING: usize = 16;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Purge(PurgeRecord),
    /// What lies behind URLs of this place has changed.
    Change {
        place: u16,
        epoch: u64,
    },
    /// Something may be kept by this way to tell URLs apart.
    Key(KeyPlan),
}

/// What a log begins with.
pub(super) fn beginning() -> Vec<u8> {
    let mut writer = Writer(MAGIC.to_vec());
    writer.u64(VERSION);
    writer.0
}

impl Record {
    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Purge(record) => record.epoch,
            Self::Change { epoch, .. } => *epoch,
            Self::Key(_) => 0,
        }
    }

    pub(super) fn append_to(&self, log: &mut Vec<u8>) {
        let mut writer = Writer(Vec::with_capacity(64));
        writer.u64(self.epoch());
        match self {
            Self::Change { place, .. } => {
                writer.0.extend([4, 0, place.to_le_bytes()[0], place.to_le_bytes()[1]])
            }
            Self::Key(KeyPlan { host, query, ignore_query, sort_query, .. }) => {
                let (is_some, names) = match query {
                    QueryKey::All => (false, [].as_slice()),
                    QueryKey::Some(names) => (true, names.as_slice()),
                };
                writer.0.extend([5, u8::from(*host) | u8::from(*sort_query) << 1 | u8::from(is_some) << 2]);
                for names in [names, ignore_query] {
                    writer.u64(names.len() as u64);
                    names.iter().for_each(|name| writer.text(name.as_bytes()));
                }
            }
            Self::Purge(PurgeRecord { what, purged, .. }) => {
                let kind = match what {
                    OwnedPurge::Url(_) => 0,
                    OwnedPurge::Tag(_) => 1,
                    OwnedPurge::Prefix(_) => 2,
                    OwnedPurge::All => 3,
                };
                writer.0.extend([kind, u8::from(*purged == Purged::Hard)]);
                match what {
                    OwnedPurge::Url(number) | OwnedPurge::Tag(number) => writer.u64(*number),
                    OwnedPurge::Prefix(prefix) => writer.0.extend_from_slice(prefix.as_bytes()),
                    OwnedPurge::All => {}
                }
            }
        }
        let sum = xxh3_64(&writer.0);
        let mut framed = Writer(Vec::with_capacity(writer.0.len() + 16));
        framed.u64(writer.0.len() as u64);
        framed.u64(sum);
        log.extend_from_slice(&framed.0);
        log.extend_from_slice(&writer.0);
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let epoch = reader.u64()?;
        let [kind, flags] = *reader.bytes(2)? else { return None };
        let purged = if flags == 0 { Purged::Soft } else { Purged::Hard };
        let what = match kind {
            0 => OwnedPurge::Url(reader.u64()?),
            1 => OwnedPurge::Tag(reader.u64()?),
            2 => OwnedPurge::Prefix(std::str::from_utf8(std::mem::take(&mut reader.0)).ok()?.into()),
            3 => OwnedPurge::All,
            4 => {
                let place = u16::from_le_bytes(reader.bytes(2)?.try_into().ok()?);
                return reader.0.is_empty().then_some(Self::Change { place, epoch });
            }
            5 => {
                let (query, ignore_query) = (names(&mut reader)?, names(&mut reader)?);
                let is = |bit: u8| flags & bit != 0;
                let query = if is(4) { QueryKey::Some(query) } else { QueryKey::All };
                let key =
                    KeyPlan { host: is(1), sort_query: is(2), query, ignore_query, ..KeyPlan::of_urls() };
                return reader.0.is_empty().then_some(Self::Key(key));
            }
            _ => return None,
        };
        reader.0.is_empty().then_some(Self::Purge(PurgeRecord { what, purged, epoch }))
    }
}

fn names(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..reader.u64()? {
        names.push(String::from_utf8(reader.text()?.to_vec()).ok()?);
    }
    Some(names)
}

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) records: Vec<Record>,
    /// Something at its end was lost.
    pub(super) is_torn: bool,
}

/// Reads a log.
pub(super) fn parse(log: &[u8]) -> Result<Recorded, Unreadable> {
    let mut reader = Reader(log);
    let magic = reader.bytes(MAGIC.len()).ok_or(Unreadable::Broken)?;
    let version = reader.u64().ok_or(Unreadable::Broken)?;
    if magic != MAGIC {
        return Err(Unreadable::Broken);
    }
    if version != VERSION {
        return Err(Unreadable::Foreign);
    }
    debug_assert_eq!(log.len() - reader.0.len(), BEGINNING);
    let mut recorded = Recorded::default();
    while !reader.0.is_empty() {
        match next(&mut reader) {
            Some(record) => recorded.records.push(record),
            None => {
                recorded.is_torn = true;
                break;
            }
        }
    }
    Ok(recorded)
}

fn next(reader: &mut Reader<'_>) -> Option<Record> {
    let length = usize::try_from(reader.u64()?).ok()?;
    let sum = reader.u64()?;
    let bytes = reader.bytes(length)?;
    (xxh3_64(bytes) == sum).then(|| Record::parse(bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let purge = |what, purged, epoch| Record::Purge(PurgeRecord { what, purged, epoch });
        vec![
            purge(OwnedPurge::Url(7), Purged::Soft, 1),
            purge(OwnedPurge::Tag(u64::MAX), Purged::Hard, 2),
            Record::Change { place: 65535, epoch: 3 },
            purge(OwnedPurge::Prefix("shop.example/a".into()), Purged::Soft, 4),
            purge(OwnedPurge::All, Purged::Hard, 5),
            Record::Key(KeyPlan {
                sort_query: true,
                ignore_query: vec!["utm_*".to_owned()],
                ..KeyPlan::of_urls()
            }),
            Record::Key(KeyPlan {
                host: true,
                query: QueryKey::Some(vec!["\u{e9}".to_owned()]),
                ..KeyPlan::of_urls()
            }),
        ]
    }

    #[test]
    fn a_log_that_is_cut_anywhere_says_what_is_whole_and_that_something_was_lost() {
        let mut log = beginning();
        let mut ends = vec![log.len()];
        for record in records() {
            record.append_to(&mut log);
            ends.push(log.len());
        }
        for end in 0..=log.len() {
            let parsed = parse(&log[..end]);
            if end < BEGINNING {
                assert_eq!(parsed, Err(Unreadable::Broken), "{end}");
                continue;
            }
            let whole = ends.iter().filter(|at| **at <= end).count() - 1;
            let expected = Recorded { records: records()[..whole].to_vec(), is_torn: !ends.contains(&end) };
            assert_eq!(parsed, Ok(expected), "{end}");
        }
    }

    #[test]
    fn a_log_with_a_flipped_bit_says_nothing_that_it_did_not_say() {
        let mut log = beginning();
        records().iter().for_each(|record| record.append_to(&mut log));
        for bit in 0..log.len() * 8 {
            let mut flipped = log.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match parse(&flipped) {
                Ok(recorded) => {
                    assert!(recorded.is_torn && records().starts_with(&recorded.records), "{bit}");
                }
                Err(Unreadable::Foreign) => assert!((8..16).contains(&(bit / 8)), "{bit}"),
                Err(Unreadable::Broken) => assert!(bit / 8 < 8, "{bit}"),
            }
        }
    }
}
