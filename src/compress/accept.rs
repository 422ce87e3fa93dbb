//! Which codings a client takes (RFC 9110 section 12.5.3).

use crate::config::plan::compress::Encoding;
use crate::fields::{FieldList, tokens};
use http::header;
use smallvec::SmallVec;

/// In thousandths, as a weight has three digits at most (RFC 9110 section 12.4.2).
type Weight = u16;
const MOST: Weight = 1000;

/// What a client has said of each coding.
#[derive(Debug, Default)]
struct Weights {
    codings: [Option<Weight>; Encoding::ALL.len()],
    identity: Option<Weight>,
    /// `*`: of what is not named.
    others: Option<Weight>,
}

impl Weights {
    fn of(fields: FieldList<'_>) -> Self {
        let mut weights = Self::default();
        for item in tokens(fields.all(&header::ACCEPT_ENCODING)) {
            let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().unwrap_or_default();
            let weight = parts.next().map_or(MOST, |part| weight(part).unwrap_or(0));
            if let Some(place) = weights.place(coding) {
                // Of what is said twice the first stands.
                place.get_or_insert(weight);
            }
        }
        weights
    }

    fn place(&mut self, coding: &[u8]) -> Option<&mut Option<Weight>> {
        let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        if is("*") {
            return Some(&mut self.others);
        }
        if is("identity") {
            return Some(&mut self.identity);
        }
        // RFC 9110 section 8.4.1.3.
        let same = |known: Encoding| is(known.label()) || known == Encoding::Gzip && is("x-gzip");
        let at = Encoding::ALL.iter().position(|known| same(*known))?;
        self.codings.get_mut(at)
    }

    fn of_coding(&self, encoding: Encoding) -> Weight {
        self.codings[encoding as usize].or(self.others).unwrap_or(0)
    }
}

/// `q=0.5`; `None` if it is no weight.
pub(crate) fn weight(part: &[u8]) -> Option<Weight> {
    let value = part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q="))?;
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let of_digit = |(at, digit): (usize, &u8)| Weight::from(digit - b'0') * [100, 10, 1][at];
    let fraction: Weight = digits.iter().enumerate().map(of_digit).sum();
    match (whole, fraction) {
        (b'0', _) => Some(fraction),
        (b'1', 0) => Some(MOST),
        _ => None,
    }
}

/// Those of `ours` that a client takes rather than plain bytes: what it likes best first, and what it likes as much in our
/// order. One that says nothing takes none.
pub(crate) fn acceptable(ours: &[Encoding], fields: FieldList<'_>) -> SmallVec<[Encoding; 3]> {
    let weights = Weights::of(fields);
    let least = weights.identity.unwrap_or(0).max(1);
    let mut taken: SmallVec<[Encoding; 3]> =
        ours.iter().copied().filter(|encoding| weights.of_coding(*encoding) >= least).collect();
    // It keeps the order of equals.
    taken.sort_by_key(|encoding| std::cmp::Reverse(weights.of_coding(*encoding)));
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn check(accept: &[&'static str], wanted: &str) {
        let mut map = HeaderMap::new();
        for value in accept {
            map.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        let taken = acceptable(&Encoding::ALL, FieldList::Map(&map));
        let labels: Vec<_> = taken.iter().map(|encoding| encoding.label()).collect();
        assert_eq!(labels.join(" "), wanted, "{accept:?}");
    }

    #[test]
    fn weights_decide_and_our_order_breaks_ties() {
        check(&["gzip, deflate, br, zstd"], "zstd br gzip");
        check(&["gzip, br;q=0.9, zstd;q=0.5"], "gzip br zstd");
        check(&["gzip;q=0.5", "br"], "br gzip");
        check(&["GZIP , ,Br ; Q=0.100"], "gzip br");
        check(&["*"], "zstd br gzip");
        check(&["*;q=0.5, gzip"], "gzip zstd br");
        check(&["x-gzip"], "gzip");
        check(&["br;q=0.001"], "br");
    }

    #[test]
    fn what_is_not_taken_is_not_sent() {
        check(&[], "");
        check(&[""], "");
        check(&["deflate, compress"], "");
        check(&["gzip;q=0"], "");
        check(&["gzip;q=0, *"], "zstd br");
        check(&["*;q=0"], "");
        check(&["br;q=0.000, gzip;q=1.000"], "gzip");
    }

    #[test]
    fn plain_bytes_may_be_liked_better() {
        check(&["identity, gzip;q=0.5"], "");
        check(&["identity;q=0.5, gzip, br;q=0.4"], "gzip");
        check(&["identity, gzip"], "gzip");
        check(&["identity;q=0, gzip;q=0.1"], "gzip");
        check(&["identity;q=0"], "");
    }

    #[test]
    fn a_weight_that_is_none_is_no_consent() {
        for q in ["q=", "q=2", "q=1.5", "q=1.001", "q=0.1234", "q=-1", "q=.5", "q=0,5;x", "quality=1", "q =1"]
        {
            let accept: &'static str = Box::leak(format!("gzip;{q}").into_boxed_str());
            check(&[accept], "");
        }
    }
}
