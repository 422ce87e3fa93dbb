//! Writes OCSP responses (RFC 6960 section 4.2.1) as authorities do, but for the signature, which only clients check.

/// What an authority says of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status {
    Good,
    Revoked,
    Unknown,
}

/// What a response is about; times like `20300101000000Z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub(crate) serial: &'a [u8],
    /// SHA-1 of the issuer's name.
    pub(crate) issuer: &'a [u8],
    pub(crate) status: Status,
    pub(crate) since: &'a str,
    pub(crate) until: Option<&'a str>,
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).expect("a short value").to_be_bytes();
    let head = if content.len() < 128 { vec![tag, length[1]] } else { vec![tag, 0x82, length[0], length[1]] };
    [head, content].concat()
}

impl Response<'_> {
    pub(crate) fn der(&self) -> Vec<u8> {
        const SEQUENCE: u8 = 0x30;
        const OCTETS: u8 = 4;
        const TIME: u8 = 24;
        let explicit = |number: u8, value: &[u8]| tlv(0xa0 | number, &[value]);
        // SHA-1, with the NULL that comes after it.
        let algorithm = tlv(SEQUENCE, &[&[6, 5, 0x2b, 0x0e, 3, 2, 0x1a, 5, 0]]);
        let key = tlv(OCTETS, &[&[7; 20]]);
        let id = tlv(SEQUENCE, &[&algorithm, &tlv(OCTETS, &[self.issuer]), &key, &tlv(2, &[self.serial])]);
        let status = match self.status {
            Status::Good => vec![0x80, 0],
            Status::Revoked => explicit(1, &tlv(TIME, &[b"20200101000000Z"])),
            Status::Unknown => vec![0x82, 0],
        };
        let since = tlv(TIME, &[self.since.as_bytes()]);
        let until = self.until.map_or(Vec::new(), |until| explicit(0, &tlv(TIME, &[until.as_bytes()])));
        let single = tlv(SEQUENCE, &[&id, &status, &since, &until]);
        let responder = explicit(2, &tlv(OCTETS, &[&[7; 20]]));
        let tbs = tlv(SEQUENCE, &[&responder, &since, &tlv(SEQUENCE, &[&single])]);
        let signature = tlv(3, &[&[0; 65]]);
        let basic = tlv(SEQUENCE, &[&tbs, &algorithm, &signature]);
        // 1.3.6.1.5.5.7.48.1.1
        let kind = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
        let bytes = tlv(SEQUENCE, &[&kind, &tlv(OCTETS, &[&basic])]);
        tlv(SEQUENCE, &[&[0x0a, 1, 0], &explicit(0, &bytes)])
    }
}
