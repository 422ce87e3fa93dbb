//! Times in fields (RFC 9110 section 5.6.7), and the times that are reckoned with.

use std::time::Duration;

/// A time, in milliseconds since 1970. Who has a clock says what time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// Milliseconds from another one to this; none if that is later.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    }
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// Reads a time in one of its three forms. Letters may be of either case, as some servers have them, and the day of the week
/// may be another one than that date's, which says the same; all else is as it is written down.
pub(crate) fn parse(value: &[u8]) -> Option<Moment> {
    let text = value.trim_ascii().to_ascii_lowercase();
    let is_short = |day: &[u8]| DAYS.iter().any(|name| &name.as_bytes()[..3] == day);
    if let Some(([d0, d1, d2, b',', b' '], rest)) = text.split_first_chunk() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let [n0, n1, b' ', m0, m1, m2, b' ', y0, y1, y2, y3, b' ', time @ .., b' ', b'g', b'm', b't'] = rest
        else {
            return None;
        };
        let date = (&[*y0, *y1, *y2, *y3][..], [*m0, *m1, *m2], [*n0, *n1]);
        return is_short(&[*d0, *d1, *d2]).then(|| moment(date, time)).flatten();
    }
    if let Some(comma) = text.iter().position(|byte| *byte == b',') {
        // Sunday, 06-Nov-94 08:49:37 GMT
        let (day, rest) = text.split_at(comma);
        let [b',', b' ', n0, n1, b'-', m0, m1, m2, b'-', y0, y1, b' ', time @ .., b' ', b'g', b'm', b't'] =
            rest
        else {
            return None;
        };
        let year = [if *y0 < b'7' { *b"20" } else { *b"19" }, [*y0, *y1]].concat();
        let date = (&year[..], [*m0, *m1, *m2], [*n0, *n1]);
        return DAYS.iter().any(|name| name.as_bytes() == day).then(|| moment(date, time)).flatten();
    }
    // Sun Nov  6 08:49:37 1994
    let [d0, d1, d2, b' ', m0, m1, m2, b' ', n0, n1, b' ', time @ .., b' ', y0, y1, y2, y3] = &text[..]
    else {
        return None;
    };
    let n0 = if *n0 == b' ' { b'0' } else { *n0 };
    let date = (&[*y0, *y1, *y2, *y3][..], [*m0, *m1, *m2], [n0, *n1]);
    is_short(&[*d0, *d1, *d2]).then(|| moment(date, time)).flatten()
}

/// The moment at which this day has this time.
fn moment((year, month, day): (&[u8], [u8; 3], [u8; 2]), time: &[u8]) -> Option<Moment> {
    let number = |digits: &[u8]| super::directives::digits(digits);
    let [h0, h1, b':', m0, m1, b':', s0, s1] = time else { return None };
    let (hour, minute, second) = (number(&[*h0, *h1])?, number(&[*m0, *m1])?, number(&[*s0, *s1])?);
    let month = MONTHS.iter().zip(1..).find(|(name, _)| ***name == month)?.1;
    let (year, day) = (i32::try_from(number(year)?).ok()?, u8::try_from(number(&day)?).ok()?);
    let date = time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()?;
    // A leap second is the one before it.
    let second = second.min(if second == 60 { 59 } else { second });
    let of_day = (hour < 24 && minute < 60 && second < 60).then_some((hour * 60 + minute) * 60 + second)?;
    let days = u64::try_from(date.to_julian_day() - EPOCH).ok()?;
    Some(Moment((days * 86_400 + of_day) * 1000))
}

/// 1970, in days of the Julian calendar.
const EPOCH: i32 = 2_440_588;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_forms_and_no_others() {
        let at = Some(Moment(784_111_777_000));
        for (text, moment) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", at),
            ("sUN, 06 nOV 1994 08:49:37 gMT", at),
            ("Sunday, 06-Nov-94 08:49:37 GMT", at),
            ("Sun Nov  6 08:49:37 1994", at),
            ("Mon Nov 06 08:49:37 1994", at),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(Moment(0))),
            ("Thu, 29 Feb 2024 23:59:60 GMT", Some(Moment(1_709_251_199_000))),
            ("Wed, 29 Feb 2023 00:00:00 GMT", None),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 Nov 94 08:49:37 GMT", None),
            ("Sun 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06  Nov 1994 08:49:37 GMT", None),
            ("Sun, 06-Nov-1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08.49.37 GMT", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("0", None),
            ("", None),
            ("Sün, 06 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(parse(text.as_bytes()), moment, "{text}");
        }
    }
}
