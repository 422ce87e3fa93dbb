use super::*;
use crate::cache::{Moment, Terms, Vary};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use std::sync::atomic::AtomicU64;

/// One that is for requests with this in a field.
fn response(selected: &str, body: usize) -> Arc<StoredResponse> {
    let name = HeaderName::from_static("foo");
    Arc::new(StoredResponse {
        status: StatusCode::OK,
        fields: HeaderMap::new(),
        body: StoredBody::Memory(Arc::from([Bytes::from(vec![b'x'; body])])),
        length: body as u64,
        coded: Arc::default(),
        terms: Terms { vary: Vary(vec![name]), ..Terms::for_tests(Moment(0), 60) },
        selected: selected.as_bytes().into(),
        epoch: 0,
        url: 0,
        place: "".into(),
        tags: Box::default(),
        purge_epoch: 0,
        unpurged_at: AtomicU64::new(0),
    })
}

/// One of so many MiB.
fn store(memory: u64, max_object: u64) -> Store {
    Store::new(StoreSize { memory: memory << 20, max_object: max_object << 20, has_disk: false }, 0)
}

/// One with this URL, these tags and this place, asked for after so many purges.
pub(super) fn tagged(url: u64, tags: &[u64], place: &str, purge_epoch: u64) -> StoredResponse {
    let one = Arc::into_inner(response("", 1)).expect("nobody else has it");
    let unpurged_at = AtomicU64::new(purge_epoch);
    StoredResponse { url, tags: tags.into(), place: place.into(), purge_epoch, unpurged_at, ..one }
}

fn found(store: &Store, key: &str, selected: &str) -> Option<u64> {
    let slot = store.find(key.as_bytes())?;
    slot.variant(&mut |_| selected.as_bytes().to_vec()).map(|variant| variant.length)
}

#[test]
fn each_variant_is_found_by_its_own_requests() {
    let store = store(8, 1);
    store.put(b"k", response("a", 1));
    store.put(b"k", response("b", 2));
    store.put(b"k", response("a", 3));
    let of = |selected| found(&store, "k", selected);
    assert_eq!([of("a"), of("b"), of("c"), found(&store, "l", "a")], [Some(3), Some(2), None, None]);
    let slot = store.find(b"k").expect("it is kept");
    let first = slot.variant(&mut |_| b"a".to_vec()).expect("it is there");
    store.remove(b"k", first);
    assert_eq!([of("a"), of("b")], [None, Some(2)]);
    assert_eq!(store.in_use().evictions, 0, "nothing had to go for want of room");
}

#[test]
fn what_was_kept_by_keys_that_are_told_of_too_late_is_asked_about_or_gone() {
    let key = |name: &str| KeyPlan { ignore_query: vec![name.to_owned()], ..KeyPlan::of_urls() };
    let told = |store: &Store, name| {
        store.url_keys.put_in_force(&[key("a")]);
        let again = store.recall_keys(vec![key(name)]).map(|purge| purge.purged);
        assert!(store.recall_keys(vec![key(name)]).is_none(), "they are known then");
        again
    };
    assert_eq!(told(&store(8, 1), "b"), None, "nothing was missed");
    let changed = store(8, 1);
    changed.epochs.change(7);
    assert_eq!(told(&changed, "a"), None, "those are known");
    assert_eq!(told(&changed, "b"), Some(Purged::Soft));
    for (purged, name) in [(Purged::Soft, "c"), (Purged::Hard, "d"), (Purged::Soft, "e")] {
        changed.purges.purge(Purge::Url(1), purged);
        let expected = if name == "c" { Purged::Soft } else { Purged::Hard };
        assert_eq!(told(&changed, name), Some(expected), "{name}");
    }
    let many = (0..1000).map(|n| key(&n.to_string())).collect();
    assert_eq!(store(8, 1).recall_keys(many).map(|purge| purge.purged), Some(Purged::Hard));
}

#[test]
fn beyond_32_variants_the_oldest_goes() {
    let store = store(8, 1);
    for n in 0..33 {
        store.put(b"k", response(&n.to_string(), n));
    }
    let of = |n: usize| found(&store, "k", &n.to_string());
    assert_eq!([of(0), of(1), of(32)], [None, Some(1), Some(32)]);
}

#[test]
fn the_memory_is_never_exceeded_whatever_comes() {
    let store = store(8, 1);
    let mut size = 7_usize;
    for n in 0..20_000_u32 {
        size = size.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = (size >> 40) % 100_000;
        assert_eq!(store.forbids(size as u64), None);
        store.put(n.to_string().as_bytes(), response("", size));
        assert!(store.in_use().bytes <= 8 << 20, "{n}: {:?}", store.in_use());
    }
    let StoreUse { bytes, objects, evictions, .. } = store.in_use();
    assert!(bytes > 5 << 20 && objects > 50 && evictions > 15_000, "{bytes} {objects} {evictions}");
    store.resize(StoreSize { memory: 4 << 20, max_object: 1 << 20, has_disk: false });
    assert!(store.in_use().bytes <= 4 << 20, "{:?}", store.in_use());
    use crate::cache::NotStored;
    let forbidden = [512 << 10, (512 << 10) + 1, 1 << 20, (1 << 20) + 1].map(|length| store.forbids(length));
    let for_memory = Some(NotStored::TooLargeForMemory);
    assert_eq!(forbidden, [None, for_memory, for_memory, Some(NotStored::TooLarge)]);
}

#[test]
fn what_is_on_its_way_has_its_own_room_and_gives_it_back() {
    use crate::cache::NotStored;
    let store = store(8, 1);
    let megabyte = vec![b'x'; 1 << 20];
    let mut one = store.writer(None);
    assert_eq!(one.push(&megabyte[1..]), Ok(()));
    assert_eq!(one.push(b"xx"), Err(NotStored::TooLarge));
    let mut other = store.writer(Some(3));
    assert_eq!(other.push(b"x"), Ok(()));
    assert_eq!(other.push(b"x"), Err(NotStored::NoRoom));
    assert_eq!(store.in_use().filling, 1 << 20);
    drop(one);
    assert_eq!(other.push(b"yz"), Ok(()));
    assert_eq!(other.length(), 3);
    assert_eq!(other.finish().concat(), b"xyz");
    assert_eq!(store.in_use().filling, 0);
}

#[test]
fn a_body_is_the_same_however_it_comes() {
    let store = store(64, 8);
    let whole: Vec<u8> = (0..3_000_001_u32).map(|n| n as u8).collect();
    for (length, step) in [(None, 1 << 14), (Some(3_000_001), 1 << 20), (None, 3 << 20), (Some(5), 100_003)] {
        let mut writer = store.writer(length);
        whole.chunks(step).for_each(|part| writer.push(part).expect("there is room"));
        let body = writer.finish();
        assert!(
            body.concat() == whole && body.len() == 3_000_001_usize.div_ceil(blocks::BLOCK),
            "{length:?} {step}: {}",
            body.len()
        );
    }
}

#[test]
fn those_who_wait_for_the_same_bytes_have_one_copy_of_them() {
    let store = Store::new(StoreSize { memory: 8 << 20, max_object: 1 << 20, has_disk: false }, 0);
    let mut writer = store.writer(Some(6));
    let source = writer.source();
    let mut waiting = [0, 0, 2, 0].map(|from| source.read(from));
    writer.push(b"abc").expect("there is room");
    let came = waiting.each_mut().map(|one| one.try_recv().expect("it goes on").expect("it has come"));
    assert_eq!(came.each_ref().map(|bytes| &bytes[..]), [&b"abc"[..], b"abc", b"c", b"abc"]);
    assert_eq!(came[0].as_ptr(), came[1].as_ptr());
}

mod accounting {
    use super::*;
    use crate::config::plan::compress::Encoding;
    use proptest::prelude::*;

    /// What is done to a store of few keys.
    #[derive(Clone, Debug)]
    enum Act {
        Put(u8, u8, u16),
        Remove(u8),
        /// Its server says that the first under a key still holds.
        Renew(u8),
        Recall(u8, u8, u16),
        /// The first under a key is compressed.
        Code(u8, Encoding, u16),
        /// The same of one that has gone meanwhile.
        CodeLate(u8),
        Mark(u8),
        Resize(bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = 0..12_u8;
        let encoding = prop_oneof![Just(Encoding::Gzip), Just(Encoding::Br), Just(Encoding::Zstd)];
        prop_oneof![
            6 => (key.clone(), 0..3_u8, any::<u16>()).prop_map(|(key, of, body)| Act::Put(key, of, body)),
            1 => key.clone().prop_map(Act::Remove),
            2 => key.clone().prop_map(Act::Renew),
            1 => (key.clone(), 0..3_u8, any::<u16>()).prop_map(|(key, of, body)| Act::Recall(key, of, body)),
            6 => (key.clone(), encoding, any::<u16>()).prop_map(|(key, as_, body)| Act::Code(key, as_, body)),
            1 => key.clone().prop_map(Act::CodeLate),
            1 => key.prop_map(Act::Mark),
            1 => any::<bool>().prop_map(Act::Resize),
        ]
    }

    fn body(length: u16) -> CodedBody {
        CodedBody { pieces: Arc::from([Bytes::from(vec![b'x'; length.into()])]), length: length.into() }
    }

    fn first(store: &Store, key: u8) -> Option<Arc<StoredResponse>> {
        store.peek(&[key])?.variants.first().map(Arc::clone)
    }

    fn small(is_smaller: bool) -> StoreSize {
        StoreSize { memory: if is_smaller { 1 << 19 } else { 1 << 20 }, max_object: 1 << 16, has_disk: false }
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_is_there(acts in prop::collection::vec(act(), 1..200)) {
            let store = Store::new(small(false), 0);
            let mut most = 1 << 20;
            for act in acts {
                match act {
                    Act::Put(key, of, body) => store.put(&[key], response(&of.to_string(), body.into())),
                    Act::Recall(key, of, body) => {
                        store.recall(&[key], response(&of.to_string(), body.into()), || false);
                    }
                    Act::Remove(key) => {
                        if let Some(one) = first(&store, key) {
                            store.remove(&[key], &one);
                            prop_assert!(!store.keep_coded(&[key], (&one.coded, Encoding::Br), body(9)));
                        }
                    }
                    Act::Renew(key) => {
                        if let Some(one) = first(&store, key) {
                            let fresh = response(std::str::from_utf8(&one.selected).expect("text"), 0);
                            let fresh = Arc::into_inner(fresh).expect("nobody else has it");
                            let (body, length) = (one.body.clone(), one.length);
                            let coded = Arc::clone(&one.coded);
                            store.renew(&[key], &one, Arc::new(StoredResponse { body, length, coded, ..fresh }));
                        }
                    }
                    Act::Code(key, encoding, length) => {
                        if let Some(one) = first(&store, key) {
                            prop_assert!(store.keep_coded(&[key], (&one.coded, encoding), body(length)));
                        }
                    }
                    Act::CodeLate(key) => {
                        let coded = Arc::default();
                        prop_assert!(!store.keep_coded(&[key], (&coded, Encoding::Gzip), body(9)));
                    }
                    Act::Mark(key) => store.mark(&[key], NotStored::NoStore, Moment(1)),
                    Act::Resize(is_smaller) => {
                        most = small(is_smaller).memory;
                        store.resize(small(is_smaller));
                    }
                }
                let mut there = 0;
                store.index.each(|key, slot| {
                    let variants: u64 = slot.variants.iter().map(|variant| variant.weight()).sum();
                    there += index::OWN + key.len() as u64 + variants;
                });
                prop_assert_eq!(store.in_use().bytes, there);
                prop_assert!(there <= most, "{} of {}", there, most);
            }
        }
    }

    #[test]
    fn a_compressed_form_goes_with_its_response_and_stays_when_that_is_renewed() {
        let store = Store::new(small(false), 0);
        store.put(b"k", response("a", 100));
        let one = store.peek(b"k").expect("it is kept").variants[0].clone();
        let plain = store.in_use().bytes;
        assert!(store.keep_coded(b"k", (&one.coded, Encoding::Br), body(40)));
        assert!(store.in_use().bytes > plain + 40);
        let fresh = Arc::into_inner(response("a", 100)).expect("nobody else has it");
        let renewed = Arc::new(StoredResponse { coded: Arc::clone(&one.coded), ..fresh });
        store.renew(b"k", &one, Arc::clone(&renewed));
        let there = store.peek(b"k").expect("it is kept").variants.clone();
        assert_eq!((there.len(), there[0].coded.body(Encoding::Br).map(|body| body.length)), (1, Some(40)));
        store.put(b"k", response("a", 100));
        assert_eq!(store.in_use().bytes, plain);
        store.put(b"k", Arc::clone(&renewed));
        store.remove(b"k", &renewed);
        assert_eq!((store.in_use().bytes, store.in_use().evictions), (0, 0));
    }
}
