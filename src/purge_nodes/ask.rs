//! Asks another node to purge: a request to its admin endpoint's API, as the command makes them.

use super::ANSWER_WITHIN;
use super::failure::NodeFailure;
use super::node::{Batch, PurgeNode};
use crate::api::cache::PurgeWish;
use crate::api::{ApiError, ErrorBody};
use crate::files::connect_unix;
use crate::units::Address;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A receipt or a refusal has less.
const LONGEST: usize = 64 << 10;

/// Tells a node what is purged.
///
/// # Errors
/// It has not confirmed all of it; it may have done some.
pub(crate) async fn ask(node: &PurgeNode, batch: &Batch) -> Result<(), NodeFailure> {
    let all = async {
        for wish in &batch.wishes {
            ask_one(node, wish).await?;
        }
        Ok(())
    };
    tokio::time::timeout(ANSWER_WITHIN, all).await.unwrap_or(Err(NodeFailure::Late))
}

async fn ask_one(node: &PurgeNode, wish: &PurgeWish) -> Result<(), NodeFailure> {
    let request = request(node, wish)?;
    match &node.address {
        Address::Inet(address) => {
            let stream = TcpStream::connect(address).await.map_err(NodeFailure::Connect)?;
            let _ = stream.set_nodelay(true);
            exchange(stream, request).await
        }
        Address::Unix(path) => {
            exchange(connect_unix(path).await.map_err(NodeFailure::Connect)?, request).await
        }
    }
}

fn request(node: &PurgeNode, wish: &PurgeWish) -> Result<Request<Full<Bytes>>, NodeFailure> {
    let host = match &node.address {
        Address::Inet(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let wrong = |error: String| NodeFailure::Request(error);
    let body = serde_json::to_vec(wish).map_err(|error| wrong(error.to_string()))?;
    let mut request = Request::post("/api/v1/cache/purge")
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        // Whom its log names.
        .header("x-operator", "passed-on");
    if let (Address::Inet(_), Some(token)) = (&node.address, node.token()) {
        let shown = HeaderValue::try_from(format!("Bearer {}", token.shown()));
        let mut shown = shown.map_err(|_| wrong("its token is no text".to_owned()))?;
        shown.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, shown);
    }
    request.body(Full::from(body)).map_err(|error| wrong(error.to_string()))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(), NodeFailure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status == StatusCode::OK {
        connection.abort();
        return Ok(());
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let message = match serde_json::from_slice(&body) {
        Ok(ErrorBody { error: ApiError { message, .. } }) => format!(": {message}"),
        Err(_) => String::new(),
    };
    Err(NodeFailure::Refused { status, message })
}
