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
    Ok(read.map_err(|error| in_words(&error))?.into_iter().map(alone).collect())
}

/// The first private key in a text, if there is one.
///
/// # Errors
/// As of [`certificates`]: nothing of a key.
pub(crate) fn private_key(bytes: &[u8]) -> Result<Option<PrivateKeyDer<'static>>, String> {
    match PrivateKeyDer::from_pem_slice(without_mark(bytes)) {
        Ok(key) => Ok(Some(key)),
        Err(Error::NoItemsFound) => Ok(None),
        Err(error) => Err(in_words(&error)),
    }
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

/// Of what the file holds no more than titles: what follows them may be a key.
fn in_words(error: &Error) -> String {
    let what = match error {
        // The whole title, up to the line's last five dashes.
        Error::MissingSectionEnd { end_marker } => match label(end_marker) {
            (label, true) => format!("the line `-----END {label}-----` is missing"),
            (label, false) => format!("something stands behind `-----BEGIN {label}-----` on its line"),
        },
        Error::IllegalSectionStart { line } => {
            let hint = match line.windows(2).any(|two| two == b"\\n") {
                true => ": it has the two characters `\\n` where lines should end",
                false => "",
            };
            format!("`{}` begins no section{hint}", title(line))
        }
        Error::Base64Decode(_) => "a section is not base64".to_owned(),
        other => other.to_string(),
    };
    format!("is not good PEM: {what}")
}

const LONGEST_TITLE: usize = 64;
/// Of one whose end is not there, with `-----BEGIN `: behind it the key may begin.
const OPEN_TITLE: usize = 26;
const DASHES: &[u8] = b"-----";

/// A line up to where its title ends.
fn title(line: &[u8]) -> String {
    let line = line.trim_ascii();
    let begins = usize::from(line.starts_with(DASHES)) * DASHES.len();
    let end = match dashes(&line[begins..]) {
        Some(end) => LONGEST_TITLE.min(begins + end + DASHES.len()),
        None => OPEN_TITLE.min(line.len()),
    };
    let shown = words(&line[..end]);
    let rest = if shown.len() < line.len() { "…" } else { "" };
    format!("{}{rest}", shown.escape_ascii())
}

/// What kind of section it is, and whether nothing follows that.
fn label(marker: &[u8]) -> (String, bool) {
    let marker = marker.trim_ascii();
    let end = dashes(marker).unwrap_or(marker.len());
    let shown = words(&marker[..end.min(LONGEST_TITLE)]);
    let rest = if shown.len() < end { "…" } else { "" };
    (format!("{}{rest}", shown.escape_ascii()), end == marker.len())
}

/// As far as it is like a title's words: a key in their place is not for long.
fn words(text: &[u8]) -> &[u8] {
    let is_other = |byte: &u8| !matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'-');
    &text[..text.iter().position(is_other).unwrap_or(text.len())]
}

fn dashes(text: &[u8]) -> Option<usize> {
    text.windows(DASHES.len()).position(|part| part == DASHES)
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
        assert!(private_key(format!("\u{feff}{key}").as_bytes()).is_ok_and(|key| key.is_some()));
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
        assert_eq!(said, Err("is not good PEM: a section is not base64".to_owned()));
        assert_eq!(certificates(b"nothing of the kind\n"), Ok(Vec::new()));
    }

    /// A file that was made of a variable of the environment, say.
    #[test]
    fn nothing_of_a_key_is_told_whatever_is_wrong_with_its_file() {
        let (certificate, key) = made();
        let base64: Vec<_> = key.lines().filter(|line| !line.starts_with("-----")).collect();
        let in_one_line = |text: &str| text.replace('\n', "\\n");
        for (text, expected) in [
            (
                in_one_line(&(certificate.clone() + &key)),
                "`-----BEGIN CERTIFICATE-----…` begins no section: it has the two characters `\\n` where lines should end",
            ),
            (
                in_one_line(&key),
                "`-----BEGIN PRIVATE KEY-----…` begins no section: it has the two characters `\\n` where lines should end",
            ),
            (key.replace('\n', " "), "something stands behind `-----BEGIN PRIVATE KEY-----` on its line"),
            (key.replace("KEY-----\n", "KEY"), "begins no section"),
            (key.replacen("-----\n", "----- x\n", 1), "`-----BEGIN PRIVATE KEY-----…` begins no section"),
            (key[..key.len() - 40].to_owned(), "the line `-----END PRIVATE KEY-----` is missing"),
            (key.replacen("\nM", "\n!M", 1), "a section is not base64"),
            (key.replacen("PRIVATE KEY", &base64.concat(), 1), "` is missing"),
            (key.replacen("PRIVATE KEY-----", &base64.concat(), 1), "begins no section"),
        ] {
            let (of_key, of_chain) = (private_key(text.as_bytes()), certificates(text.as_bytes()));
            for said in [of_key.err(), of_chain.err()].into_iter().flatten() {
                assert!(said.ends_with(expected) || said.contains(expected), "{said}");
                assert!(base64.iter().all(|line| !said.contains(&line[..8])), "{said}");
            }
            assert!(private_key(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(private_key(certificate.as_bytes()), Ok(None));
    }
}
