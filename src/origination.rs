//! How connections to a pool's servers are secured: what a server's certificate must be, and what we show of ourselves.
//!
//! Made once for each change of a pool's settings or files, never for a connection: sessions are resumed by it.

use crate::config::plan::ServerTls;
use crate::units::Address;
use arc_swap::ArcSwapOption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The one in force for a pool, `None` for plain text; carried from snapshot to snapshot by the pool's name.
pub type SharedOrigination = Arc<ArcSwapOption<Origination>>;

/// What an origination is made of; the same makes no new one.
#[derive(Clone, Debug)]
pub struct OriginationMaterial {
    pub settings: ServerTls,
    /// The authorities' certificates; `None` is the machine's own.
    pub authorities: Option<Vec<CertificateDer<'static>>>,
    /// By whom servers' certificates must be signed.
    pub roots: Arc<RootCertStore>,
    /// What servers are shown when they ask.
    pub identity: Option<Arc<CertifiedKey>>,
}

/// How to secure connections to one pool's servers.
#[derive(Debug)]
pub struct Origination {
    /// Never that of another one, and never 0: connections made by different ones are kept apart.
    pub id: u32,
    /// For HTTP/1.1, which ALPN tells the server.
    pub http: Arc<ClientConfig>,
    /// For HTTP/2, likewise.
    pub h2: Arc<ClientConfig>,
    /// For either, as the server likes.
    pub auto: Arc<ClientConfig>,
    /// For whatever clients speak.
    pub raw: Arc<ClientConfig>,
    /// Judges servers' certificates in all of them; for whoever wants to see one first.
    pub judge: Arc<dyn ServerCertVerifier>,
    material: OriginationMaterial,
}

impl Origination {
    /// Secures connections as `material` says; `before` itself if that says the same.
    ///
    /// # Errors
    /// The client certificate or the provider is of no use.
    pub fn new(material: OriginationMaterial, before: Option<Arc<Self>>) -> Result<Arc<Self>, Error> {
        /// 30 bits, so that there is room beside it.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        if let Some(before) = before.filter(|before| before.material.is_same(&material)) {
            return Ok(before);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let judge: Arc<dyn ServerCertVerifier> = match material.settings.verify {
            true => WebPkiServerVerifier::builder_with_provider(Arc::clone(&material.roots), provider)
                .build()
                .map_err(|error| Error::General(error.to_string()))?,
            false => Arc::new(Anyone(provider)),
        };
        let config = config.dangerous().with_custom_certificate_verifier(Arc::clone(&judge));
        let mut config = match &material.identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(identity))))
            }
            None => config.with_no_client_auth(),
        };
        let raw = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let h2 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let auto = Arc::new(config.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let id = NEXT.fetch_add(1, Relaxed) & 0x3fff_ffff;
        Ok(Arc::new(Self { id, http: Arc::new(config), h2, auto, raw, judge, material }))
    }

    /// Whom the server at this address must prove to be, which a host name may have led to. An address is verified, but not
    /// sent.
    pub fn server_name(&self, address: &Address, host: Option<&str>) -> ServerName<'static> {
        let by_address = match address {
            Address::Inet(address) => ServerName::IpAddress(IpAddr::from(address.ip())),
            Address::Unix(_) => ServerName::try_from("localhost").expect("it is a name"),
        };
        let named = self.material.settings.server_name.as_deref().or(host);
        named.and_then(|name| ServerName::try_from(name.to_owned()).ok()).unwrap_or(by_address)
    }
}

impl OriginationMaterial {
    fn is_same(&self, other: &Self) -> bool {
        let shown = |material: &Self| material.identity.as_ref().map(|identity| identity.cert.clone());
        self.settings == other.settings
            && self.authorities == other.authorities
            && shown(self) == shown(other)
    }
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
pub struct Anyone(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material(server_name: Option<&str>, verify: bool) -> OriginationMaterial {
        let settings =
            ServerTls { server_name: server_name.map(str::to_owned), ca: None, identity: None, verify };
        OriginationMaterial {
            settings,
            authorities: None,
            roots: Arc::new(RootCertStore::empty()),
            identity: None,
        }
    }

    #[test]
    fn the_same_settings_keep_their_sessions() {
        let one = Origination::new(material(None, false), None).unwrap();
        let same = Origination::new(material(None, false), Some(Arc::clone(&one))).unwrap();
        let other = Origination::new(material(Some("app.internal"), false), Some(Arc::clone(&one))).unwrap();
        assert!(Arc::ptr_eq(&one, &same));
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn a_server_is_known_by_its_name_or_else_its_address() {
        let address: Address = "127.0.0.1:443".parse().unwrap();
        let name = |server_name| {
            let origination = Origination::new(material(server_name, false), None).unwrap();
            origination.server_name(&address, None).to_str().into_owned()
        };
        assert_eq!((name(None), name(Some("app.internal"))), ("127.0.0.1".into(), "app.internal".into()));
    }
}
