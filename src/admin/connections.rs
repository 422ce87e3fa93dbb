//! Accepts admin connections, so few and for so short a time that no client of theirs can hurt anybody else.

use super::{Admin, Way, router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

/// Connections at once, of each of the two ways.
const AT_ONCE: usize = 256;
/// A head must come within this time, and a connection that is idle for it closes.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// No connection lasts longer: one that reads nothing would keep its place for ever.
const LONGEST: Duration = Duration::from_secs(600);

/// Where admin connections come in.
#[derive(Debug)]
pub(crate) enum Entrance {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Serves until the task is ended.
pub(crate) async fn serve(entrance: Entrance, admin: Admin) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = match &entrance {
            Entrance::Tcp(listener) => tcp(listener, &admin).await,
            Entrance::Unix(listener) => unix(listener, &admin).await,
        };
        match accepted {
            Ok(connection) => {
                tokio::spawn(async move {
                    let _place = place;
                    if tokio::time::timeout(LONGEST, connection).await.is_err() {
                        debug!("an admin connection has lasted too long");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "an admin connection cannot be accepted");
                // Out of files, most likely; trying at once would only burn the processor.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

type Connection = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn tcp(listener: &TcpListener, admin: &Admin) -> io::Result<Connection> {
    let (stream, peer) = listener.accept().await?;
    let is_local = listener.local_addr()?.ip().is_loopback();
    let _ = stream.set_nodelay(true);
    Ok(Box::pin(converse(stream, admin.clone(), Way::Tcp { peer, is_local })))
}

async fn unix(listener: &UnixListener, admin: &Admin) -> io::Result<Connection> {
    let (stream, _) = listener.accept().await?;
    let uid = stream.peer_cred()?.uid();
    Ok(Box::pin(converse(stream, admin.clone(), Way::Socket { uid })))
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, admin: Admin, way: Way) {
    let service = TowerToHyperService::new(router(admin, way));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "an admin connection ended");
    }
}
