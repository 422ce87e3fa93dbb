//! What a probe finds on its way, for `evenkeel probe`. Nobody watches the prober's own probes: each step then costs them
//! a comparison.

use crate::api::probe::{ProbeStep, StepKind};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use x509_parser::extensions::GeneralName;

/// So much of one finding is kept, which may have come from anybody.
const LONGEST: usize = 400;

/// The steps of one probe; by default nobody looks at them.
#[derive(Clone, Debug, Default)]
pub struct Steps(Option<Arc<Mutex<Noted>>>);

#[derive(Debug)]
struct Noted {
    steps: Vec<ProbeStep>,
    /// When the last of them began.
    since: Instant,
}

impl Noted {
    /// The last step is over.
    fn time(&mut self) {
        if let Some(step) = self.steps.last_mut() {
            step.took_ms = milliseconds(self.since.elapsed());
        }
        self.since = Instant::now();
    }
}

impl Steps {
    pub(super) fn watched() -> Self {
        Self(Some(Arc::new(Mutex::new(Noted { steps: Vec::new(), since: Instant::now() }))))
    }

    pub(super) fn are_watched(&self) -> bool {
        self.0.is_some()
    }

    /// The step before has ended well.
    pub(super) fn begin(&self, step: StepKind) {
        if let Some(mut noted) = self.noted() {
            noted.time();
            noted.steps.push(ProbeStep { step, passed: true, took_ms: 0.0, found: Vec::new() });
        }
    }

    /// What was found at the step that is under way.
    pub(super) fn found(&self, text: impl FnOnce() -> String) {
        if let Some(mut noted) = self.noted()
            && let Some(step) = noted.steps.last_mut()
        {
            step.found.push(printable(&text()));
        }
    }

    /// The step that is under way has decided against the server; what follows is evidence.
    pub(super) fn fail(&self) {
        if let Some(mut noted) = self.noted()
            && let Some(step) = noted.steps.last_mut()
        {
            step.passed = false;
        }
    }

    /// All of them. If the probe has failed and none of them did, the last one has.
    pub(super) fn end(&self, passed: bool) -> Vec<ProbeStep> {
        let Some(mut noted) = self.noted() else { return Vec::new() };
        noted.time();
        if !passed && noted.steps.iter().all(|step| step.passed) {
            noted.steps.iter_mut().last().into_iter().for_each(|step| step.passed = false);
        }
        std::mem::take(&mut noted.steps)
    }

    /// Notes each certificate that servers show, before it is judged. A resumed session shows none, so none is resumed,
    /// nor kept for the others to resume.
    pub(super) fn watching(
        &self,
        config: &Arc<ClientConfig>,
        judge: &Arc<dyn ServerCertVerifier>,
    ) -> Arc<ClientConfig> {
        if !self.are_watched() {
            return Arc::clone(config);
        }
        let mut config = ClientConfig::clone(config);
        config.resumption = Resumption::disabled();
        let watching = Watching { steps: self.clone(), judge: Arc::clone(judge) };
        config.dangerous().set_certificate_verifier(Arc::new(watching));
        Arc::new(config)
    }

    /// What both sides have agreed on.
    pub(super) fn agreed(&self, connection: &ClientConnection) {
        self.found(|| {
            let version = connection.protocol_version().and_then(|version| version.as_str());
            let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
            let protocol = connection.alpn_protocol().map(|name| format!("ALPN {}", name.escape_ascii()));
            let version = version.map(|version| version.replace('_', "."));
            let parts = [version, suite.map(str::to_owned), protocol];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
    }

    fn noted(&self) -> Option<MutexGuard<'_, Noted>> {
        self.0.as_ref().map(|noted| noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// On one line, of bounded length, and without what a terminal would act on.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[derive(Debug)]
struct Watching {
    steps: Steps,
    judge: Arc<dyn ServerCertVerifier>,
}

impl Watching {
    fn look(&self, certificate: &CertificateDer<'_>) {
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return self.steps.found(|| "a certificate that cannot be read".to_owned());
        };
        self.steps.found(|| format!("certificate {}", parsed.subject()));
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            self.steps.found(|| {
                let names: Vec<_> = names.value.general_names.iter().map(plain).collect();
                format!("for {}", names.join(", "))
            });
        }
        self.steps.found(|| format!("signed by {}", parsed.issuer()));
        self.steps.found(|| {
            let validity = parsed.validity();
            let over = if validity.is_valid() { "" } else { ": not now" };
            format!("good from {} to {}{over}", day(validity.not_before), day(validity.not_after))
        });
    }
}

/// As an operator would write it.
fn plain(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => IpAddr::from(v4).to_string(),
            (_, Ok(v6)) => IpAddr::from(v6).to_string(),
            _ => name.to_string(),
        },
        _ => name.to_string(),
    }
}

fn day(time: x509_parser::time::ASN1Time) -> time::Date {
    time.to_datetime().date()
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.look(certificate);
        self.judge.verify_server_cert(certificate, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(last: impl FnOnce(&Steps), passed: bool) -> Vec<(StepKind, bool)> {
        let steps = Steps::watched();
        steps.begin(StepKind::Connect);
        steps.begin(StepKind::Status);
        last(&steps);
        steps.end(passed).iter().map(|step| (step.step, step.passed)).collect()
    }

    #[test]
    fn the_step_that_failed_is_the_last_or_the_one_that_says_so() {
        use StepKind::{Body, Connect, Status};
        assert_eq!(walk(|_| (), true), [(Connect, true), (Status, true)]);
        assert_eq!(walk(|_| (), false), [(Connect, true), (Status, false)]);
        let evidence = |steps: &Steps| {
            steps.fail();
            steps.begin(Body);
        };
        assert_eq!(walk(evidence, false), [(Connect, true), (Status, false), (Body, true)]);
    }

    #[test]
    fn what_strangers_say_stays_on_one_line() {
        assert_eq!(printable("a\u{1b}[2J\nb ü"), "a\\u{1b}[2J\\nb ü");
        assert_eq!(printable(&"x".repeat(1000)).len(), LONGEST + '…'.len_utf8());
    }

    #[test]
    fn nobody_watches_by_default() {
        let steps = Steps::default();
        steps.begin(StepKind::Connect);
        steps.found(|| unreachable!("nobody asks"));
        assert_eq!(steps.end(false), []);
    }
}
