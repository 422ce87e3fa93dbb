//! The admin endpoint: metrics for Prometheus, health for those who decide whether to send us traffic.
//! It runs beside the data path, on the control runtime, and can change nothing.

use crate::control::{Doors, Live};
use crate::metrics::Page;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tracing::error;

/// What the endpoint shows.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) live: Arc<Live>,
    pub(crate) doors: Arc<Doors>,
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, admin: Admin) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .with_state(admin);
    axum::serve(listener, router).await
}

/// 200 while new traffic is welcome, 503 once the process stops.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.live.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let page = Page {
        metrics: &admin.live.metrics,
        snapshot: &admin.live.snapshot(),
        listeners: &admin.doors.readings(),
        access_log_dropped: admin.live.access_log.dropped(),
    };
    match page.render() {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
