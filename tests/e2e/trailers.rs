//! Trailers of requests and responses, whichever versions of HTTP meet: what passes, what does not, and what they must not have.

use crate::h2_exchange::by_hand;
use crate::support::balancer::{Balancer, plain};
use crate::support::h2::{self, Connection};
use std::io::Write;

/// A server of HTTP/2 that answers with these header blocks, and a body between the last two if there are more than one; the last ends
/// the stream.
fn answering(blocks: &[&[u8]]) -> std::net::SocketAddr {
    let blocks: Vec<_> = blocks.iter().map(|block| block.to_vec()).collect();
    by_hand(move |stream, id, _| {
        let (last, before) = blocks.split_last().expect("there is one");
        for (n, block) in before.iter().enumerate() {
            let _ = stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, id, block));
            if n + 1 == before.len() {
                let _ = stream.write_all(&h2::frame(h2::DATA, 0, id, b"body"));
            }
        }
        let flags = h2::END_HEADERS | h2::END_STREAM;
        let _ = stream.write_all(&h2::frame(h2::HEADERS, flags, id, last));
    })
}

/// The code of the reset that a stream of the connection ends with, if it does.
fn reset_of(client: &mut Connection) -> Option<u32> {
    loop {
        let frame = client.next().expect("the connection goes on");
        match frame.kind {
            h2::RST_STREAM => {
                return Some(u32::from_be_bytes(frame.payload[..].try_into().expect("a code")));
            }
            _ if frame.ends_stream() => return None,
            _ => {}
        }
    }
}

#[test]
fn a_responses_trailers_have_no_pseudo_fields() {
    const INTERNAL_ERROR: u32 = 2;
    for (blocks, is_malformed) in [
        (&[&b"\x88"[..], b"\x88"][..], true),
        (&[b"\x88", b"\x00\x07:status\x03200"], true),
        (&[b"\x88", b"\x82"], true),
        (&[b"\x88", b"\x00\x0aconnection\x05close"], true),
        // By its place in the table of the connection.
        (&[b"\x48\x03201", b"\xbe"], true),
        (&[b"\x48\x03103", b"\x88\x40\x01x\x011", b"\xbf"], true),
        (&[b"\x48\x03103", b"\x88\x40\x01x\x011", b"\xbe"], false),
        (&[b"\x88", b""], false),
        (&[b"\x88", b"\x00\x05x-sum\x011"], false),
    ] {
        let balancer = Balancer::start(&plain(&[answering(blocks)], "", "protocol: h2"));
        let mut client = Connection::new(balancer.address("web"));
        client.request(1, "GET", "/h2", true);
        let expected = is_malformed.then_some(INTERNAL_ERROR);
        assert_eq!(reset_of(&mut client), expected, "{blocks:02x?}");
        let mut h1 = balancer.client();
        h1.send("GET /h1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let (said, _) = h1.read_to_end();
        assert_eq!(said.ends_with("\r\n0\r\n\r\n"), !is_malformed, "{blocks:02x?}: {said}");
        for path in ["/h1", "/h2"] {
            let record = balancer.record(path);
            let told = if is_malformed { "server_malformed" } else { "ok" };
            assert_eq!(record["why"], told, "{blocks:02x?} {path}");
        }
    }
}

#[test]
fn a_responses_head_has_no_pseudo_field_of_a_request() {
    for (blocks, is_malformed) in [
        (&[&b"\x88\x84"[..]][..], true),
        (&[b"\x88\x04\x02/a", b""], true),
        (&[b"\x48\x03103\x82", b"\x88", b""], true),
        (&[b"\x48\x03103", b"\x88\x82", b""], true),
        (&[b"\x48\x03103", b"\x88", b""], false),
        // A call that has failed is answered by a head alone.
        (&[b"\x88\x00\x0bgrpc-status\x0212"], false),
    ] {
        let retries = "protocol: h2, retries: { max: 0 }";
        let balancer = Balancer::start(&plain(&[answering(blocks)], "", retries));
        let mut client = Connection::new(balancer.address("web"));
        let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a")];
        client.fields(1, &fields, true);
        let _ = reset_of(&mut client);
        let record = balancer.record("/a");
        let expected = if is_malformed { (502, "server_malformed") } else { (200, "ok") };
        assert_eq!(
            (record["status"].as_u64(), &record["why"]),
            (Some(expected.0), &expected.1.into()),
            "{blocks:02x?}"
        );
    }
}
