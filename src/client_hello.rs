//! The first message of TLS: which name a client asks for and which protocols it offers, read without ending TLS.
//!
//! RFC 8446 sections 5.1 (records) and 4.1.2 (the message), RFC 6066 section 3 (the name), RFC 7301 section 3.1
//! (protocols). Ours, because all that is wanted of a TLS library here are two of its extensions.

use std::borrow::Cow;

/// A longer hello is refused. Those of browsers have 0.5 to 2 KiB; post-quantum keys add about one more.
pub const LONGEST: usize = 16 * 1024;

/// More pieces than any client cuts its hello into, and few enough to be put together at each read.
const MOST_RECORDS: usize = 1024;

const RECORD_HEADER: usize = 5;
/// RFC 8446 section 5.1: a record's content.
const LONGEST_RECORD: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloVerdict {
    /// More bytes are needed.
    Partial,
    Complete(Hello),
    /// Not a hello, or not one that can be read; the text says why.
    Refused(&'static str),
}

/// What of a hello decides where its connection goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// As the client wrote it.
    pub name: Option<String>,
    /// The protocols it offers, in its order, like `h2`.
    pub alpn: Vec<Vec<u8>>,
}

/// Judges the bytes that a connection begins with.
pub fn parse(bytes: &[u8]) -> HelloVerdict {
    match read(bytes) {
        Ok(Some(hello)) => HelloVerdict::Complete(hello),
        Ok(None) => HelloVerdict::Partial,
        Err(detail) => HelloVerdict::Refused(detail),
    }
}

/// `None` while bytes are missing.
fn read(bytes: &[u8]) -> Result<Option<Hello>, &'static str> {
    match message(bytes)? {
        Some(message) => {
            extensions(&message).ok_or("malformed ClientHello").and_then(of_extensions).map(Some)
        }
        None => Ok(None),
    }
}

/// The message's body, put together from its records.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, &'static str> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut gathered = 0;
    let mut wanted = None;
    let mut rest = bytes;
    loop {
        // As much of the record's header as is here must be one's.
        let fits = |at: usize, fits: fn(u8) -> bool| rest.get(at).is_none_or(|byte| fits(*byte));
        if !fits(0, |byte| byte == HANDSHAKE) || !fits(1, |byte| byte == 3) || !fits(2, |byte| byte <= 4) {
            return Err("not TLS");
        }
        let Some((&[_, _, _, high, low], after)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > LONGEST_RECORD {
            return Err("not TLS");
        }
        let part = &after[..length.min(after.len())];
        if wanted.is_none() && gathered == 0 && part.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err("TLS, but no ClientHello");
        }
        if parts.len() == MOST_RECORDS {
            return Err("ClientHello in more than 1024 records");
        }
        parts.push(part);
        gathered += part.len();
        if wanted.is_none() && gathered >= 4 {
            let mut head = parts.iter().flat_map(|part| part.iter()).skip(1);
            let mut byte = || usize::from(head.next().copied().unwrap_or_default());
            let length = byte() << 16 | byte() << 8 | byte();
            if 4 + length > LONGEST {
                return Err("ClientHello longer than 16 KiB");
            }
            wanted = Some(4 + length);
        }
        if after.len() < length {
            // Even if the message is whole: its server would go on waiting for the record's end, and has no deadline
            // of ours.
            return Ok(None);
        }
        if let Some(wanted) = wanted.filter(|wanted| gathered >= *wanted) {
            return Ok(Some(match parts[..] {
                [only] => Cow::Borrowed(&only[4..wanted]),
                _ => {
                    let whole = parts.into_iter().flatten().copied();
                    Cow::Owned(whole.take(wanted).skip(4).collect())
                }
            }));
        }
        rest = &after[length..];
    }
}

/// The extensions of a hello; there are none in the oldest ones.
fn extensions(message: &[u8]) -> Option<&[u8]> {
    // Version and random.
    let mut rest = message.get(2 + 32..)?;
    let _session = short(&mut rest)?;
    let _ciphers = long(&mut rest)?;
    let _compression = short(&mut rest)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let extensions = long(&mut rest)?;
    rest.is_empty().then_some(extensions)
}

fn of_extensions(mut rest: &[u8]) -> Result<Hello, &'static str> {
    let mut hello = Hello::default();
    let (mut has_name, mut has_alpn) = (false, false);
    while !rest.is_empty() {
        let malformed = "malformed ClientHello";
        let (kind, after) = rest.split_first_chunk::<2>().ok_or(malformed)?;
        rest = after;
        let value = long(&mut rest).ok_or(malformed)?;
        match u16::from_be_bytes(*kind) {
            // RFC 8446 section 4.2: no two of a type. Two names would be read one way here and another there.
            SERVER_NAME if std::mem::replace(&mut has_name, true) => return Err(malformed),
            ALPN if std::mem::replace(&mut has_alpn, true) => return Err(malformed),
            SERVER_NAME => {
                hello.name = server_name(value).ok_or("malformed server name in the ClientHello")?
            }
            ALPN => hello.alpn = protocols(value).ok_or(malformed)?,
            _ => {}
        }
    }
    Ok(hello)
}

/// The host name of a list of names.
#[expect(clippy::option_option, reason = "malformed, or without a host name")]
fn server_name(mut value: &[u8]) -> Option<Option<String>> {
    let mut list = long(&mut value)?;
    if !value.is_empty() || list.is_empty() {
        return None;
    }
    let mut found = None;
    while let Some((kind, after)) = list.split_first() {
        list = after;
        let name = long(&mut list)?;
        // 0 is the only kind that there ever was.
        if *kind == 0 {
            let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
            let is_name = !name.is_empty() && name.len() <= 255 && name.iter().all(fits);
            if !is_name || found.is_some() {
                return None;
            }
            found = String::from_utf8(name.to_vec()).ok();
        }
    }
    Some(found)
}

fn protocols(mut value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = long(&mut value)?;
    if !value.is_empty() || list.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        protocols.push(short(&mut list).filter(|protocol| !protocol.is_empty())?.to_vec());
    }
    Some(protocols)
}

/// Takes what one byte of length announces.
fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first()?;
    let (value, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some(value)
}

/// Takes what two bytes of length announce.
fn long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (value, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = after;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &with_length(value)].concat()
    }

    fn name(name: &str) -> Vec<u8> {
        extension(SERVER_NAME, &with_length(&[&[0][..], &with_length(name.as_bytes())].concat()))
    }

    fn alpn(protocols: &[&str]) -> Vec<u8> {
        let one = |protocol: &&str| [&[protocol.len() as u8][..], protocol.as_bytes()].concat();
        extension(ALPN, &with_length(&protocols.iter().flat_map(one).collect::<Vec<_>>()))
    }

    /// The handshake message with these extensions.
    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(with_length(&extensions.concat()));
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[CLIENT_HELLO][..], &length[1..], &body].concat()
    }

    /// Records of this much content each.
    fn records(message: &[u8], of: usize) -> Vec<u8> {
        message.chunks(of).flat_map(|part| [&[HANDSHAKE, 3, 1][..], &with_length(part)].concat()).collect()
    }

    fn complete(name: Option<&str>, alpn: &[&str]) -> HelloVerdict {
        HelloVerdict::Complete(Hello {
            name: name.map(str::to_owned),
            alpn: alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
        })
    }

    #[test]
    fn name_and_protocols_are_read_however_the_hello_is_cut_up() {
        let other = extension(43, &[2, 3, 4]);
        let message = hello(&[other, name("shop.example"), alpn(&["h2", "http/1.1"])]);
        let expected = complete(Some("shop.example"), &["h2", "http/1.1"]);
        for of in [1, 2, 3, 4, 5, 50, 16_384] {
            let bytes = records(&message, of);
            for n in 0..bytes.len() {
                assert_eq!(parse(&bytes[..n]), HelloVerdict::Partial, "{n} bytes in records of {of}");
            }
            assert_eq!(parse(&bytes), expected, "records of {of}");
            assert_eq!(parse(&[&bytes[..], b"early data"].concat()), expected);
        }
        let longer = records(&[&message[..], b"\x01another"].concat(), 16_384);
        assert_eq!(parse(&longer), expected);
        assert_eq!(parse(&longer[..longer.len() - 1]), HelloVerdict::Partial, "the record is not whole");
    }

    #[test]
    fn a_hello_without_a_name_is_a_hello() {
        let none: &[Vec<u8>] = &[];
        for extensions in [none, &[alpn(&["h2"])], &[extension(43, b"")]] {
            let HelloVerdict::Complete(Hello { name: None, .. }) =
                parse(&records(&hello(extensions), 16_384))
            else {
                panic!("{extensions:?}")
            };
        }
        let mut without_extensions = hello(&[]);
        without_extensions.truncate(without_extensions.len() - 2);
        without_extensions[3] -= 2;
        assert_eq!(parse(&records(&without_extensions, 16_384)), complete(None, &[]));
    }

    #[test]
    fn what_is_no_hello_is_refused_as_soon_as_it_shows() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"S",
            b"\x16\x02",
            b"\x16\x03\x05",
            b"\x16\x03\x01\0\0",
            b"\x80\x2e\x01",
        ] {
            assert_eq!(parse(bytes), HelloVerdict::Refused("not TLS"), "{bytes:?}");
        }
        assert_eq!(
            parse(b"\x16\x03\x01\x40\x01"),
            HelloVerdict::Refused("not TLS"),
            "a record of more than 2^14"
        );
        assert_eq!(parse(b"\x16\x03\x01\0\x05\x02"), HelloVerdict::Refused("TLS, but no ClientHello"));
        let long = HelloVerdict::Refused("ClientHello longer than 16 KiB");
        assert_eq!(parse(b"\x16\x03\x01\x40\0\x01\0\x3f\xfd"), long);
        let longest = hello(&[extension(21, &[0; 16_000])]);
        let pieces = HelloVerdict::Refused("ClientHello in more than 1024 records");
        assert_eq!(parse(&records(&longest, 1)), pieces);
        assert!(matches!(parse(&records(&longest, 16_384)), HelloVerdict::Complete(_)));
    }

    #[test]
    fn malformed_hellos_are_refused() {
        let list = |items: &[u8]| extension(SERVER_NAME, &with_length(items));
        for (what, extensions) in [
            ("no list", vec![extension(SERVER_NAME, b"")]),
            ("an empty list", vec![list(b"")]),
            ("an empty name", vec![name("")]),
            ("a space", vec![name("shop example")]),
            ("a zero byte", vec![name("shop\0example")]),
            ("not ASCII", vec![name("shöp")]),
            ("a long one", vec![name(&"x".repeat(256))]),
            ("a name beyond its list", vec![list(b"\0\0\x09shop")]),
            ("two names", vec![list(b"\0\0\x01a\0\0\x01b")]),
            ("two extensions", vec![name("a"), name("b")]),
            ("no protocols", vec![alpn(&[])]),
            ("an empty protocol", vec![alpn(&["h2", ""])]),
            ("protocols twice", vec![alpn(&["h2"]), alpn(&["h2"])]),
            ("half an extension", vec![vec![0]]),
            ("an extension beyond the end", vec![vec![0, 43, 0, 9, 1]]),
        ] {
            assert!(
                matches!(parse(&records(&hello(&extensions), 16_384)), HelloVerdict::Refused(_)),
                "{what}"
            );
        }
        let mut more = hello(&[]);
        more.push(0);
        more[3] += 1;
        assert!(
            matches!(parse(&records(&more, 16_384)), HelloVerdict::Refused(_)),
            "bytes after the extensions"
        );
    }

    proptest! {
        /// Any damage to a hello, and any bytes at all.
        #[test]
        fn no_bytes_bring_it_down(
            of in 1usize..400,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = records(&hello(&[name("shop.example"), alpn(&["h2"])]), of);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            if let HelloVerdict::Complete(hello) = parse(&bytes) {
                prop_assert!(hello.name.is_none_or(|name| !name.is_empty()));
                bytes.extend(&noise);
                prop_assert!(matches!(parse(&bytes), HelloVerdict::Complete(_)), "what follows changes it");
            }
            let _ = parse(&noise);
            let _ = parse(&[b"\x16\x03\x01\x01\0\x01\0\0", &noise[..]].concat());
        }
    }
}
