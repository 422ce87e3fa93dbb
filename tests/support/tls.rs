//! TLS servers and clients with certificates of a test's own.

use super::DEADLINE;
use super::balancer::Directory;
use super::ocsp;
use super::tcp::Server;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, Stream, StreamOwned, SupportedProtocolVersion,
};

/// A client's end of a connection.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// RFC 7468, with lines of any length.
fn pem(title: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |part: &[u8]| {
        let bits =
            part.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        (0..4).map(move |n| DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char).collect::<String>()
    };
    let mut text: String = der.chunks(3).map(digits).collect();
    let padding = (3 - der.len() % 3) % 3;
    text.truncate(text.len() - padding);
    text.push_str(&"=".repeat(padding));
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {title}-----\n{}\n-----END {title}-----\n", lines.join("\n"))
}

/// Certificates on disk, before the balancer that reads them.
pub(crate) struct Shop {
    pub(crate) files: Directory,
}

impl Shop {
    pub(crate) fn new(certificates: &[(&str, &Certificate)]) -> Self {
        let shop = Self { files: Directory::new() };
        for (name, certificate) in certificates {
            certificate.write(&shop.files.0, name);
        }
        shop
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.files.0.join(file)
    }

    /// What a listener has for these files.
    pub(crate) fn tls(&self, names: &[&str], more: &str) -> String {
        let directory = self.files.0.display();
        let one = |name: &&str| format!("{{ cert: {directory}/{name}.pem, key: {directory}/{name}.key }}");
        let certificates: Vec<_> = names.iter().map(one).collect();
        format!("tls: {{ certificates: [{}], {more} }}", certificates.join(", "))
    }
}

/// What a client speaks. It takes any certificate: which one it was shown is for the test to say.
pub(crate) struct Speaker(ClientConfig, Staple);

impl Speaker {
    pub(crate) fn new() -> Self {
        Self::of(&[&TLS13, &TLS12], None)
    }

    pub(crate) fn tls12() -> Self {
        Self::of(&[&TLS12], None)
    }

    pub(crate) fn tls13() -> Self {
        Self::of(&[&TLS13], None)
    }

    /// One that can check these signatures only.
    pub(crate) fn checking(schemes: Vec<SignatureScheme>) -> Self {
        Self::of(&[&TLS13, &TLS12], Some(schemes))
    }

    /// One that shows this certificate when it is asked for one.
    pub(crate) fn showing(&self, certificate: &Certificate) -> Self {
        let mut config = self.0.clone();
        let key = PrivateKeyDer::try_from(certificate.key.clone()).expect("a key");
        let chain = certificate.issuers.iter().fold(vec![certificate.der.clone()], |mut chain, issuer| {
            chain.push(issuer.clone());
            chain
        });
        let key = aws_lc_rs::sign::any_supported_type(&key).expect("a supported key");
        let shown = Arc::new(rustls::sign::CertifiedKey::new(chain, key));
        config.client_auth_cert_resolver = Arc::new(Shown(shown));
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        Self(config, Arc::clone(&self.1))
    }

    fn of(versions: &[&'static SupportedProtocolVersion], schemes: Option<Vec<SignatureScheme>>) -> Self {
        let provider = aws_lc_rs::default_provider();
        let all = provider.signature_verification_algorithms.supported_schemes();
        let staple = Staple::default();
        let anyone = Arc::new(Anyone { schemes: schemes.unwrap_or(all), staple: Arc::clone(&staple) });
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(anyone)
            .with_no_client_auth();
        Self(config, staple)
    }

    /// What was stapled to the certificate it was shown last.
    pub(crate) fn staple(&self) -> Vec<u8> {
        self.1.lock().expect("no test panics with it").clone()
    }

    pub(crate) fn offering(mut self, alpn: &[&str]) -> Self {
        self.0.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn config(&self) -> ClientConfig {
        self.0.clone()
    }

    /// Connects and shakes hands; `name` may be an address, which is not sent.
    pub(crate) fn connect(&self, address: SocketAddr, name: &str) -> std::io::Result<TlsStream> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        self.over(socket, name)
    }

    pub(crate) fn over<S: Read + Write>(
        &self,
        mut socket: S,
        name: &str,
    ) -> std::io::Result<StreamOwned<ClientConnection, S>> {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut session = ClientConnection::new(Arc::new(self.0.clone()), name).expect("a session");
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }
}

/// Shows one certificate whatever authorities it is asked to have it from.
#[derive(Debug)]
struct Shown(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
    /// What was stapled to the last certificate.
    staple: Staple,
}

type Staple = Arc<Mutex<Vec<u8>>>;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.staple.lock().expect("no test panics with it") = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A certificate with its key.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
    /// Those between it and its authority.
    issuers: Vec<CertificateDer<'static>>,
}

impl Certificate {
    /// For this name, until the first of January of that year.
    pub(crate) fn until(name: &str, year: i32) -> Self {
        let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { der: certificate.der().clone(), key: key.serialize_der(), issuers: Vec::new() }
    }

    /// For these names, signed with a key of this kind, from and until the first of January of those years.
    pub(crate) fn of(names: &[&str], kind: &'static rcgen::SignatureAlgorithm, years: (i32, i32)) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names).expect("names");
        parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = rcgen::KeyPair::generate_for(kind).expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { der: certificate.der().clone(), key: key.serialize_der(), issuers: Vec::new() }
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// For these names, good for a century.
    pub(crate) fn named(names: &[&str]) -> Self {
        Self::of(names, &rcgen::PKCS_ECDSA_P256_SHA256, (2000, 2100))
    }

    /// What its authority, itself, says of it.
    pub(crate) fn ocsp(&self, status: ocsp::Status, since: &str, until: Option<&str>) -> Vec<u8> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).expect("a certificate");
        let issuer = ::aws_lc_rs::digest::digest(
            &::aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY,
            parsed.issuer().as_raw(),
        );
        let (serial, issuer) = (parsed.raw_serial(), issuer.as_ref());
        ocsp::Response { serial, issuer, status, since, until }.der()
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.pem")), self.pem()).expect("writable");
        std::fs::write(directory.join(format!("{name}.key")), self.key_pem()).expect("writable");
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    pub(crate) fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }

    /// Whether this is what a server has shown.
    pub(crate) fn is_shown_by(&self, stream: &TlsStream) -> bool {
        stream.conn.peer_certificates().and_then(<[_]>::first) == Some(&self.der)
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key);
        Arc::new(config.expect("the key fits the certificate"))
    }

    /// A server that greets each client with its name for it, and says back what it says.
    pub(crate) fn serve(&self) -> Server {
        let config = self.server_config();
        Server::new(move |mut socket| {
            let mut session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            while session.is_handshaking() {
                if session.complete_io(&mut socket).is_err() {
                    return;
                }
            }
            let name = session.server_name().unwrap_or("nobody").to_owned();
            let mut stream = Stream::new(&mut session, &mut socket);
            let _ = stream.write_all(format!("{name}\n").as_bytes());
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
            session.send_close_notify();
            let _ = session.complete_io(&mut socket);
        })
    }

    /// A server that says this to the first request of each client, whatever it asks for.
    pub(crate) fn answering(&self, answer: &str) -> Server {
        let (config, answer) = (self.server_config(), answer.to_owned());
        Server::new(move |mut socket| {
            let mut session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = Stream::new(&mut session, &mut socket);
            let (mut asked, mut byte) = (Vec::new(), [0]);
            while !asked.ends_with(b"\r\n\r\n") {
                if !matches!(stream.read(&mut byte), Ok(1)) {
                    return;
                }
                asked.extend(byte);
            }
            let _ = stream.write_all(answer.as_bytes());
            session.send_close_notify();
            let _ = session.complete_io(&mut socket);
        })
    }

    /// A client that trusts this certificate and asks for this name.
    pub(crate) fn connect(&self, socket: TcpStream, name: &str) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        StreamOwned::new(session, socket)
    }
}

/// Signs certificates.
pub(crate) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    /// Those between it and the root.
    above: Vec<CertificateDer<'static>>,
}

impl Authority {
    fn parameters(name: &str, years: (i32, i32)) -> rcgen::CertificateParams {
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, "Shop");
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        parameters
    }

    fn authority(name: &str) -> rcgen::CertificateParams {
        let mut parameters = Self::parameters(name, (2000, 2100));
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters
    }

    pub(crate) fn root(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let issuer = rcgen::CertifiedIssuer::self_signed(Self::authority(name), key).expect("a certificate");
        Self { issuer, above: Vec::new() }
    }

    /// An authority that has its certificate from this one.
    pub(crate) fn below(&self, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = Self::authority(name);
        let issuer = rcgen::CertifiedIssuer::signed_by(parameters, key, &self.issuer).expect("a certificate");
        let above = [&[issuer.der().clone()], &self.above[..]].concat();
        Self { issuer, above }
    }

    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", self.issuer.der())
    }

    /// A client's certificate, from and until the first of January of those years.
    pub(crate) fn client(&self, name: &str, years: (i32, i32)) -> Certificate {
        let mut parameters = Self::parameters(name, years);
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&parameters)
    }

    pub(crate) fn sign(&self, parameters: &rcgen::CertificateParams) -> Certificate {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let issuers = self.above.clone();
        Certificate { der: certificate.der().clone(), key: key.serialize_der(), issuers }
    }
}
