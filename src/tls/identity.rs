//! Who a client is by its certificate: as servers and the log are told.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// What is known of a client whose certificate was verified.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    /// The certificate as the Client-Cert field has it (RFC 9440 section 2.1): a byte sequence of RFC 8941.
    pub(crate) certificate: String,
    /// Its subject, like `CN=alice,O=Shop` (RFC 4514).
    pub(crate) subject: String,
    /// SHA-256 of the certificate in hexadecimal digits.
    pub(crate) fingerprint: String,
    /// When it ends, in seconds since 1970.
    not_after: i64,
}

impl ClientIdentity {
    /// Reads a certificate that was verified.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self {
            certificate: format!(":{}:", BASE64.encode(certificate)),
            subject: spell(parsed.subject()),
            fingerprint: HEXLOWER.encode(digest(&SHA256, certificate).as_ref()),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }

    /// Whether the certificate has expired. A resumed session brings it along without it being verified again, and
    /// hands out the next ticket: without this, one that is over would do for ever.
    pub(crate) fn is_over(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        i64::try_from(now).is_ok_and(|now| now > self.not_after)
    }
}

/// A name as RFC 4514 writes it: the last part first, and nothing in a value can be taken for another part. What is not
/// visible ASCII is written as bytes, so that it fits into a field.
fn spell(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.into_iter().rev().enumerate() {
        for (among, attribute) in part.iter().enumerate() {
            match (at, among) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            spell_attribute(attribute, &mut text);
        }
    }
    text
}

fn spell_attribute(attribute: &AttributeTypeAndValue<'_>, text: &mut String) {
    let oid = attribute.attr_type().to_id_string();
    match KINDS.iter().find(|(known, _)| *known == oid) {
        Some((_, kind)) => text.push_str(kind),
        None => text.push_str(&oid),
    }
    text.push('=');
    let value = attribute.as_slice();
    for (at, &byte) in value.iter().enumerate() {
        let is_edge = at == 0 || at + 1 == value.len();
        // RFC 4514 section 2.4.
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => text.extend(['\\', byte as char]),
            b' ' if is_edge => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'~' => text.push(byte as char),
            _ => {
                // Writing to a text cannot fail.
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

/// The short names of RFC 4514 section 3, and of what else certificates often have.
const KINDS: [(&str, &str); 13] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use std::time::Duration;

    fn identity(parts: &[(DnType, &str)], year: i32) -> ClientIdentity {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| parameters.distinguished_name.push(kind.clone(), *value));
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        ClientIdentity::of(certificate.der()).unwrap()
    }

    #[test]
    fn a_subject_is_one_line_that_cannot_be_read_two_ways() {
        let check = |parts: &[(DnType, &str)], subject| assert_eq!(identity(parts, 2100).subject, subject);
        let name = DnType::CommonName;
        check(&[(DnType::OrganizationName, "Shop"), (name.clone(), "alice")], "CN=alice,O=Shop");
        check(&[(name.clone(), "a,O=Bank+x=\"\\<>;")], "CN=a\\,O\\=Bank\\+x\\=\\\"\\\\\\<\\>\\;");
        check(&[(name.clone(), " # a ")], "CN=\\ # a\\ ");
        check(&[(name.clone(), "#a")], "CN=\\#a");
        check(&[(name, "Zo\u{eb}\r\nX: 1")], "CN=Zo\\C3\\AB\\0D\\0AX: 1");
        check(&[(DnType::CustomDnType(vec![1, 2, 3]), "x")], "1.2.3=x");
        check(&[], "");
    }

    #[test]
    fn a_certificate_is_a_byte_sequence_of_structured_fields() {
        let identity = identity(&[], 2100);
        let inner = identity.certificate.strip_prefix(':').and_then(|text| text.strip_suffix(':')).unwrap();
        let der = BASE64.decode(inner.as_bytes()).unwrap();
        assert_eq!(ClientIdentity::of(&CertificateDer::from(der)).unwrap(), identity);
        assert_eq!(identity.fingerprint.len(), 64);
        assert_eq!(ClientIdentity::of(&CertificateDer::from(b"no certificate".to_vec())), None);
    }

    #[test]
    fn a_certificate_is_over_when_its_last_second_is() {
        // The first of January 2030.
        let end = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        let identity = identity(&[], 2030);
        assert!(!identity.is_over(end));
        assert!(identity.is_over(end + Duration::from_secs(1)));
    }
}
