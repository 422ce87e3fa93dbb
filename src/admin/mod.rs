//! The admin endpoint: metrics for Prometheus, health for those who decide whether to send us traffic, and the API.
//! It runs beside the data path, on the control runtime; what changes something goes through control's inbox.

mod access;
mod activity;
mod answer;
mod api;
mod cache;
mod connections;
mod limits;
mod maintenance;
mod page;
mod unparsed;
mod view;

pub(crate) use access::AdminTransport;
pub(crate) use connections::{AdminListener, serve};

use crate::control::{ControlMessage, ListenerStates, Live, Source};
use crate::metrics::{MetricsPage, ServerConnections};
use access::TokenBucket;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::error;

/// What the endpoint shows, and whom it asks for changes.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) live: Arc<Live>,
    pub(crate) listener_states: Arc<ListenerStates>,
    pub(crate) changes: mpsc::UnboundedSender<ControlMessage>,
    /// Where the configuration comes from.
    pub(crate) source: Source,
    /// Requests to the API over TCP that may come now.
    pub(crate) bucket: Arc<TokenBucket>,
}

impl Admin {
    pub(crate) fn new(
        live: Arc<Live>,
        listener_states: Arc<ListenerStates>,
        changes: mpsc::UnboundedSender<ControlMessage>,
        source: Source,
    ) -> Self {
        Self { live, listener_states, changes, source, bucket: Arc::default() }
    }
}

/// Everything that is served, for requests that came this way.
pub(crate) fn router(admin: Admin, way: AdminTransport) -> Router {
    let guarded = Router::new()
        .nest("/api/v1", api::router())
        .route("/", get(page::page))
        .route("/page", get(page::part))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/metrics", get(metrics))
        .fallback(answer::nothing_here)
        .method_not_allowed_fallback(answer::not_this_method)
        // `access` reads bodies and limits them; axum's own limit is another one.
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state((admin.clone(), way), access::admit));
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .with_state(admin)
}

/// 200 while new traffic is welcome; 503 until the process knows its servers, and once it stops.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.live.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !admin.live.is_accepting() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else if admin.live.awaits_sources() {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first answer about a pool's servers\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let servers = &admin.live.server_connections;
    let page = MetricsPage {
        limiter: admin.live.limiter.get(),
        store: admin.live.store().map(|store| store.in_use()),
        disk: admin.live.disk().map(|disk| disk.in_use()),
        purge_nodes: admin.live.purge_nodes.status(),
        server_connections: ServerConnections {
            open: servers.in_use(),
            limit: servers.limit(),
            waits: servers.waits(),
        },
        metrics: &admin.live.metrics,
        snapshot: &admin.live.snapshot(),
        listeners: &admin.listener_states.readings(),
        access_log_dropped: admin.live.access_log.dropped(),
        log_dropped: crate::log::dropped(),
        events: &admin.live.event_log.counts(),
        events_lost: admin.live.event_log.lost(),
    };
    match page.render() {
        Ok(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
