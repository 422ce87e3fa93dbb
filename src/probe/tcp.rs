//! The `tcp` probe: a connection that opens is a pass; or, if more is asked for, what the server says on it.

use super::dial::{AnyStream, dial_secured};
use super::{BODY_LIMIT, Probe, ProbeFailure, ProbeTarget, Steps, contains, shown};
use crate::api::probe::StepKind;
use crate::config::plan::TcpProbe;
use crate::origination::SharedOrigination;
use async_trait::async_trait;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

/// The `tcp` probe.
#[derive(Debug)]
pub struct TcpCheck {
    settings: TcpProbe,
    /// Goes first on each connection.
    proxy_header: Option<Vec<u8>>,
    /// For the reply to come.
    patience: Duration,
    origination: SharedOrigination,
}

impl TcpCheck {
    /// `proxy_header` goes first on each connection; the caller ends a probe after `timeout`.
    pub fn new(
        settings: TcpProbe,
        proxy_header: Option<Vec<u8>>,
        timeout: Duration,
        origination: SharedOrigination,
    ) -> Self {
        // Just before the caller does: what came instead of the reply says more than that it did not come.
        Self { settings, proxy_header, patience: timeout.mul_f64(0.95), origination }
    }

    /// Reads until the reply has what is expected.
    async fn has(&self, expected: &[u8], wire: &mut dyn AnyStream, reply: &mut Vec<u8>) -> io::Result<bool> {
        while reply.len() < BODY_LIMIT {
            // What it looks for may have begun in what came before.
            let from = (reply.len() + 1).saturating_sub(expected.len());
            reply.reserve(4096);
            match wire.read_buf(reply).await? {
                0 => break,
                _ if contains(&reply[from..], expected) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }
}

#[async_trait]
impl Probe for TcpCheck {
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let until = Instant::now() + self.patience;
        let secured = self.origination.load_full().map(|origination| {
            (
                steps.watching(&origination.raw, &origination.judge),
                origination.server_name(&target.address, target.host.as_deref()),
            )
        });
        let mut wire = dial_secured(&target.address, self.proxy_header.as_deref(), secured, steps).await?;
        let Some(expected) = &self.settings.expect else { return Ok(()) };
        if let Some(send) = &self.settings.send {
            steps.begin(StepKind::Request);
            steps.found(|| format!("{send:?}"));
            wire.write_all(send.as_bytes())
                .await
                .map_err(|error| ProbeFailure::Protocol(error.to_string()))?;
        }
        steps.begin(StepKind::Reply);
        let mut reply = Vec::new();
        let replied = timeout_at(until, self.has(expected.as_bytes(), &mut *wire, &mut reply)).await;
        if !reply.is_empty() {
            steps.found(|| format!("begins {:?}", shown(&reply)));
        }
        match replied {
            Ok(Ok(true)) => Ok(()),
            Ok(Err(error)) if reply.is_empty() => Err(ProbeFailure::Protocol(error.to_string())),
            // The caller's timeout says how long it was waited.
            Err(_) if reply.is_empty() => std::future::pending().await,
            _ => Err(ProbeFailure::Reply { expected: expected.clone(), found: shown(&reply) }),
        }
    }

    fn rule(&self) -> String {
        match (&self.settings.expect, self.origination.load().is_some()) {
            (Some(text), _) => format!("the reply contains {text:?}"),
            (None, false) => "a connection opens".to_owned(),
            (None, true) => "a connection opens, and a TLS handshake completes".to_owned(),
        }
    }
}
