//! The `http` probe of a pool whose servers are asked by HTTP/2.

use super::dial::dial_secured;
use super::h2_answer::{Asking, handshake, wrong};
use super::http::{EVIDENCE_WITHIN, HttpCheck};
use super::{BODY_LIMIT, ProbeFailure, ProbeTarget, Steps, contains, shown};
use crate::api::probe::StepKind;
use h2::RecvStream;
use http::{HeaderMap, Request};

impl HttpCheck {
    /// One request over a new connection, with TLS by ALPN, without it by prior knowledge.
    pub(super) async fn check_h2(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let origination = self.origination.load_full();
        let is_secured = origination.is_some();
        let secured = origination.map(|origination| {
            (
                steps.watching(&origination.h2, &origination.judge),
                origination.server_name(&target.address, target.host.as_deref()),
            )
        });
        let wire = dial_secured(&target.address, self.proxy_header.as_deref(), secured, steps).await?;
        steps.begin(StepKind::Request);
        let (asking, connection) = handshake(wire).await?;
        tokio::select! {
            answer = self.ask(asking, target, is_secured, steps) => answer,
            ended = connection => Err(match ended {
                Ok(()) => ProbeFailure::Protocol("the connection ended before an answer".to_owned()),
                Err(error) => wrong(error),
            }),
        }
    }

    async fn ask(
        &self,
        asking: Asking,
        target: &ProbeTarget,
        is_secured: bool,
        steps: &Steps,
    ) -> Result<(), ProbeFailure> {
        let (scheme, host) = (if is_secured { "https" } else { "http" }, self.host(target));
        let (method, path) = (&self.settings.method, &self.settings.path);
        let request = Request::builder()
            .method(method)
            .uri(format!("{scheme}://{host}{path}"))
            .header("user-agent", concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " probe"))
            .body(())
            .map_err(|error| ProbeFailure::Protocol(error.to_string()))?;
        steps.found(|| format!("{method} {path}, :authority: {host}"));
        let (mut sender, answer) = asking.ready().await?;
        let (mut response, _) = sender.send_request(request, true).map_err(wrong)?;
        steps.begin(StepKind::Status);
        let (head, mut body) = answer.head(&mut response).await?;
        let status = head.status.as_u16();
        steps.found(|| status_line(status, &head.headers));
        if let Err(failure) = self.judge_status(status) {
            if steps.are_watched() {
                steps.fail();
                steps.begin(StepKind::Body);
                let begins = tokio::time::timeout(EVIDENCE_WITHIN, body.data()).await;
                steps.found(|| match &begins {
                    Ok(Some(Ok(bytes))) => format!("begins {:?}", shown(bytes)),
                    Ok(None) => "empty".to_owned(),
                    Ok(Some(Err(error))) => error.to_string(),
                    Err(_) => format!("nothing of it within {EVIDENCE_WITHIN:?}"),
                });
            }
            return Err(failure);
        }
        match &self.settings.expect_body {
            Some(expected) => {
                steps.begin(StepKind::Body);
                find(expected, &mut body, steps).await
            }
            None => Ok(()),
        }
    }
}

/// Looks for a text in a body.
async fn find(expected: &str, body: &mut RecvStream, steps: &Steps) -> Result<(), ProbeFailure> {
    let mut found = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(wrong)?;
        // A window that is full otherwise ends the probe by its timeout, which is as good.
        let _ = body.flow_control().release_capacity(bytes.len());
        found.extend_from_slice(&bytes);
        if contains(&found, expected.as_bytes()) {
            steps.found(|| format!("begins {:?}", shown(&found)));
            return Ok(());
        }
        if found.len() >= BODY_LIMIT {
            break;
        }
    }
    Err(ProbeFailure::Body { expected: expected.to_owned(), found: shown(&found) })
}

/// `HTTP/2 302`, and what the answer says of itself.
fn status_line(status: u16, fields: &HeaderMap) -> String {
    let mut line = format!("HTTP/2 {status}");
    for name in ["location", "content-type"] {
        if let Some(value) = fields.get(name) {
            line += &format!(", {name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
    }
    line
}
