//! Finds or opens a connection to the leased server, and begins an exchange on it.

use super::Relay;
use super::client::Client;
use super::over_h1::OverH1;
use super::over_h2::OverH2;
use super::server::Server;
use crate::access_log::Why;
use crate::config::plan::ServerProtocol;
use crate::edge::Socket;
use crate::origination::Origination;
use crate::proxy_header::{self, About};
use crate::serve::dial::dial;
use crate::serve::{keepalive, kept, own_host, shared};
use http::{HeaderValue, header};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tracing::debug;

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
    key: kept::Key,
    keepalive: Duration,
    origination: Option<Arc<Origination>>,
    /// The PROXY header to begin with; such a connection serves one request.
    introduction: Option<Vec<u8>>,
}

impl<C: Client> Relay<C> {
    /// Begins an exchange with the leased server; whether its connection was used before.
    pub(super) async fn connect(&mut self) -> Result<bool, Why> {
        let purpose = self.purpose().ok_or(Why::Internal)?;
        self.name_host();
        let opening = match self.take(&purpose).await? {
            Taken::Begun => return Ok(true),
            Taken::Open(opening) => opening,
        };
        let socket = self.reach(&purpose).await?;
        let is_h2 = match purpose.wanted {
            Wanted::Http1 => false,
            Wanted::Http2 if purpose.origination.is_some() && !socket.speaks_h2() => {
                self.exchange.detail = Some("does not agree on h2 (ALPN)");
                return Err(Why::ServerTls);
            }
            Wanted::Http2 => true,
            Wanted::Either => socket.speaks_h2(),
        };
        if purpose.wanted == Wanted::Either
            && let Some((_, server)) = self.exchange.leased()
        {
            server.prefers_http1.store(!is_h2, Relaxed);
        }
        self.exchange.connected();
        if is_h2 {
            let permit = shared::open(socket, purpose.key, purpose.keepalive, opening).await;
            let permit = permit.map_err(|_| Why::ConnectFailed)?;
            self.begin_h2(permit, &purpose)?;
        } else {
            self.begin_h1(socket, &purpose);
        }
        Ok(false)
    }

    /// Gives a request that names no host one for this server.
    fn name_host(&mut self) {
        if self.lacks_host
            && let Some((pool, server)) = self.exchange.leased()
            && let Ok(host) = HeaderValue::try_from(own_host(&pool.plan, server.address()))
        {
            self.head.headers.insert(header::HOST, host);
        }
    }

    fn purpose(&self) -> Option<Purpose> {
        let (pool, server) = self.exchange.leased()?;
        let introduction = pool.plan.proxy_protocol.map(|version| {
            let (source, destination) = self.addresses;
            proxy_header::write(version, About::client(source, destination))
        });
        let origination = pool.origination.load_full();
        Some(Purpose {
            wanted: match pool.plan.protocol {
                ServerProtocol::H2 => Wanted::Http2,
                // Without TLS there is nothing to agree by.
                ServerProtocol::Auto if origination.is_some() => Wanted::Either,
                ServerProtocol::Auto | ServerProtocol::Http1 => Wanted::Http1,
            },
            key: (server.id(), origination.as_ref().map_or(0, |origination| origination.id)),
            keepalive: keepalive(&pool.plan.timeouts, &server),
            origination,
            introduction,
        })
    }

    /// Begins on a connection that is there, or finds out that one is to be opened.
    async fn take(&mut self, purpose: &Purpose) -> Result<Taken, Why> {
        loop {
            if purpose.wanted != Wanted::Http1 {
                while let Some(mut permit) = shared::take(purpose.key, purpose.keepalive) {
                    if self.state.watch.heed(permit.is_ready()).await? {
                        match self.begin_h2(permit, purpose) {
                            // It was told to go at this moment, and is retired.
                            Err(Why::ServerReset) => continue,
                            begun => return begun.map(|()| Taken::Begun),
                        }
                    }
                }
            }
            if purpose.wanted != Wanted::Http2
                && purpose.introduction.is_none()
                && !self.exchange.wants_new_connection()
                && let Some(socket) = kept::take(purpose.key)
            {
                self.begin_h1(socket, purpose);
                return Ok(Taken::Begun);
            }
            let may_be_shared = match purpose.wanted {
                Wanted::Http1 => false,
                Wanted::Http2 => true,
                // As it was the last time.
                Wanted::Either => {
                    self.exchange.leased().is_some_and(|(_, server)| !server.prefers_http1.load(Relaxed))
                }
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

    async fn reach(&mut self, purpose: &Purpose) -> Result<Socket, Why> {
        let Some((pool, server)) = self.exchange.leased() else { return Err(Why::Internal) };
        let secured = purpose.origination.as_ref().map(|origination| {
            let config = match purpose.wanted {
                Wanted::Http1 => &origination.http,
                Wanted::Http2 => &origination.h2,
                Wanted::Either => &origination.auto,
            };
            (Arc::clone(config), origination.server_name(server.address()))
        });
        let limit = pool.plan.timeouts.connect;
        let reaching =
            dial(&self.exchange.live, server.address(), limit, purpose.introduction.as_deref(), secured);
        self.state.watch.heed(reaching).await?.map_err(|error| {
            debug!(pool = %server.pool(), server = %server.name(), %error, "cannot connect");
            self.exchange.detail = error.detail();
            error.why()
        })
    }

    fn begin_h1(&mut self, socket: Socket, purpose: &Purpose) {
        let is_last = purpose.introduction.is_some();
        let server = OverH1::new((socket, purpose.key), is_last, &self.head, self.has_body);
        self.server = Some(Server::H1(Box::new(server)));
    }

    fn begin_h2(&mut self, permit: shared::StreamPermit, purpose: &Purpose) -> Result<(), Why> {
        let is_secured = purpose.origination.is_some();
        let server = OverH2::new(permit, &self.head, is_secured, self.has_body).map_err(|failure| {
            self.exchange.detail = failure.detail;
            failure.why
        })?;
        self.server = Some(Server::H2(Box::new(server)));
        Ok(())
    }
}

enum Taken {
    /// The exchange has begun.
    Begun,
    /// A connection is to be opened; others may be waiting for it.
    Open(Option<shared::Opening>),
}
