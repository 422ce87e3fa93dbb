//! PROXY headers on the connections of HTTP pools.
//!
//! A header holds for its whole connection, so such a connection serves one client: none is kept and shared.

use crate::config::plan::ProxyVersion;
use crate::edge::Secured;
use crate::probe::{Dial, Steps};
use crate::proxy_header::{self, About};
use http::header;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Above all servers' ids, which are the keys of connections that are shared.
static NEXT_OF_ITS_OWN: AtomicU64 = AtomicU64::new(1 << 63);

/// Has a new connection opened, and begun with a header that tells of the client's.
pub(super) fn introduce(
    peer: &mut HttpPeer,
    version: ProxyVersion,
    client: Option<&SocketAddr>,
    listener: Option<&SocketAddr>,
    secured: Option<Secured>,
) {
    let [source, destination] = [client, listener].map(|address| address?.as_inet().copied());
    let introduction = proxy_header::write(version, About::client(source, destination));
    peer.group_key = NEXT_OF_ITS_OWN.fetch_add(1, Relaxed);
    peer.options.custom_l4 = Some(Arc::new(Dial { introduction, secured, steps: Steps::default() }));
    peer.options.idle_timeout = Some(Duration::ZERO);
}

/// Tells the server that nothing follows this request on its connection: `head` ends with its empty line.
pub(super) fn end_after_this(head: &mut Vec<u8>) {
    head.truncate(head.len() - 2);
    head.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// The same for the engine. An upgrade says so by itself.
pub(super) fn tell_engine_to_end(request: &mut RequestHeader) -> Result<()> {
    match request.headers.contains_key(header::UPGRADE) {
        true => Ok(()),
        false => request.insert_header(header::CONNECTION, "close"),
    }
}
