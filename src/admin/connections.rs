//! Accepts admin connections, so few and for so short a time that no client of theirs can hurt anybody else. When all
//! places are taken the one that has been idle longest gives way: whoever holds them in silence keeps nobody out.

use super::activity::{Activity, Awaited, Serving, Shared};
use super::unparsed::JsonErrors;
use super::{Admin, AdminTransport, router};
use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Connections at once, of each of the two ways.
const AT_ONCE: u32 = 256;
/// A head must come within this time, and a connection that is idle for it closes.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// So long a connection that has asked nothing yet is waited for when all are to end.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// So long those that are being answered are waited for then.
const LAST_WITHIN: Duration = Duration::from_secs(2);
/// No connection lasts longer: one that reads nothing would keep its place for ever.
const LONGEST: Duration = Duration::from_secs(600);

/// Where admin connections come in.
#[derive(Debug)]
pub(crate) enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves until `closing`; connections then end after the request that they have, so that nobody goes on asking a
/// process that another one has taken the place of.
pub(crate) async fn serve(admin_listener: AdminListener, admin: Admin, closing: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE as usize));
    let mut open: Vec<(AbortHandle, Shared)> = Vec::new();
    loop {
        let activity = Activity::begin();
        let accepting = async {
            match &admin_listener {
                AdminListener::Tcp(listener) => tcp(listener, &admin, &activity, &closing).await,
                AdminListener::Unix(listener) => unix(listener, &admin, &activity, &closing).await,
            }
        };
        let Some(accepted) = closing.run_until_cancelled(accepting).await else { break };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                warn!(%error, "an admin connection cannot be accepted");
                // Out of files, most likely; trying at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|(task, _)| !task.is_finished());
        if places.available_permits() == 0
            && let Some(idle) = idle_longest(&open)
        {
            open[idle].0.abort();
            admin.live.metrics.admin_connection_evicted();
            debug!("the admin connection that was idle longest is closed for a new one");
        }
        // All may be busy for as long as a request lasts; the end of this process does not wait for that.
        let place = closing.run_until_cancelled(Arc::clone(&places).acquire_owned()).await;
        let Some(Ok(place)) = place else { break };
        let task = tokio::spawn(async move {
            let _place = place;
            if tokio::time::timeout(LONGEST, connection).await.is_err() {
                debug!("an admin connection has lasted too long");
            }
        });
        open.push((task.abort_handle(), activity));
    }
    let all = places.acquire_many(AT_ONCE);
    let _ = tokio::time::timeout(LAST_WITHIN, all).await;
}

/// Of connections that serve no request.
fn idle_longest(open: &[(AbortHandle, Shared)]) -> Option<usize> {
    let idle = open.iter().enumerate().filter_map(|(at, (_, activity))| Some((activity.idle_since()?, at)));
    idle.min().map(|(_, at)| at)
}

type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn tcp(
    listener: &TcpListener,
    admin: &Admin,
    activity: &Shared,
    closing: &CancellationToken,
) -> io::Result<Connection> {
    let (stream, peer) = listener.accept().await?;
    let is_local = listener.local_addr()?.ip().is_loopback();
    let _ = stream.set_nodelay(true);
    Ok(Box::pin(converse(
        stream,
        admin.clone(),
        AdminTransport::Tcp { peer, is_local },
        Arc::clone(activity),
        closing.clone(),
    )))
}

async fn unix(
    listener: &UnixListener,
    admin: &Admin,
    activity: &Shared,
    closing: &CancellationToken,
) -> io::Result<Connection> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok(Box::pin(converse(
        stream,
        admin.clone(),
        AdminTransport::Socket { uid },
        Arc::clone(activity),
        closing.clone(),
    )))
}

/// Waits until a connection is to end. Whoever has just connected is about to ask something, and is answered still.
async fn closing_after(closing: &CancellationToken, asked: &CancellationToken) {
    closing.cancelled().await;
    let _ = tokio::time::timeout(FIRST_WITHIN, asked.cancelled()).await;
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    admin: Admin,
    way: AdminTransport,
    activity: Shared,
    closing: CancellationToken,
) {
    let asked = CancellationToken::new();
    let begins = asked.clone();
    let router = router(admin, way).layer(from_fn(move |mut request: Request, next: Next| {
        begins.cancel();
        let serving = match request.body().is_end_stream() {
            true => Some(Serving::begin(&activity)),
            false => {
                request.extensions_mut().insert(Awaited::new(&activity));
                None
            }
        };
        async move {
            let response = next.run(request).await;
            drop(serving);
            response
        }
    }));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(JsonErrors::new(stream)), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closing_after(&closing, &asked) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection ended");
    }
}
