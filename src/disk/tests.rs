use super::format::{self, FIXED, FileHead, Fixed, PIECE, Unreadable};
use super::*;
use crate::cache::{Moment, Terms, Vary};
use crate::store::{BodySource, Purge, Purged, StoreSize, StoredBody, StoredResponse};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A folder of its own.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("evenkeel-disk-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.0
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let folder =
            |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|file| file.path());
        folder(self.0.join("objects")).flat_map(folder).collect()
    }

    /// Bytes in files, whole blocks of them.
    fn bytes(&self) -> u64 {
        let all = self.files().into_iter().chain([self.0.join("purges")]);
        all.filter_map(|path| fs::metadata(path).ok()).map(|found| found.len()).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn store(epoch: u64) -> Arc<Store> {
    Arc::new(Store::new(StoreSize { memory: 64 << 20, max_object: 4 << 20, has_disk: true }, epoch))
}

#[track_caller]
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "waited for {what}");
        thread::yield_now();
    }
}

pub(super) fn start(place: &Place, store: &Arc<Store>, size: u64) -> Arc<DiskTier> {
    let plan = DiskPlan { path: place.0.clone(), size, min_object: 100 };
    let tier = DiskTier::start(&plan, store, 64 << 20);
    wait("the disk", || tier.is_ready());
    tier
}

/// Gives the folder up, as the end of a process does.
pub(super) fn end(tier: Arc<DiskTier>) {
    tier.release(Leaving::Keep);
    wait("the folder's lock", || tier.lock.lock().expect("nobody panics").is_none());
}

/// Bytes that are others for each number.
pub(super) fn body(number: u64, length: usize) -> Bytes {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub(super) fn response(number: u64, length: usize, selected: &str) -> Arc<StoredResponse> {
    let mut fields = HeaderMap::new();
    fields.append("etag", HeaderValue::from_str(&format!("\"{number}\"")).expect("a value"));
    fields.append("set-cookie", HeaderValue::from_static("a=1"));
    fields.append("set-cookie", HeaderValue::from_bytes(b"b=\xff").expect("a value"));
    let vary = if selected.is_empty() { Vary::default() } else { Vary(vec![HeaderName::from_static("foo")]) };
    let body = body(number, length);
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        fields,
        length: length as u64,
        coded: Arc::default(),
        body: StoredBody::Memory(if length == 0 { Arc::from([]) } else { Arc::from([body]) }),
        terms: Terms { vary, without: vec!["x".to_owned()], ..Terms::for_tests(Moment(7), 60) },
        selected: selected.as_bytes().into(),
        epoch: 0,
        url: number,
        place: "shop.example/".into(),
        tags: Box::from([number, 9]),
        purge_epoch: 0,
        unpurged_at: AtomicU64::new(0),
    })
}

/// The same, asked for now.
fn asked_now(store: &Store, response: Arc<StoredResponse>) -> Arc<StoredResponse> {
    let one = Arc::into_inner(response).expect("nobody else has it");
    let (epoch, purge_epoch) = (store.epochs.now(), store.purges.now());
    Arc::new(StoredResponse { epoch, purge_epoch, unpurged_at: AtomicU64::new(purge_epoch), ..one })
}

pub(super) fn whole(response: &StoredResponse) -> Option<Vec<u8>> {
    match &response.body {
        StoredBody::Memory(body) => Some(body.concat()),
        StoredBody::Elsewhere(source) => read_all(&**source, response.length),
    }
}

fn read_all(source: &dyn BodySource, length: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        bytes.extend_from_slice(&futures_executor(source.read(bytes.len() as u64))?);
    }
    Some(bytes)
}

fn futures_executor<T>(mut receiver: futures_channel::oneshot::Receiver<T>) -> Option<T> {
    loop {
        match receiver.try_recv() {
            Ok(Some(value)) => return Some(value),
            Ok(None) => thread::yield_now(),
            Err(_) => return None,
        }
    }
}

/// What the disk has for a request with this in the field that responses vary by.
pub(super) fn found(tier: &Arc<DiskTier>, key: &str, selected: &str) -> Option<Arc<StoredResponse>> {
    for _ in 0..10 {
        match tier
            .look(key.as_bytes(), &mut |vary| if vary.0.is_empty() { Vec::new() } else { selected.into() })
        {
            Look::Nothing => return None,
            Look::Here(response) => return Some(response),
            Look::Reads(receiver) => {
                let Some(loaded) = futures_executor(receiver) else { continue };
                if *loaded.response.selected == *selected.as_bytes() {
                    return Some(loaded.response);
                }
            }
        }
    }
    None
}

pub(super) fn written(tier: &Arc<DiskTier>, objects: u64) {
    // Nothing more is given to the threads meanwhile: who wakes the waiter would be seen at it each time.
    wait("the writes", || tier.index.objects() == objects && tier.threads.is_idle());
}

#[test]
fn what_is_written_is_found_again_by_the_next_process_with_all_that_belongs_to_it() {
    let place = Place::new();
    let lengths = [100, 65_535, 65_536, 65_537, 256 << 10, (256 << 10) + 1, 1_000_003];
    {
        let store = store(1 << 30);
        let (tier, mut count) = (start(&place, &store, 64 << 20), 0);
        for (number, length) in (1..).zip(lengths) {
            for selected in ["", "a", "b"] {
                let kept = response(
                    number * 10 + selected.len() as u64 * u64::from(selected == "b"),
                    length,
                    selected,
                );
                tier.keep(format!("k{number}{selected}").as_bytes(), &kept);
                tier.keep(format!("k{number}").as_bytes(), &kept);
                // What the disk is too far behind with is not kept.
                count += if selected.is_empty() { 1 } else { 2 };
                written(&tier, count);
            }
        }
        tier.keep(b"small", &response(1, 99, ""));
        written(&tier, lengths.len() as u64 * 5);
        end(tier);
    }
    let store = store(2 << 30);
    let tier = start(&place, &store, 64 << 20);
    assert_eq!(tier.index.objects(), lengths.len() as u64 * 5);
    for (number, length) in (1..).zip(lengths) {
        for selected in ["", "a", "b"] {
            let number_of = number * 10 + selected.len() as u64 * u64::from(selected == "b");
            for key in [format!("k{number}{selected}"), format!("k{number}")] {
                if selected.is_empty() && key == format!("k{number}") {
                    continue;
                }
                let found = found(&tier, &key, selected).expect("it is there");
                let kept = response(number_of, length, selected);
                assert!(whole(&found) == whole(&kept), "{key} {selected}");
                assert_eq!(
                    (&found.fields, &found.terms, &found.tags),
                    (&kept.fields, &kept.terms, &kept.tags)
                );
                assert_eq!((found.url, &found.place, found.length), (kept.url, &kept.place, kept.length));
            }
        }
    }
    assert!(found(&tier, "small", "").is_none() && found(&tier, "k1a", "c").is_none());
    end(tier);
}

/// A file as it is written.
fn file(number: u64, length: usize) -> Vec<u8> {
    let kept = response(number, length, "a");
    let StoredBody::Memory(pieces) = &kept.body else { panic!("it is in memory") };
    let mut bytes = format::begin(b"key", &kept, pieces).expect("it fits");
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

/// What is read of a file's bytes; nothing if anything of it is not as it was.
fn read(bytes: &[u8]) -> Result<(FileHead, Vec<u8>), Unreadable> {
    let fixed = Fixed::parse(bytes)?;
    if fixed.length() != bytes.len() as u64 {
        return Err(Unreadable::Broken);
    }
    let head = FileHead::parse(&fixed, &bytes[FIXED..])?;
    let body = &bytes[usize::try_from(fixed.body_at()).expect("short")..];
    let is_good = |(place, (piece, sum)): (usize, (&[u8], &u64))| {
        format::is_piece(fixed.key, place as u64, piece, *sum)
    };
    match body.chunks(PIECE as usize).zip(&head.sums).enumerate().all(is_good) {
        true => Ok((head, body.to_vec())),
        false => Err(Unreadable::Broken),
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_not_read() {
    let bytes = file(1, 200_000);
    let (head, read_body) = read(&bytes).expect("it is whole");
    assert!(read_body == body(1, 200_000) && head.key == b"key" && head.sums.len() == 4);
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_flipped_bit_is_found_out_wherever_it_is() {
    let bytes = file(1, 70_000);
    let body_at = usize::try_from(Fixed::parse(&bytes).expect("whole").body_at()).expect("short");
    let head = Fixed::parse(&bytes).expect("whole").head as usize;
    let places = (0..FIXED + head).chain([body_at, body_at + 65_535, body_at + 65_536, bytes.len() - 1]);
    for bit in places.flat_map(|byte| byte * 8..byte * 8 + 8) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "{bit}");
    }
    // Its own pieces in another order are not its body either.
    let mut swapped = bytes.clone();
    let (first, second) = swapped[body_at..].split_at_mut(PIECE as usize);
    first[..4464].swap_with_slice(&mut second[..4464]);
    assert!(read(&swapped).is_err());
}

#[test]
fn a_file_of_another_version_is_foreign() {
    let mut bytes = file(1, 10);
    bytes[8] += 1;
    assert_eq!(read(&bytes).map(|_| ()), Err(Unreadable::Foreign));
    assert_eq!(read(b"evenkee").map(|_| ()), Err(Unreadable::Broken));
}

/// Does something to what one process has left, and says how many responses the next has; what it has is as it was.
fn after(harm: impl FnOnce(&Place)) -> (usize, u64) {
    let place = Place::new();
    let tier = start(&place, &store(1 << 30), 64 << 20);
    for number in 1..=8 {
        tier.keep(format!("k{number}").as_bytes(), &response(number, 300_000, ""));
    }
    written(&tier, 8);
    end(tier);
    harm(&place);
    let tier = start(&place, &store(2 << 30), 64 << 20);
    let mut good = 0;
    for number in 1..=8 {
        let Some(bytes) = found(&tier, &format!("k{number}"), "").and_then(|found| whole(&found)) else {
            continue;
        };
        assert!(bytes == body(number, 300_000), "{number}");
        good += 1;
    }
    written(&tier, good as u64);
    assert_eq!(place.files().len(), good, "what is of no use has gone");
    let broken = tier.in_use().errors[DiskFault::Broken as usize];
    assert!(tier.is_ready(), "that is no fault of the disk");
    end(tier);
    (good, broken)
}

#[test]
fn what_was_harmed_is_never_served_and_the_rest_is() {
    assert_eq!(after(|_| {}), (8, 0));
    let change = |place: &Place, change: &dyn Fn(&mut Vec<u8>)| {
        let path = &place.files()[0];
        let mut bytes = fs::read(path).expect("it is there");
        change(&mut bytes);
        fs::write(path, bytes).expect("it can be written");
    };
    assert_eq!(after(|place| change(place, &|bytes| bytes.truncate(100_000))), (7, 1));
    assert_eq!(after(|place| change(place, &|bytes| bytes.truncate(10))), (7, 1));
    assert_eq!(after(|place| change(place, &|bytes| bytes[70] ^= 1)), (7, 1));
    assert_eq!(after(|place| change(place, &|bytes| *bytes.last_mut().expect("some") ^= 1)), (7, 1));
    assert_eq!(after(|place| change(place, &|bytes| bytes[8] = 9)), (7, 0));
    // One in place of another.
    let swap = |place: &Place| {
        let files = place.files();
        fs::copy(&files[0], &files[1]).expect("it can be copied");
    };
    assert_eq!(after(swap), (7, 1));
    // A name that is not ours stays.
    let foreign = |place: &Place| {
        fs::write(place.files()[0].with_extension("new"), b"half").expect("it can be written");
        fs::write(place.0.join("objects/README"), b"mine").expect("it can be written");
    };
    assert_eq!(after(foreign), (8, 0));
    let log = |place: &Place| place.0.join("purges");
    assert_eq!(after(|place| fs::remove_file(log(place)).expect("it is there")), (0, 0));
    assert_eq!(after(|place| fs::write(log(place), b"other").expect("it can be written")), (0, 0));
    let version = |place: &Place| {
        let mut bytes = fs::read(log(place)).expect("it is there");
        bytes[8] = 9;
        fs::write(log(place), bytes).expect("it can be written");
    };
    assert_eq!(after(version), (0, 0));
}

#[test]
fn what_was_purged_or_changed_does_not_come_back() {
    let place = Place::new();
    let judged = |store: &Store, tier: &Arc<DiskTier>, number: u64| {
        let found = found(tier, &format!("k{number}"), "").expect("it is there");
        (store.purges.judge(&found), store.epochs.has_changed(found.url, found.epoch))
    };
    {
        let store = store(1 << 30);
        let tier = start(&place, &store, 64 << 20);
        for number in 1..=5 {
            tier.keep(format!("k{number}").as_bytes(), &asked_now(&store, response(number, 1000, "")));
        }
        written(&tier, 5);
        let noted = purge(&store, Some(&tier), &[Purge::Tag(1)], Purged::Soft);
        assert_eq!(futures_executor(noted.expect("there is a disk")), Some(()));
        let noted = purge(&store, Some(&tier), &[Purge::Url(2)], Purged::Hard);
        assert_eq!(futures_executor(noted.expect("there is a disk")), Some(()));
        tier.note_change(3, store.epochs.change(3));
        // Written again after it was purged: good.
        purge(&store, Some(&tier), &[Purge::Tag(4)], Purged::Hard);
        tier.keep(b"k4", &asked_now(&store, response(4, 1000, "")));
        written(&tier, 5);
        end(tier);
    }
    for run in 2..4 {
        let store = store(run << 30);
        let tier = start(&place, &store, 64 << 20);
        let of = |number| judged(&store, &tier, number);
        assert_eq!(
            [of(1), of(2), of(3)],
            [(Some(Purged::Soft), false), (Some(Purged::Hard), false), (None, true)]
        );
        assert_eq!([of(4), of(5)], [(None, false), (None, false)]);
        end(tier);
    }
    // A log that was cut says nothing of what is missing: all that is older is asked about.
    let log = fs::read(place.0.join("purges")).expect("it is there");
    fs::write(place.0.join("purges"), &log[..log.len() - 1]).expect("it can be written");
    let store = store(9 << 30);
    let tier = start(&place, &store, 64 << 20);
    assert_eq!(judged(&store, &tier, 5).0, Some(Purged::Soft));
    end(tier);
}

#[test]
fn a_folder_that_a_reload_has_left_begins_with_nothing() {
    let place = Place::new();
    let tier = start(&place, &store(1), 64 << 20);
    tier.keep(b"k", &response(1, 1000, ""));
    written(&tier, 1);
    tier.release(Leaving::Forget);
    let next = start(&place, &store(2), 64 << 20);
    assert_eq!(next.index.objects(), 0);
    assert!(place.files().is_empty());
    end(next);
}

#[test]
fn two_processes_have_the_folder_one_after_the_other() {
    let place = Place::new();
    let tier = start(&place, &store(1), 64 << 20);
    tier.keep(b"k", &response(1, 300_000, ""));
    written(&tier, 1);
    let reading = found(&tier, "k", "").expect("it is there");
    let plan = DiskPlan { path: place.0.clone(), size: 64 << 20, min_object: 100 };
    let next = DiskTier::start(&plan, &store(2), 64 << 20);
    next.keep(b"l", &response(2, 1000, ""));
    assert!(!next.is_ready() && found(&next, "k", "").is_none());
    end(Arc::clone(&tier));
    wait("the next", || next.is_ready());
    assert!(found(&next, "k", "").is_some());
    // What the first is at goes on, even if the file goes meanwhile.
    next.remove(b"k", &reading);
    written(&next, 0);
    assert!(whole(&reading).expect("it is open") == body(1, 300_000));
    tier.keep(b"m", &response(3, 1000, ""));
    assert!(place.files().is_empty());
    end(next);
}

#[test]
fn there_are_never_more_bytes_on_the_disk_than_there_may_be() {
    let place = Place::new();
    let tier = start(&place, &store(1), 2 << 20);
    let mut size = 7_usize;
    let mut readers = std::collections::VecDeque::new();
    for number in 0..200_u64 {
        size = size.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tier.keep(&number.to_le_bytes(), &response(number, (size >> 40) % 400_000, ""));
        if number % 7 == 0 {
            readers.extend(found(&tier, "k", ""));
            tier.keep(b"k", &response(number, 300_000, ""));
        }
        if readers.len() > 2 {
            readers.pop_front();
        }
        assert!(tier.in_use().bytes <= 2 << 20 && place.bytes() <= 2 << 20, "{number}");
    }
    wait("the writes", || tier.threads.is_idle());
    assert!(tier.in_use().bytes > 1 << 20 && tier.in_use().evictions > 10, "{:?}", tier.in_use());
    drop(readers);
    let plan = DiskPlan { path: place.0.clone(), size: 1 << 20, min_object: 100 };
    tier.resize(&plan, 64 << 20);
    wait("the smaller size", || tier.in_use().bytes <= 1 << 20);
    end(tier);
    let tier = start(&place, &store(2), 1 << 20);
    assert!(tier.in_use().bytes <= 1 << 20 && tier.in_use().objects > 0);
    end(tier);
}

#[test]
fn a_head_that_its_server_has_renewed_is_there_after_a_restart() {
    let place = Place::new();
    {
        let tier = start(&place, &store(1), 64 << 20);
        tier.keep(b"k", &response(1, 300_000, ""));
        written(&tier, 1);
        let mut kept = Arc::into_inner(response(1, 300_000, "")).expect("nobody else has it");
        kept.terms.received = Moment(1000);
        kept.fields.insert("x-new", HeaderValue::from_static("1"));
        tier.renew(b"k", &Arc::new(kept));
        written(&tier, 1);
        end(tier);
    }
    let tier = start(&place, &store(2), 64 << 20);
    let kept = found(&tier, "k", "").expect("it is there");
    assert_eq!((kept.terms.received, kept.fields.contains_key("x-new")), (Moment(1000), true));
    assert!(whole(&kept).expect("whole") == body(1, 300_000));
    end(tier);
}

#[test]
fn a_disk_that_fails_is_in_use_no_more_and_says_so() {
    let place = Place::new();
    fs::write(&place.0, b"a file").expect("it can be written");
    let plan = DiskPlan { path: place.0.clone(), size: 2 << 20, min_object: 0 };
    let tier = DiskTier::start(&plan, &store(1), 64 << 20);
    wait("the failure", || tier.is_off());
    assert_eq!(tier.in_use().errors, [1, 0, 0, 0, 0]);
    tier.keep(b"k", &response(1, 1000, ""));
    assert!(found(&tier, "k", "").is_none());
    fs::remove_file(&place.0).expect("it can be removed");
    let tier = start(&place, &store(1), 2 << 20);
    // Each of its shelves is a file: no response can be written.
    (0..256)
        .for_each(|n| fs::write(place.0.join(format!("objects/{n:02x}")), b"").expect("it can be written"));
    tier.keep(b"k", &response(1, 1000, ""));
    wait("the failure", || tier.is_off());
    assert_eq!((tier.in_use().bytes < 8192, tier.in_use().objects, tier.in_use().is_up), (true, 0, false));
    end(tier);
}

#[test]
fn a_folder_that_somebody_removes_is_begun_anew_with_nothing() {
    type Named<T> = (&'static str, fn(&T));
    let harms: [Named<Place>; 3] = [
        ("removed", |place| fs::remove_dir_all(&place.0).expect("it can be removed")),
        ("emptied", |place| {
            fs::remove_dir_all(place.0.join("objects")).expect("it can be removed");
            fs::remove_file(place.0.join("lock")).expect("it can be removed");
            fs::remove_file(place.0.join("purges")).expect("it can be removed");
        }),
        ("moved", |place| {
            let elsewhere = place.0.with_extension("old");
            fs::rename(&place.0, &elsewhere).expect("it can be moved");
            fs::remove_dir_all(&elsewhere).expect("it can be removed");
        }),
    ];
    let finds: [Named<Arc<DiskTier>>; 4] = [
        ("read", |tier| assert!(found(tier, "k1", "").is_none())),
        ("write", |tier| tier.keep(b"k9", &response(9, 300_000, ""))),
        ("long write", |tier| {
            let one = Arc::into_inner(response(9, 600_000, "")).expect("nobody else has it");
            let head = StoredResponse { body: StoredBody::Memory(Arc::from([])), ..one };
            let mut writer = tier.begin(b"k9", head).expect("it is for the disk");
            let _ = writer.push(&body(9, 600_000));
            let _ = writer.finish(|| ());
        }),
        ("purge", |tier| {
            let purged = tier.store.purges.purge(Purge::Tag(77), Purged::Soft);
            drop(tier.note_purges([(Purge::Tag(77).into(), purged)].into_iter(), Purged::Soft));
        }),
    ];
    for (harmed, harm) in harms {
        for (by, find) in finds {
            let (place, store) = (Place::new(), store(1 << 30));
            let tier = start(&place, &store, 64 << 20);
            let without = tier.index.taken();
            for number in 1..=4 {
                tier.keep(format!("k{number}").as_bytes(), &response(number, 300_000, ""));
            }
            written(&tier, 4);
            let read = found(&tier, "k2", "").expect("it is there");
            harm(&place);
            find(&tier);
            let told = format!("{harmed}, found by a {by}");
            wait(&told, || tier.in_use().errors[DiskFault::Gone as usize] >= 1);
            // Who has found it out has had it begun then.
            wait(&told, || tier.threads.is_idle());
            wait(&told, || tier.is_ready());
            assert!((1..=4).all(|number| found(&tier, &format!("k{number}"), "").is_none()), "{told}");
            assert!(
                whole(&read).is_some_and(|bytes| bytes == body(2, 300_000)),
                "who reads it goes on: {told}"
            );
            drop(read);
            for number in 11..=14 {
                tier.keep(format!("k{number}").as_bytes(), &response(number, 300_000, ""));
            }
            wait(&told, || tier.threads.is_idle());
            let is_there = |tier: &Arc<DiskTier>, number| {
                let there = found(tier, &format!("k{number}"), "").and_then(|there| whole(&there));
                there.is_some_and(|bytes| bytes == body(number, 300_000))
            };
            assert!((11..=14).all(|number| is_there(&tier, number)), "{told}");
            let each = 303_104..=307_200;
            let taken = tier.index.taken() - without;
            assert!(taken >= 4 * each.start() && taken <= 5 * each.end() + 1000, "{taken}: {told}");
            end(tier);
            let next = start(&place, &super::tests::store(2 << 30), 64 << 20);
            assert!((11..=14).all(|number| is_there(&next, number)), "{told}");
            assert!((1..=4).all(|number| !is_there(&next, number)), "{told}");
            end(next);
        }
    }
}

#[test]
fn a_folder_that_cannot_be_made_anew_is_in_use_no_more() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    tier.keep(b"k", &response(1, 300_000, ""));
    written(&tier, 1);
    fs::remove_dir_all(&place.0).expect("it can be removed");
    fs::write(&place.0, b"a file").expect("it can be written");
    assert!(found(&tier, "k", "").is_none());
    wait("the failure", || tier.is_off());
    fs::remove_file(&place.0).expect("it can be removed");
}

#[test]
fn a_file_that_somebody_removes_is_counted_and_the_others_stay() {
    let (place, store) = (Place::new(), store(1 << 30));
    let tier = start(&place, &store, 64 << 20);
    for number in 1..=3 {
        tier.keep(format!("k{number}").as_bytes(), &response(number, 300_000, ""));
    }
    written(&tier, 3);
    fs::remove_file(&place.files()[0]).expect("it can be removed");
    let there = (1..=3).filter(|number| found(&tier, &format!("k{number}"), "").is_some()).count();
    written(&tier, 2);
    assert_eq!((there, tier.in_use().errors, tier.is_ready()), (2, [0, 0, 0, 0, 1], true));
    end(tier);
}

#[test]
fn a_write_that_panics_leaves_no_file() {
    use std::io::Write as _;
    let place = Place::new();
    let folder = folder::Folder::new(place.folder());
    folder.make().expect("a folder");
    let _lock = folder.lock().expect("its lock");
    let write = |panics: bool| {
        folder.write((1, 7), |file| {
            file.write_all(b"half")?;
            assert!(!panics, "a test's panic");
            Err(std::io::Error::other("a test's error"))
        })
    };
    for panics in [true, false] {
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| write(panics)));
        assert_eq!(written.is_err(), panics);
        assert!(place.files().is_empty(), "{panics}");
    }
}
