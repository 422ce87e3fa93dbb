//! Refusals, as every client of the API gets them: JSON that says what is wrong and what would work.

use super::Admin;
use crate::api::{ApiError, ErrorBody};
use crate::control::ControlMessage;
use axum::Json;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct ApiRefusal {
    status: StatusCode,
    error: ApiError,
}

impl ApiRefusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: ApiError { message: message.into(), help: None } }
    }

    /// A name in the path that there is not.
    pub(crate) fn not_found(error: ApiError) -> Self {
        Self { status: StatusCode::NOT_FOUND, error }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.error.help = Some(help.into());
        self
    }
}

impl IntoResponse for ApiRefusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.error })).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            let ask = header::HeaderValue::from_static("Bearer realm=\"evenkeel\", Basic realm=\"evenkeel\"");
            headers.insert(header::WWW_AUTHENTICATE, ask);
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

/// The names in a path; axum's own refusal of bytes that are no text would not be JSON.
#[derive(Debug)]
pub(super) struct PathNames<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathNames<T> {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiRefusal> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(rejection) => Err(ApiRefusal::new(StatusCode::BAD_REQUEST, rejection.body_text())
                .help("percent-encode the UTF-8 bytes of names")),
        }
    }
}

pub(super) async fn nothing_here(uri: Uri) -> ApiRefusal {
    ApiRefusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        .help("the API is below /api/v1/, metrics are at /metrics, health at /livez and /readyz")
}

pub(super) async fn not_this_method(method: Method, uri: Uri) -> ApiRefusal {
    ApiRefusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
        .help("docs/api.md says which method each path takes")
}

/// Puts a change into control's inbox and waits for what comes of it.
pub(super) async fn ask<T>(
    admin: &Admin,
    change: ControlMessage,
    outcome: oneshot::Receiver<T>,
) -> Result<T, ApiRefusal> {
    let stopping = |_: ()| ApiRefusal::new(StatusCode::SERVICE_UNAVAILABLE, "the process is stopping");
    admin.changes.send(change).map_err(|_| stopping(()))?;
    outcome.await.map_err(|_| stopping(()))
}
