//! A certificate's OCSP staple: the authority's word that it is good, from a file that somebody else keeps fresh.
//!
//! What is wrong with one is worth a warning and no more. It is sent to spare clients a question, and a staple that is
//! late after a renewal must not keep the new certificate out.

use super::certificate_file::{FileFault, contents, seconds};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::path::Path;
use std::time::SystemTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::time::ASN1Time;

/// A response that may be sent along with its certificate.
#[derive(Debug)]
pub(super) struct Staple {
    pub(super) response: Vec<u8>,
    /// When it may no longer be sent, in seconds since 1970; `None` is never.
    pub(super) until: Option<i64>,
}

impl Staple {
    /// Reads the staple of this certificate, and says what is wrong with it.
    pub(super) fn read(
        file: &Path,
        certificate: &X509Certificate<'_>,
        now: SystemTime,
        faults: &mut Vec<FileFault>,
    ) -> Option<Self> {
        const REFRESH: &str = "fetch it anew (`openssl ocsp -respout`) and reload; until then none is sent";
        let mut warn = |what: &str, help: &str| faults.push(FileFault::warning("ocsp", file, what, help));
        let response = match contents("ocsp", file) {
            Ok(response) => response,
            Err(fault) => {
                faults.push(fault.into_warning(REFRESH));
                return None;
            }
        };
        let single = match find(&response, certificate) {
            Ok(single) => single,
            Err(what) => {
                warn(what, REFRESH);
                return None;
            }
        };
        if single.since > seconds(now) {
            warn("is an OCSP response of the future", "look at this machine's clock");
        }
        match single.status {
            OcspStatus::Good => {}
            OcspStatus::Revoked => {
                warn("says that the certificate is revoked", "clients refuse it; get another")
            }
            OcspStatus::Unknown => {
                warn("says that the authority does not know the certificate", "ask the one that it is from");
                return None;
            }
        }
        if single.until.is_some_and(|until| until < seconds(now)) {
            warn("is an OCSP response that has expired", REFRESH);
        }
        Some(Self { until: single.until, response })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OcspStatus {
    Good,
    Revoked,
    Unknown,
}

/// What a response says of one certificate.
#[derive(Debug, PartialEq, Eq)]
struct Single {
    status: OcspStatus,
    since: i64,
    until: Option<i64>,
}

const MALFORMED: &str = "is no OCSP response in DER";

/// What a response says of this certificate. Its signature is left to clients, who have to check it anyway.
fn find(response: &[u8], certificate: &X509Certificate<'_>) -> Result<Single, &'static str> {
    let singles = singles(response)?;
    let mut rest = singles.data;
    while !rest.is_empty() {
        let mut single = DerParts(take(&mut rest)?.data);
        let mut id = DerParts(single.of(Tag::Sequence)?.data);
        id.of(Tag::Sequence)?;
        let (issuer, _) = (id.of(Tag::OctetString)?.data, id.of(Tag::OctetString)?);
        let serial = id.of(Tag::Integer)?.data;
        let status = single.next()?;
        let status = match status.header.tag().0 {
            _ if status.header.class() != Class::ContextSpecific => return Err(MALFORMED),
            0 => OcspStatus::Good,
            1 => OcspStatus::Revoked,
            2 => OcspStatus::Unknown,
            _ => return Err(MALFORMED),
        };
        let since = time(single.0)?;
        single.next()?;
        let until = single.explicit(0).map(|inner| time(inner.data)).transpose()?;
        let name = certificate.issuer().as_raw();
        // Responders take SHA-1 (RFC 5019 section 2.1.1), or SHA-256 (RFC 9654).
        let is_issuers =
            [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256].iter().any(|by| digest(by, name).as_ref() == issuer);
        if is_issuers && serial == certificate.raw_serial() {
            return Ok(Single { status, since, until });
        }
    }
    Err("is an OCSP response for another certificate")
}

/// The list of responses for single certificates (RFC 6960 section 4.2.1).
fn singles(response: &[u8]) -> Result<Any<'_>, &'static str> {
    // id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1.
    const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let mut outer = DerParts(DerParts(response).of(Tag::Sequence)?.data);
    if outer.of(Tag::Enumerated)?.data != [0] {
        return Err("is an OCSP response without an answer, as responders give when they are in trouble");
    }
    let bytes = outer.explicit(0).ok_or(MALFORMED)?;
    let mut bytes = DerParts(DerParts(bytes.data).of(Tag::Sequence)?.data);
    if bytes.of(Tag::Oid)?.data != BASIC {
        return Err("is an OCSP response of an unknown kind");
    }
    let basic = bytes.of(Tag::OctetString)?.data;
    let mut basic = DerParts(DerParts(basic).of(Tag::Sequence)?.data);
    let mut data = DerParts(basic.of(Tag::Sequence)?.data);
    // The version, who responds, and when.
    data.explicit(0);
    data.next()?;
    data.of(Tag::GeneralizedTime)?;
    data.of(Tag::Sequence)
}

fn time(bytes: &[u8]) -> Result<i64, &'static str> {
    ASN1Time::from_der(bytes).map(|(_, time)| time.timestamp()).map_err(|_| MALFORMED)
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Any<'a>, &'static str> {
    let (after, any) = Any::from_der(rest).map_err(|_| MALFORMED)?;
    *rest = after;
    Ok(any)
}

/// What is left of a sequence.
struct DerParts<'a>(&'a [u8]);

impl<'a> DerParts<'a> {
    fn next(&mut self) -> Result<Any<'a>, &'static str> {
        take(&mut self.0)
    }

    fn of(&mut self, tag: Tag) -> Result<Any<'a>, &'static str> {
        let any = self.next()?;
        let is_it = any.header.tag() == tag && any.header.class() == Class::Universal;
        is_it.then_some(any).ok_or(MALFORMED)
    }

    /// The next part, if it has this number in the sequence.
    fn explicit(&mut self, number: u32) -> Option<Any<'a>> {
        let (after, any) = Any::from_der(self.0).ok()?;
        let is_it = any.header.tag().0 == number && any.header.class() == Class::ContextSpecific;
        is_it.then(|| {
            self.0 = after;
            any
        })
    }
}

#[cfg(test)]
#[path = "../../tests/support/ocsp.rs"]
mod ocsp;

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SerialNumber};

    const SERIAL: &[u8] = &[0x5a, 1, 2, 3];

    fn certificate() -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        parameters.serial_number = Some(SerialNumber::from(SERIAL.to_vec()));
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn check(response: &[u8], expected: Result<Single, &'static str>) {
        let der = certificate();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(find(response, &parsed), expected);
    }

    #[test]
    fn a_response_is_read_whatever_it_says() {
        let der = certificate();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let [old, new] = [&SHA1_FOR_LEGACY_USE_ONLY, &SHA256].map(|by| digest(by, parsed.issuer().as_raw()));
        let good = ocsp::Response {
            serial: SERIAL,
            issuer: old.as_ref(),
            status: ocsp::Status::Good,
            since: "20200101000000Z",
            until: Some("20300101000000Z"),
        };
        let (since, until) = (1_577_836_800, Some(1_893_456_000));
        let single = |status, until| Ok(Single { status, since, until });
        check(&good.der(), single(OcspStatus::Good, until));
        check(&ocsp::Response { issuer: new.as_ref(), ..good }.der(), single(OcspStatus::Good, until));
        check(&ocsp::Response { until: None, ..good }.der(), single(OcspStatus::Good, None));
        let status = ocsp::Status::Revoked;
        check(&ocsp::Response { status, ..good }.der(), single(OcspStatus::Revoked, until));
        let status = ocsp::Status::Unknown;
        check(&ocsp::Response { status, ..good }.der(), single(OcspStatus::Unknown, until));
        let other = Err("is an OCSP response for another certificate");
        check(&ocsp::Response { serial: &[1], ..good }.der(), other);
        let other = Err("is an OCSP response for another certificate");
        check(&ocsp::Response { issuer: &[1; 20], ..good }.der(), other);
        let der = good.der();
        // Wherever it is cut off.
        (0..der.len()).for_each(|length| check(&der[..length], Err(MALFORMED)));
        // tryLater has no bytes.
        let trouble = "is an OCSP response without an answer, as responders give when they are in trouble";
        check(&[0x30, 3, 0x0a, 1, 3], Err(trouble));
        check(b"-----BEGIN OCSP", Err(MALFORMED));
    }
}
