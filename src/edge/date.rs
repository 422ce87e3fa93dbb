//! The Date of responses (RFC 9110 sections 5.6.7 and 6.6.1), written once a second for each core.

use http::HeaderValue;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

const IMF_FIXDATE: &[FormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

thread_local! {
    static STAMP: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
}

/// The field's value at this time.
pub(crate) fn date(now: SystemTime) -> HeaderValue {
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    STAMP.with_borrow_mut(|(at, stamp)| {
        if *at != second {
            *at = second;
            *stamp = written(second);
        }
        // It shares its bytes.
        stamp.clone()
    })
}

fn written(second: u64) -> HeaderValue {
    let time =
        OffsetDateTime::from_unix_timestamp(second.cast_signed()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let text = time.format(IMF_FIXDATE).unwrap_or_default();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
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
            assert_eq!(date(UNIX_EPOCH + Duration::from_millis(second * 1000 + 999)), text);
        }
    }
}
