//! Finds or opens a connection to the leased server, and begins an exchange on it.

use super::{Relay, ServerExchange};
use crate::access_log::Why;
use crate::config::plan::ServerProtocol;
use crate::edge::{Addresses, Socket};
use crate::filter::{self, RequestFacts};
use crate::networks::Networks;
use crate::origination::Origination;
use crate::policy::{AppliedPolicy, Rewritten};
use crate::proxy_header::{self, ProxyHeader};
use crate::serve::client::ClientSide;
use crate::serve::dial::{ServerLimit, dial};
use crate::serve::exchange::LeasedServer;
use crate::serve::server::{Http1, Http2, RequestTerms, ServerSide};
use crate::serve::{keepalive, kept, own_host, peer, shared};
use crate::wire::edit::FieldName;
use crate::wire::request::{self, NoHttp2Form, RequestBody, RequestView};
use http::{Method, Request, header};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
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
struct ConnectionSpec {
    wanted: Wanted,
    /// Its server was not asked what it would choose, for HTTP/2 has no upgrades.
    is_for_upgrade: bool,
    key: kept::ConnectionKey,
    keepalive: Duration,
    origination: Option<Arc<Origination>>,
    /// The PROXY header to begin with: it holds for the whole connection, which therefore serves one client and one request.
    proxy_header: Option<Vec<u8>>,
}

impl<C: ClientSide> Relay<'_, C> {
    /// Begins an exchange with the leased server.
    pub(super) async fn connect(&mut self, leased: &LeasedServer) -> Result<ServerExchange, Why> {
        let spec = self.spec(leased);
        if spec.wanted == Wanted::Http1 {
            let (socket, is_reused) = match self.take_kept(&spec) {
                Some(socket) => (socket, true),
                // In a box, as what else is rare: a request's memory is then a tenth.
                None => (Box::pin(self.reach(leased, &spec)).await?, false),
            };
            return Ok(ServerExchange { side: self.begin_http1(socket, leased, &spec), is_reused });
        }
        // In a box: most requests need no room for it.
        Box::pin(self.connect_shared(leased, &spec)).await
    }

    /// The same for a connection that may be shared.
    async fn connect_shared(
        &mut self,
        leased: &LeasedServer,
        spec: &ConnectionSpec,
    ) -> Result<ServerExchange, Why> {
        let opening = match self.acquire(leased, spec).await? {
            Acquired::Begun(side) => return Ok(ServerExchange { side, is_reused: true }),
            Acquired::Open(opening) => opening,
        };
        let socket = self.reach(leased, spec).await?;
        let is_h2 = match spec.wanted {
            Wanted::Http1 => false,
            Wanted::Http2 if spec.origination.is_some() && !socket.speaks_h2() => {
                self.exchange.detail = Some("does not agree on h2 (ALPN)");
                return Err(Why::ServerTls);
            }
            Wanted::Http2 => true,
            Wanted::Either => socket.speaks_h2(),
        };
        if spec.wanted == Wanted::Either {
            leased.server.prefers_http1.store(!is_h2, Relaxed);
        }
        let side = if is_h2 {
            let permit = shared::open(socket, (spec.key, &leased.server), spec.keepalive, opening).await;
            let permit = permit.map_err(|_| Why::ConnectFailed)?;
            self.begin_http2(permit, leased, spec)?
        } else {
            self.begin_http1(socket, leased, spec)
        };
        Ok(ServerExchange { side, is_reused: false })
    }

    fn spec(&self, leased: &LeasedServer) -> ConnectionSpec {
        let LeasedServer { pool, server } = leased;
        let proxy_header = pool.plan.proxy_protocol.map(|version| {
            let Addresses { source, destination } = self.addresses;
            proxy_header::write(version, ProxyHeader::client(source, destination))
        });
        let origination = pool.origination.load_full();
        let may_choose = pool.plan.protocol == ServerProtocol::Auto && origination.is_some();
        // Upgrades are for HTTP/1.1, which is offered alone then, unless that was in vain.
        let is_for_upgrade =
            may_choose && self.upgrade.is_some() && !server.speaks_http2_alone(Instant::now());
        ConnectionSpec {
            is_for_upgrade,
            wanted: match pool.plan.protocol {
                ServerProtocol::H2 => Wanted::Http2,
                // Without TLS there is nothing to agree by.
                ServerProtocol::Auto if may_choose && !is_for_upgrade => Wanted::Either,
                ServerProtocol::Auto | ServerProtocol::Http1 => Wanted::Http1,
            },
            key: (server.id(), origination.as_ref().map_or(0, |origination| origination.id)),
            keepalive: keepalive(&pool.plan.timeouts, server),
            origination,
            proxy_header,
        }
    }

    fn take_kept(&self, spec: &ConnectionSpec) -> Option<Socket> {
        let may_be_kept = spec.proxy_header.is_none() && !self.exchange.wants_new_connection();
        may_be_kept.then(|| kept::take(spec.key)).flatten()
    }

    /// Begins on a connection that is there, or finds out that one is to be opened.
    async fn acquire(&mut self, leased: &LeasedServer, spec: &ConnectionSpec) -> Result<Acquired, Why> {
        loop {
            while let Some(mut permit) = shared::take(spec.key, spec.keepalive) {
                if self.state.watch.heed(permit.is_ready()).await? {
                    match self.begin_http2(permit, leased, spec) {
                        // It was told to go at this moment, and is retired.
                        Err(Why::ServerReset) => continue,
                        begun => return begun.map(Acquired::Begun),
                    }
                }
            }
            if spec.wanted != Wanted::Http2
                && let Some(socket) = self.take_kept(spec)
            {
                return Ok(Acquired::Begun(self.begin_http1(socket, leased, spec)));
            }
            let may_be_shared = match spec.wanted {
                Wanted::Http1 => false,
                Wanted::Http2 => true,
                // As it was the last time.
                Wanted::Either => !leased.server.prefers_http1.load(Relaxed),
            };
            if !may_be_shared {
                return Ok(Acquired::Open(None));
            }
            match shared::opener(spec.key) {
                shared::Opener::ThisRequest(opening) => return Ok(Acquired::Open(Some(opening))),
                shared::Opener::Another(opening) => {
                    if !self.state.watch.heed(shared::is_opened(opening)).await? {
                        return Ok(Acquired::Open(None));
                    }
                }
            }
        }
    }

    /// Opens a connection.
    async fn reach(&mut self, leased: &LeasedServer, spec: &ConnectionSpec) -> Result<Socket, Why> {
        let LeasedServer { pool, server } = leased;
        let secured = spec.origination.as_ref().map(|origination| {
            let config = match spec.wanted {
                Wanted::Http1 => &origination.http,
                Wanted::Http2 => &origination.h2,
                Wanted::Either => &origination.auto,
            };
            (Arc::clone(config), origination.server_name(server.address(), server.host().as_deref()))
        });
        // HTTP/2 shares connections, so that leases bound them.
        let limit = match spec.wanted {
            Wanted::Http2 => None,
            Wanted::Http1 | Wanted::Either => pool
                .max_connections_of(server)
                .map(|most| ServerLimit { server: server.id(), most: most.get() }),
        };
        let (live, within, proxy_header) =
            (&self.exchange.live, pool.plan.timeouts.connect, spec.proxy_header.as_deref());
        let reaching = dial(live, server.address(), within, proxy_header, (limit, secured));
        let socket = self.state.watch.heed(reaching).await?.map_err(|error| {
            debug!(pool = %server.pool(), server = %server.name(), %error, "cannot connect");
            self.has_no_upgrades = spec.is_for_upgrade && error.is_of_alpn();
            match self.has_no_upgrades {
                true => server.refuses_http1(Instant::now()),
                false => self.exchange.detail = error.detail(),
            }
            error.why()
        })?;
        self.exchange.connected();
        Ok(socket)
    }

    fn begin_http1(&mut self, socket: Socket, leased: &LeasedServer, spec: &ConnectionSpec) -> ServerSide {
        let is_last = spec.proxy_header.is_some();
        let sending = RequestTerms {
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
        // Made there, for it is long to move.
        ServerSide::Http1(Box::write(Box::new_uninit(), Http1::new(socket, spec.key, sending, head)))
    }

    /// The head that the leased server gets, as filters have it.
    fn http1_head(&mut self, leased: &LeasedServer, is_last: bool) -> Vec<u8> {
        let applied = self.exchange.applied_policy(&self.request);
        let mut edits = filter::request(&self.request, &self.facts(applied.as_ref()));
        if let Some(upgrade) = self.upgrade.as_deref() {
            edits.add(&CONNECTION, "Upgrade");
            edits.add(&UPGRADE, upgrade);
        } else if is_last {
            edits.add(&CONNECTION, "close");
        }
        let mut head = Vec::with_capacity(1024);
        let rewritten = self.exchange.rewritten(&self.request);
        let request = self.sent(&rewritten);
        request::write_http1(&request, &edits, &self.own_host(leased), &mut head);
        let dropped = edits.dropped();
        drop(edits);
        self.exchange.dropped_fields += dropped;
        head
    }

    fn begin_http2(
        &mut self,
        permit: shared::StreamPermit,
        leased: &LeasedServer,
        spec: &ConnectionSpec,
    ) -> Result<ServerSide, Why> {
        let head = self.http2_head(leased, spec.origination.is_some()).map_err(|missing| {
            match (missing, self.request.host) {
                // It is the server's name that has none.
                (NoHttp2Form::Host, None) => {
                    self.exchange.detail = Some(missing.detail());
                    Why::Internal
                }
                _ => self.exchange.has_no_form(missing),
            }
        })?;
        if self.upgrade.is_some() {
            self.exchange.detail = Some("no upgrade: the server speaks HTTP/2 alone");
        }
        let begun = Http2::new(permit, head, self.client.has_body());
        let server = begun.map_err(|failure| {
            self.exchange.detail = failure.detail;
            failure.why
        })?;
        Ok(ServerSide::Http2(Box::new(server)))
    }

    /// The same in HTTP/2's form.
    fn http2_head(&mut self, leased: &LeasedServer, is_secured: bool) -> Result<Request<()>, NoHttp2Form> {
        let applied = self.exchange.applied_policy(&self.request);
        let edits = filter::request(&self.request, &self.facts(applied.as_ref()));
        let rewritten = self.exchange.rewritten(&self.request);
        let request = self.sent(&rewritten);
        let head = request::http2(&request, &edits, &self.own_host(leased), is_secured);
        let dropped = edits.dropped();
        drop(edits);
        self.exchange.dropped_fields += dropped;
        head
    }

    /// The request as its server gets it, but for its fields.
    fn sent<'f>(&'f self, rewritten: &'f Rewritten) -> RequestView<'f> {
        let request = rewritten.applied(&self.request);
        RequestView { path_and_query: self.cached_target().unwrap_or(request.path_and_query), ..request }
    }

    /// What filters know of the request beside its head.
    pub(super) fn facts<'f>(&'f self, policy: Option<&'f AppliedPolicy<'f>>) -> RequestFacts<'f> {
        let trusted = self.exchange.listener.as_ref().map(|listener| &listener.plan.trusted_proxies);
        RequestFacts {
            peer: peer(&self.state.client),
            trusted_proxies: trusted.unwrap_or(Networks::NONE),
            request_id: self.exchange.request_id.as_deref().unwrap_or_default(),
            is_asked_for: self.is_asked_for,
            call_left: self.call_due.map(|due| due.saturating_duration_since(Instant::now())),
            sticky: self.exchange.pool().map_or(&[], |pool| &pool.cookies),
            is_fill: self.caching.as_ref().is_some_and(|caching| caching.is_fill),
            validators: self.caching.as_ref().and_then(|caching| caching.validators.as_ref()),
            policy,
        }
    }

    /// The host of a request that names none, at the leased server.
    fn own_host(&self, leased: &LeasedServer) -> String {
        match self.request.host {
            None => own_host(&leased.pool.plan, &leased.server),
            Some(_) => String::new(),
        }
    }
}

enum Acquired {
    /// The exchange has begun.
    Begun(ServerSide),
    /// A connection is to be opened; others may be waiting for it.
    Open(Option<shared::Opening>),
}
