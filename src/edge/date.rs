//! The Date of responses (RFC 9110 sections 5.6.7 and 6.6.1), written once a second for each core.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const IMF_FIXDATE: &[FormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

thread_local! {
    static STAMP: Cell<(u64, HttpDate)> = const { Cell::new((0, HttpDate(*b"Thu, 01 Jan 1970 00:00:00 GMT"))) };
}

/// A time as fields have it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpDate([u8; 29]);

impl HttpDate {
    pub(crate) fn of(now: SystemTime) -> Self {
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (at, stamp) = STAMP.get();
        if at == second {
            return stamp;
        }
        // A year beyond four digits does not fit: the last that did stays.
        let date = written(second).map_or(stamp, Self);
        STAMP.set((second, date));
        date
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a date is in ASCII")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn written(second: u64) -> Option<[u8; 29]> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(second).ok()?).ok()?;
    time.format(IMF_FIXDATE).ok()?.into_bytes().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_as_rfc_9110_has_it() {
        for (second, text) in
            [(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT")]
        {
            assert_eq!(HttpDate::of(UNIX_EPOCH + Duration::from_millis(second * 1000 + 999)).as_str(), text);
        }
    }
}
