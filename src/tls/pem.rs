//! PEM as it is found: with a byte order mark, with the labels of older software, and with mistakes that are to be told in
//! words (RFC 7468).

use std::borrow::Cow;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What some editors and shells put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What OpenSSL calls a certificate besides `CERTIFICATE`. After a `TRUSTED` one comes what it may be used for.
const OTHER_LABELS: [&[u8]; 2] = [b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE"];

/// The certificates in a text, in order; there may be none.
///
/// # Errors
/// What is wrong, in words that go after the file's name.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = with_usual_labels(without_mark(bytes));
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read = read.map_err(|error| format!("is not good PEM: {}", in_words(&error)))?;
    Ok(read.into_iter().map(alone).collect())
}

/// The first private key in a text.
pub(crate) fn private_key(bytes: &[u8]) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(without_mark(bytes)).ok()
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

fn with_usual_labels(text: &[u8]) -> Cow<'_, [u8]> {
    let mut text = Cow::Borrowed(text);
    for label in OTHER_LABELS {
        while let Some(at) = text.windows(label.len()).position(|part| part == label) {
            text.to_mut().splice(at..at + label.len(), b"CERTIFICATE".iter().copied());
        }
    }
    text
}

/// Without what comes after it.
fn alone(certificate: CertificateDer<'static>) -> CertificateDer<'static> {
    match x509_parser::parse_x509_certificate(&certificate) {
        Ok((rest, _)) if !rest.is_empty() => {
            CertificateDer::from(certificate[..certificate.len() - rest.len()].to_vec())
        }
        _ => certificate,
    }
}

fn in_words(error: &Error) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("the line `-----END {}-----` is missing", text(end_marker.trim_ascii()))
        }
        Error::IllegalSectionStart { line } => {
            format!("`{}` begins no section", text(line.trim_ascii()))
        }
        Error::Base64Decode(error) => format!("a section is not base64 ({error})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_byte_order_mark_and_older_labels_are_no_obstacle() {
        let (certificate, key) = made();
        let plain = certificates(certificate.as_bytes()).expect("good PEM");
        assert_eq!(plain.len(), 1);
        for label in ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"] {
            let other = format!("\u{feff}{}", certificate.replace("CERTIFICATE", label));
            assert_eq!(certificates(other.as_bytes()), Ok(plain.clone()), "{label}");
        }
        let trusted = [&plain[0][..], b"\x30\x00"].concat();
        let base64 = data_encoding::BASE64.encode(&trusted);
        let text =
            format!("-----BEGIN TRUSTED CERTIFICATE-----\n{base64}\n-----END TRUSTED CERTIFICATE-----\n");
        assert_eq!(certificates(text.as_bytes()), Ok(plain), "without what it may be used for");
        assert!(private_key(format!("\u{feff}{key}").as_bytes()).is_some());
    }

    #[test]
    fn mistakes_are_told_in_words() {
        for (text, expected) in [
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                "is not good PEM: the line `-----END CERTIFICATE-----` is missing",
            ),
            ("-----BEGIN CERTIFICATE\nAAAA\n", "is not good PEM: `-----BEGIN CERTIFICATE` begins no section"),
        ] {
            assert_eq!(certificates(text.as_bytes()), Err(expected.to_owned()));
        }
        let said = certificates(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
        assert!(said.is_err_and(|said| said.contains("a section is not base64")));
        assert_eq!(certificates(b"nothing of the kind\n"), Ok(Vec::new()));
    }
}
