"""An authority of the run's own, the certificates it signs (ECDSA, RSA, by the thousand) and OCSP answers for them."""

import base64
import hashlib
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def new_key(kind):
    return rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())


def key_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def called(name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


# Where clients could ask for revocation. Nobody listens there: no client of the run asks, but some look for it.
REVOCATION = "http://127.0.0.1:1/"


class Certificate:
    """A certificate in a file of its own, chain included, and its key in another."""

    def __init__(self, folder, name, certificate, key):
        self.certificate = certificate
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self.pem = certificate.public_bytes(PEM)
        self.cert.write_bytes(self.pem)
        self.key.write_bytes(key_pem(key))
        self.fingerprint = hashlib.sha256(certificate.public_bytes(DER)).hexdigest()

    def pair(self):
        """As evenkeel's configuration has it."""
        return {"cert": str(self.cert), "key": str(self.key)}

    def expiry(self):
        """In Unix time."""
        return self.certificate.not_valid_after_utc.timestamp()

    def base64(self):
        """Its DER, as RFC 9440 has it between colons."""
        return base64.b64encode(self.certificate.public_bytes(DER)).decode()

    def key_digest(self):
        """SHA-256 of the public key, which Chromium can be told to trust."""
        public = self.certificate.public_key().public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).digest()


class Authority:
    def __init__(self, folder, name="evenkeel acceptance"):
        self.folder, self.key = folder, new_key("ec")
        self.subject = called(name)
        self.issued = {}
        now = datetime.now(timezone.utc)
        self.certificate = (
            x509.CertificateBuilder().subject_name(self.subject).issuer_name(self.subject)
            .public_key(self.key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256()))
        self.path = folder / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(self.certificate.public_bytes(PEM))

    def issue(self, name, hosts, kind="ec", key=None):
        """For these names; `name` is what its files are called. `key`: one that exists already."""
        key = key or new_key(kind)
        now = datetime.now(timezone.utc)
        usage = x509.KeyUsage(True, False, kind == "rsa", False, False, False, False, False, False)
        uri = x509.UniformResourceIdentifier(REVOCATION)
        responder = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri)
        certificate = (
            x509.CertificateBuilder().subject_name(called(hosts[0])).issuer_name(self.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(usage, True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), False)
            .add_extension(x509.AuthorityInformationAccess([responder]), False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256()))
        self.issued[name] = Certificate(self.folder, name, certificate, key)
        return self.issued[name]

    def staple(self, issued):
        """The file of an OCSP answer, good for a week, that says `good`."""
        now = datetime.now(timezone.utc)
        answer = (
            ocsp.OCSPResponseBuilder()
            .add_response(issued.certificate, self.certificate, hashes.SHA1(), ocsp.OCSPCertStatus.GOOD,
                          now - timedelta(hours=1), now + timedelta(days=7), None, None)
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(self.key, hashes.SHA256()))
        path = issued.cert.with_suffix(".ocsp")
        path.write_bytes(answer.public_bytes(DER))
        return path
