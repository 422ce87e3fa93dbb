//! Finds or opens a connection to the leased server, and begins an exchange on it.

use super::{Attempt, Relay};
use crate::access_log::Why;
use crate::config::plan::ServerProtocol;
use crate::edge::{Addresses, Socket};
use crate::filter::{self, RequestFacts};
use crate::origination::Origination;
use crate::proxy_header::{self, ProxyHeader};
use crate::serve::client::ClientSide;
use crate::serve::dial::dial;
use crate::serve::exchange::Leased;
use crate::serve::server::{Failure, Http1, Http2, Sending, ServerSide};
use crate::serve::{keepalive, kept, own_host, peer, shared};
use crate::wire::edit::FieldName;
use crate::wire::request::{self, RequestBody};
use http::{Method, Request, header};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tracing::debug;

static CONNECTION: FieldName = FieldName::new(header::CONNECTION, "Connection");
static UPGRADE: FieldName = FieldName::new(header::UPGRADE, "Upgrade");

/// Which protocols a connection may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Http1,
    Http2,
    /// As the server chooses.
    Either,
}

/// What a connection is made for.
struct Purpose {
    wanted: Wanted,
    key: kept::KeptKey,
    keepalive: Duration,
    origination: Option<Arc<Origination>>,
    /// The PROXY header to begin with: it holds for the whole connection, which therefore serves one client and one request.
    introduction: Option<Vec<u8>>,
}

impl<C: ClientSide> Relay<'_, C> {
    /// Begins an exchange with the leased server.
    pub(super) async fn connect(&mut self, leased: &Leased) -> Result<Attempt, Why> {
        let purpose = self.purpose(leased);
        if purpose.wanted == Wanted::Http1 {
            let (socket, is_reused) = match self.take_kept(&purpose) {
                Some(socket) => (socket, true),
                // In a box, as what else is rare: a request's memory is then a tenth.
                None => (Box::pin(self.reach(leased, &purpose)).await?, false),
            };
            return Ok(Attempt { side: self.begin_http1(socket, leased, &purpose), is_reused });
        }
        // In a box: most requests need no room for it.
        Box::pin(self.connect_shared(leased, &purpose)).await
    }

    /// The same for a connection that may be shared.
    async fn connect_shared(&mut self, leased: &Leased, purpose: &Purpose) -> Result<Attempt, Why> {
        let opening = match self.take(leased, purpose).await? {
            Taken::Begun(side) => return Ok(Attempt { side, is_reused: true }),
            Taken::Open(opening) => opening,
        };
        let socket = self.reach(leased, purpose).await?;
        let is_h2 = match purpose.wanted {
            Wanted::Http1 => false,
            Wanted::Http2 if purpose.origination.is_some() && !socket.speaks_h2() => {
                self.exchange.detail = Some("does not agree on h2 (ALPN)");
                return Err(Why::ServerTls);
            }
            Wanted::Http2 => true,
            Wanted::Either => socket.speaks_h2(),
        };
        if purpose.wanted == Wanted::Either {
            leased.server.prefers_http1.store(!is_h2, Relaxed);
        }
        let side = if is_h2 {
            let permit = shared::open(socket, purpose.key, purpose.keepalive, opening).await;
            let permit = permit.map_err(|_| Why::ConnectFailed)?;
            self.begin_http2(permit, leased, purpose)?
        } else {
            self.begin_http1(socket, leased, purpose)
        };
        Ok(Attempt { side, is_reused: false })
    }

    fn purpose(&self, leased: &Leased) -> Purpose {
        let Leased { pool, server } = leased;
        let introduction = pool.plan.proxy_protocol.map(|version| {
            let Addresses { source, destination } = self.addresses;
            proxy_header::write(version, ProxyHeader::client(source, destination))
        });
        let origination = pool.origination.load_full();
        Purpose {
            wanted: match pool.plan.protocol {
                ServerProtocol::H2 => Wanted::Http2,
                // Without TLS there is nothing to agree by; and upgrades are for HTTP/1.1, which is offered alone then.
                ServerProtocol::Auto if origination.is_some() && self.upgrade.is_none() => Wanted::Either,
                ServerProtocol::Auto | ServerProtocol::Http1 => Wanted::Http1,
            },
            key: (server.id(), origination.as_ref().map_or(0, |origination| origination.id)),
            keepalive: keepalive(&pool.plan.timeouts, server),
            origination,
            introduction,
        }
    }

    fn take_kept(&self, purpose: &Purpose) -> Option<Socket> {
        let may_be_kept = purpose.introduction.is_none() && !self.exchange.wants_new_connection();
        may_be_kept.then(|| kept::take(purpose.key)).flatten()
    }

    /// Begins on a connection that is there, or finds out that one is to be opened.
    async fn take(&mut self, leased: &Leased, purpose: &Purpose) -> Result<Taken, Why> {
        loop {
            while let Some(mut permit) = shared::take(purpose.key, purpose.keepalive) {
                if self.state.watch.heed(permit.is_ready()).await? {
                    match self.begin_http2(permit, leased, purpose) {
                        // It was told to go at this moment, and is retired.
                        Err(Why::ServerReset) => continue,
                        begun => return begun.map(Taken::Begun),
                    }
                }
            }
            if purpose.wanted != Wanted::Http2
                && let Some(socket) = self.take_kept(purpose)
            {
                return Ok(Taken::Begun(self.begin_http1(socket, leased, purpose)));
            }
            let may_be_shared = match purpose.wanted {
                Wanted::Http1 => false,
                Wanted::Http2 => true,
                // As it was the last time.
                Wanted::Either => !leased.server.prefers_http1.load(Relaxed),
            };
            if !may_be_shared {
                return Ok(Taken::Open(None));
            }
            match shared::opener(purpose.key) {
                shared::Opener::ThisRequest(opening) => return Ok(Taken::Open(Some(opening))),
                shared::Opener::Another(opening) => {
                    if !self.state.watch.heed(shared::is_opened(opening)).await? {
                        return Ok(Taken::Open(None));
                    }
                }
            }
        }
    }

    /// Opens a connection.
    async fn reach(&mut self, leased: &Leased, purpose: &Purpose) -> Result<Socket, Why> {
        let Leased { pool, server } = leased;
        let secured = purpose.origination.as_ref().map(|origination| {
            let config = match purpose.wanted {
                Wanted::Http1 => &origination.http,
                Wanted::Http2 => &origination.h2,
                Wanted::Either => &origination.auto,
            };
            (Arc::clone(config), origination.server_name(server.address(), server.host().map(|host| &**host)))
        });
        let limit = pool.plan.timeouts.connect;
        let reaching =
            dial(&self.exchange.live, server.address(), limit, purpose.introduction.as_deref(), secured);
        let socket = self.state.watch.heed(reaching).await?.map_err(|error| {
            debug!(pool = %server.pool(), server = %server.name(), %error, "cannot connect");
            self.exchange.detail = error.detail();
            error.why()
        })?;
        self.exchange.connected();
        Ok(socket)
    }

    fn begin_http1(&self, socket: Socket, leased: &Leased, purpose: &Purpose) -> ServerSide {
        let is_last = purpose.introduction.is_some();
        let sending = Sending {
            is_head_request: *self.request.method == Method::HEAD,
            rechunks: match self.request.body {
                RequestBody::Framed => true,
                RequestBody::Chunked => !self.keeps_chunks,
                RequestBody::Empty | RequestBody::Length(_) => false,
            },
            upgrade: self.upgrade.clone(),
            is_last,
        };
        let head = self.http1_head(leased, is_last);
        ServerSide::Http1(Box::new(Http1::new(socket, purpose.key, sending, head)))
    }

    /// The head that the leased server gets, as filters have it.
    fn http1_head(&self, leased: &Leased, is_last: bool) -> Vec<u8> {
        let mut edits = filter::request(&self.request, &self.facts());
        if let Some(upgrade) = self.upgrade.as_deref() {
            edits.add(&CONNECTION, "Upgrade");
            edits.add(&UPGRADE, upgrade);
        } else if is_last {
            edits.add(&CONNECTION, "close");
        }
        let mut head = Vec::with_capacity(1024);
        request::write_http1(&self.request, &edits, &self.own_host(leased), &mut head);
        head
    }

    fn begin_http2(
        &mut self,
        permit: shared::StreamPermit,
        leased: &Leased,
        purpose: &Purpose,
    ) -> Result<ServerSide, Why> {
        let begun = self
            .http2_head(leased, purpose.origination.is_some())
            .ok_or(Failure::malformed("a head that HTTP/2 has no form for"))
            .and_then(|head| Http2::new(permit, head, self.client.has_body()));
        let server = begun.map_err(|failure| {
            self.exchange.detail = failure.detail;
            failure.why
        })?;
        Ok(ServerSide::Http2(Box::new(server)))
    }

    /// The same in HTTP/2's form.
    fn http2_head(&self, leased: &Leased, is_secured: bool) -> Option<Request<()>> {
        let edits = filter::request(&self.request, &self.facts());
        request::http2(&self.request, &edits, &self.own_host(leased), is_secured)
    }

    /// What filters know of the request beside its head.
    fn facts(&self) -> RequestFacts<'_> {
        let trusted = self.exchange.listener.as_ref().map(|listener| &*listener.plan.trusted_proxies);
        RequestFacts {
            peer: peer(&self.state.client),
            trusted_proxies: trusted.unwrap_or_default(),
            request_id: self.exchange.request_id.as_deref().unwrap_or_default(),
        }
    }

    /// The host of a request that names none, at the leased server.
    fn own_host(&self, leased: &Leased) -> String {
        match self.request.host {
            None => own_host(&leased.pool.plan, &leased.server),
            Some(_) => String::new(),
        }
    }
}

enum Taken {
    /// The exchange has begun.
    Begun(ServerSide),
    /// A connection is to be opened; others may be waiting for it.
    Open(Option<shared::Opening>),
}
