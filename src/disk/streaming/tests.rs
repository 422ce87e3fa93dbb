//! Long bodies on their way to the disk: found once they are whole, followed meanwhile, and gone where they break off.

use super::super::Leaving;
use super::super::tests::{Place, body, end, found, response, start, store, whole, written};
use super::*;
use crate::cache::{Moment, Terms};
use crate::store::{Purge, Purged, Store, StoredBody};
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::task::Waker;

/// A response without its body.
fn head(number: u64, length: usize, selected: &str) -> StoredResponse {
    let one = Arc::into_inner(response(number, length, selected)).expect("nobody else has it");
    StoredResponse { body: StoredBody::Memory(Arc::from([])), ..one }
}

/// Writes one in parts of this length; what comes says when it is there, or that it will not be.
fn write(tier: &Arc<DiskTier>, key: &str, (number, length): (u64, usize), step: usize) -> Receiver<()> {
    let (sender, receiver) = channel();
    let mut writer = tier.begin(key.as_bytes(), head(number, length, "")).expect("it is for the disk");
    body(number, length).chunks(step).for_each(|data| writer.push(data).expect("it goes on"));
    let _ = writer.finish(move || _ = sender.send(()));
    receiver
}

#[test]
fn what_was_written_as_it_came_is_found_by_this_process_and_the_next() {
    let place = Place::new();
    let lengths = [1, PART - 1, PART, PART + 1, 3 * PART, 3_000_007];
    {
        let store = store(1 << 30);
        let tier = start(&place, &store, 64 << 20);
        for (number, length) in (1..).zip(lengths) {
            let length = length.max(100);
            for step in [70_001, PART, 7 * PART + 5] {
                write(&tier, &format!("k{number}"), (number, length), step).recv().expect("it is written");
                let there = found(&tier, &format!("k{number}"), "").expect("it is found");
                assert!(whole(&there).is_some_and(|bytes| bytes == body(number, length)), "{length} {step}");
            }
        }
        written(&tier, lengths.len() as u64);
        assert_eq!(place.files().len(), lengths.len(), "each in the place of the one before");
        assert!(tier.index.taken() >= place.files().len() as u64 * 4096);
        assert_eq!(store.in_use().filling, 0);
        end(tier);
    }
    let store = store(2 << 30);
    let tier = start(&place, &store, 64 << 20);
    for (number, length) in (1..).zip(lengths) {
        let there = found(&tier, &format!("k{number}"), "").expect("it is found");
        assert!(whole(&there).is_some_and(|bytes| bytes == body(number, length.max(100))), "{length}");
        assert_eq!(there.fields, response(number, length.max(100), "").fields);
    }
    end(tier);
}

#[test]
fn what_does_not_come_to_its_end_leaves_nothing() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let without = tier.index.taken();
    for pushed in [0, 10, PART, 3 * PART + 10] {
        let length = 4 * PART;
        let (sender, receiver) = channel();
        for is_finished in [false, true] {
            let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
            writer.push(&body(1, length)[..pushed]).expect("it goes on");
            let sender = sender.clone();
            match is_finished {
                true => _ = writer.finish(move || _ = sender.send(())),
                false => drop(writer),
            }
        }
        drop(sender);
        assert!(receiver.recv().is_err(), "nobody is told that it is there: {pushed}");
        written(&tier, 0);
        assert_eq!(
            (place.files().len(), tier.index.taken(), store.in_use().filling),
            (0, without, 0),
            "{pushed}"
        );
    }
    end(tier);
}

#[test]
fn what_was_purged_or_changed_meanwhile_and_what_has_no_room_is_not_there() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 8 << 20);
    let without = tier.index.taken();
    let begin = |head| tier.begin(b"k", head).err();
    assert_eq!(begin(head(1, 3 << 20, "")), Some(NotStored::TooLargeForDisk));
    assert_eq!(begin(head(1, 99, "")), Some(NotStored::TooSmallForDisk));
    let brief = StoredResponse { terms: Terms::for_tests(Moment(7), 4), ..head(1, 999, "") };
    assert_eq!(begin(brief), Some(NotStored::TooBrief));
    let changes: [fn(&Store); 2] =
        [|store| _ = store.epochs.change(1), |store| _ = store.purges.purge(Purge::Tag(9), Purged::Soft)];
    for change in changes {
        let (sender, receiver) = channel();
        let mut writer = tier.begin(b"k", head(1, 2 * PART, "")).expect("it is for the disk");
        writer.push(&body(1, 2 * PART)).expect("it goes on");
        change(&store);
        let _ = writer.finish(move || sender.send(()).expect("the test waits for it"));
        assert!(receiver.recv().is_err());
        written(&tier, 0);
    }
    assert_eq!((place.files().len(), tier.index.taken()), (0, without));
    end(tier);
}

#[test]
fn a_write_that_panics_gives_back_what_it_had_and_others_go_on() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let without = tier.index.taken();
    for length in [PART, 3 * PART + 10] {
        tier.folder.panics.store(true, Relaxed);
        let (sender, receiver) = channel();
        let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
        let _ = writer.push(&body(1, length));
        let _ = writer.finish(move || _ = sender.send(()));
        assert!(receiver.recv().is_err(), "nobody is told that it is there");
        tier.keep(b"short", &response(2, 1000, ""));
        written(&tier, 0);
        assert_eq!((tier.index.taken(), store.in_use().filling), (without, 0), "{length}");
        assert_eq!((place.files().len(), tier.is_ready()), (0, true));
        tier.folder.panics.store(false, Relaxed);
        write(&tier, "k", (1, length), 1000).recv().expect("it is written");
        assert!(found(&tier, "k", "").and_then(|there| whole(&there)).is_some());
        tier.remove(b"k", &response(1, length, ""));
        written(&tier, 0);
    }
    end(tier);
}

/// Reads on where it was, as far as there is more.
fn follow(source: &Arc<dyn BodySource>, read: &mut Vec<u8>, until: usize) -> bool {
    while read.len() < until {
        let mut receiver = source.read(read.len() as u64);
        let bytes = loop {
            match receiver.try_recv() {
                Ok(Some(bytes)) => break bytes,
                Ok(None) => std::thread::yield_now(),
                Err(_) => return false,
            }
        };
        assert!(!bytes.is_empty() && bytes.len() <= PIECE as usize);
        read.extend_from_slice(&bytes);
    }
    true
}

#[test]
fn who_follows_what_is_written_has_what_has_come_of_it_wherever_it_is() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let length = 5 * PART + 12_345;
    let bytes = body(1, length);
    let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
    let coming = writer.coming();
    let StoredBody::Elsewhere(source) = &coming.body else { panic!("it is read as it comes") };
    let (mut at_once, mut later, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut came = 0;
    for data in bytes.chunks(40_000) {
        writer.push(data).expect("it goes on");
        came += data.len();
        assert!(follow(source, &mut at_once, came));
        if came > length / 2 {
            assert!(follow(source, &mut later, came / 3));
        }
    }
    let (sender, receiver) = channel();
    let _ = writer.finish(move || _ = sender.send(()));
    receiver.recv().expect("it is written");
    assert!(follow(source, &mut later, length) && at_once == bytes && later == bytes);
    // It goes for others, and stays as long as it is followed.
    let taken = tier.index.taken();
    tier.remove(b"k", &response(1, length, ""));
    written(&tier, 0);
    assert_eq!((place.files().len(), tier.index.taken()), (0, taken));
    assert!(follow(source, &mut last, length) && last == bytes);
    drop(coming);
    written(&tier, 0);
    assert!(tier.index.taken() < 65_536, "{}", tier.index.taken());
    end(tier);
}

/// Waits until others may have what is written as it comes, or never will.
fn made(writer: &DiskWriter) -> Result<(), NotStored> {
    loop {
        match writer.poll_made(&Context::from_waker(Waker::noop())) {
            Poll::Ready(made) => return made,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

#[test]
fn what_is_followed_goes_on_without_its_place_on_the_disk() {
    let full = |tier: &Arc<DiskTier>| {
        tier.fail(DiskFault::Write, &io::ErrorKind::StorageFull.into());
        assert!(!tier.is_ready());
    };
    let ways: [fn(&Arc<DiskTier>); 3] =
        [|tier| tier.release(Leaving::Keep), |tier| tier.release(Leaving::Forget), full];
    let length = 7 * PART + 12_345;
    let bytes = body(1, length);
    for (way, give_up) in ways.into_iter().enumerate() {
        for pushed in [0, 10, PART + 1, 4 * PART] {
            let (place, store) = (Place::new(), store(1 << 30));
            let tier = start(&place, &store, 64 << 20);
            let without = tier.index.taken();
            let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
            made(&writer).expect("there is room");
            let coming = writer.coming();
            let StoredBody::Elsewhere(source) = &coming.body else { panic!("it is read as it comes") };
            let (mut at_once, mut later) = (Vec::new(), Vec::new());
            writer.push(&bytes[..pushed]).expect("it goes on");
            assert!(follow(source, &mut at_once, pushed) && source.has_come() == pushed as u64);
            give_up(&tier);
            // Another has the folder by now, and what it finds there is of no use to it.
            let next = (way < 2).then(|| start(&place, &store, 64 << 20));
            assert_eq!(place.files().len(), usize::from(next.is_none()), "{pushed}");
            for data in bytes[pushed..].chunks(70_000) {
                writer.push(data).expect("it goes on");
            }
            assert!(follow(source, &mut later, length / 2));
            let (sender, receiver) = channel();
            writer.finish(move || _ = sender.send(())).expect("it has come");
            assert!(receiver.recv().is_err(), "it is not found there");
            assert!(follow(source, &mut at_once, length) && follow(source, &mut later, length));
            assert!(at_once == bytes && later == bytes, "{way} {pushed}");
            drop(coming);
            written(&tier, 0);
            assert_eq!((place.files().len(), tier.index.taken()), (0, without), "{way} {pushed}");
            next.into_iter().for_each(end);
        }
    }
}

#[test]
fn what_nobody_follows_ends_with_its_place_on_the_disk() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let mut writer = tier.begin(b"k", head(1, 8 * PART, "")).expect("it is for the disk");
    made(&writer).expect("there is room");
    end(Arc::clone(&tier));
    assert_eq!(writer.push(&body(1, 8 * PART)), Err(NotStored::DiskOff));
    drop(writer);
    // What has no file has nobody follow it.
    let others = Place::new();
    let tier = start(&others, &store, 64 << 20);
    for shelf in 0..256 {
        std::fs::write(others.folder().join(format!("objects/{shelf:02x}")), b"").expect("it can be written");
    }
    let writer = tier.begin(b"k", head(1, 8 * PART, "")).expect("it is for the disk");
    assert_eq!(made(&writer), Err(NotStored::DiskOff));
    assert!(!tier.is_ready() && tier.begin(b"k", head(1, 8 * PART, "")).is_err());
}

#[test]
fn what_is_followed_goes_before_what_waits_for_the_disk() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let begin = |key: &[u8]| {
        let writer = tier.begin(key, head(1, 40 * PART, "")).expect("it is for the disk");
        made(&writer).expect("there is room");
        writer
    };
    let (mut alone, mut followed) = (begin(b"a"), begin(b"b"));
    let coming = followed.coming();
    // Nothing is written until these have ended.
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let (sender, receiver) = channel::<()>();
            assert!(tier.threads.write(0, u64::MAX, move || _ = receiver.recv()));
            sender
        })
        .collect();
    let bytes = body(1, 40 * PART);
    let is_ready = |writer: &DiskWriter| writer.poll_ready(&Context::from_waker(Waker::noop())).is_ready();
    let behind = bytes.chunks(PART).map(|data| alone.push(data)).find(Result::is_err);
    assert_eq!(behind, Some(Err(NotStored::DiskBehind)), "too much waits");
    tier.waiting.store(0, Relaxed);
    assert!(is_ready(&followed));
    followed.push(&bytes[..PART]).expect("it goes on");
    assert!(!is_ready(&followed), "a part at a time");
    tier.waiting.store(u64::MAX, Relaxed);
    assert!(is_ready(&followed));
    followed.push(&bytes[PART..]).expect("it goes on");
    let (sender, receiver) = channel();
    followed.finish(move || _ = sender.send(())).expect("it has come");
    drop((busy, alone));
    receiver.recv().expect("it is written");
    assert!(whole(&coming).is_some_and(|read| read == bytes));
    end(Arc::clone(&tier));
}

#[test]
fn who_follows_what_breaks_off_is_told_so_wherever_they_are() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    let without = tier.index.taken();
    let told = BrokenOff { why: Some(7), detail: None };
    for (pushed, is_told) in [(0, true), (10, true), (3 * PART + 10, true), (3 * PART + 10, false)] {
        let length = 4 * PART;
        let mut writer = tier.begin(b"k", head(1, length, "")).expect("it is for the disk");
        let coming = writer.coming();
        let StoredBody::Elsewhere(source) = &coming.body else { panic!("it is read as it comes") };
        let mut waits = source.read(pushed as u64);
        writer.push(&body(1, length)[..pushed]).expect("it goes on");
        assert!(waits.try_recv().is_ok_and(|came| came.is_none()), "it has come so far");
        match is_told {
            true => writer.break_off(told),
            false => drop(writer),
        }
        assert!(waits.try_recv().is_err());
        assert!(!follow(source, &mut Vec::new(), 1), "nothing more is read of it");
        assert_eq!(source.broken_off(), if is_told { told } else { BrokenOff::default() });
        drop(coming);
        written(&tier, 0);
        assert_eq!((place.files().len(), tier.index.taken()), (0, without), "{pushed}");
    }
    end(tier);
}
