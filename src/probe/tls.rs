//! The `tls` probe: a handshake that completes is a pass, and the server's certificate says until when it holds.

use super::dial::dial;
use super::{Probe, ProbeFailure, ProbeTarget, Steps};
use crate::api::probe::StepKind;
use crate::config::plan::TlsProbe;
use crate::origination::Anyone;
use crate::units::Address;
use async_trait::async_trait;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, WebPkiServerVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// No certificate was seen yet.
const NONE: i64 = i64::MIN;

/// The `tls` probe of one server.
pub struct TlsCheck {
    settings: TlsProbe,
    proxy_header: Option<Vec<u8>>,
    /// An error is that of each probe: the reason stands in the log and at the server's state.
    config: Result<Arc<ClientConfig>, String>,
    seen: Arc<ShownCertificate>,
}

impl fmt::Debug for TlsCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl TlsCheck {
    /// `proxy_header` goes first on each connection.
    pub fn new(settings: TlsProbe, proxy_header: Option<Vec<u8>>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let anyone: Arc<dyn ServerCertVerifier> = Arc::new(Anyone(Arc::clone(&provider)));
        let (judge, refusal) = match settings.verify.then(|| judge(&provider)) {
            None => (anyone, None),
            Some(Ok(judge)) => (judge as _, None),
            Some(Err(error)) => (anyone, Some(error)),
        };
        let seen = Arc::new(ShownCertificate { judge, refusal, expires: AtomicI64::new(NONE) });
        let verifier: Arc<dyn ServerCertVerifier> = Arc::clone(&seen) as _;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| {
                let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
                let mut config = builder.with_no_client_auth();
                // A resumed session shows no certificate.
                config.resumption = Resumption::disabled();
                Arc::new(config)
            })
            .map_err(|error| error.to_string());
        Self { settings, proxy_header, config, seen }
    }

    fn server_name(&self, target: &ProbeTarget) -> Result<ServerName<'static>, ProbeFailure> {
        let name = match (self.settings.server_name.as_deref().or(target.host.as_deref()), &target.address) {
            (Some(name), _) => ServerName::try_from(name.to_owned()),
            // As an address, which is checked but not sent.
            (None, Address::Inet(address)) => return Ok(ServerName::IpAddress(address.ip().into())),
            (None, Address::Unix(_)) => ServerName::try_from("localhost"),
        };
        name.map_err(|error| ProbeFailure::Tls(error.to_string()))
    }
}

#[async_trait]
impl Probe for TlsCheck {
    async fn check(&self, target: &ProbeTarget, steps: &Steps) -> Result<(), ProbeFailure> {
        let config = self.config.clone().map_err(ProbeFailure::Tls)?;
        let name = self.server_name(target)?;
        let judge: Arc<dyn ServerCertVerifier> = Arc::clone(&self.seen) as _;
        let config = steps.watching(&config, &judge);
        let wire =
            dial(&target.address, self.proxy_header.as_deref(), steps).await.map_err(ProbeFailure::from)?;
        steps.begin(StepKind::Tls);
        steps.found(|| format!("expects {}", name.to_str()));
        let shaken: io::Result<_> = TlsConnector::from(config).connect(name, wire).await;
        let mut stream = shaken.map_err(|error| ProbeFailure::Tls(error.to_string()))?;
        steps.agreed(stream.get_ref().1);
        // A parting word, so that the server's log has no broken connection; it need not arrive.
        let _ = stream.shutdown().await;
        Ok(())
    }

    fn rule(&self) -> String {
        let rule = "a TLS handshake completes";
        match self.settings.verify {
            true => format!("{rule}, with a certificate that this machine's authorities vouch for"),
            false => format!("{rule}, with whatever certificate"),
        }
    }

    fn certificate_expires(&self) -> Option<i64> {
        Some(self.seen.expires.load(Relaxed)).filter(|expires| *expires != NONE)
    }
}

/// The judge of certificates by the machine's own authorities; made once, as reading those takes a while.
fn judge(provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    static JUDGE: OnceLock<Result<Arc<WebPkiServerVerifier>, String>> = OnceLock::new();
    let made = JUDGE.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err("this machine has no certificate authorities to verify by".to_owned());
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())
    });
    made.clone()
}

/// Notes when a certificate expires before it is judged: what has expired is what one wants to know most.
#[derive(Debug)]
struct ShownCertificate {
    judge: Arc<dyn ServerCertVerifier>,
    /// Why nothing can be judged.
    refusal: Option<String>,
    /// Seconds since 1970.
    expires: AtomicI64,
}

impl ServerCertVerifier for ShownCertificate {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) {
            self.expires.store(parsed.validity().not_after.timestamp(), Relaxed);
        }
        match &self.refusal {
            None => self.judge.verify_server_cert(certificate, others, name, ocsp, now),
            Some(error) => Err(Error::General(error.clone())),
        }
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
