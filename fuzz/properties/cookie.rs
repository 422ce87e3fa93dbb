//! Of sticky cookies: found wherever they lie in fields, taken away without a trace, and believed only if they are ours.

use evenkeel::cookie::{CookieEdit, edited, set, unquoted, values};
use evenkeel::sticky::{StickyKeys, StickyTable, split_suffix};
use std::borrow::Cow;

/// The cookie's name in `corpus/cookie`.
const NAME: &str = "EK";

/// Lines are fields of one request.
pub(crate) fn of_cookies(bytes: &[u8]) {
    let keys = StickyKeys::parse(&format!("{:x<32}\n{:y<32}", "key", "older")).expect("good keys");
    let table = StickyTable::new(&keys, "app", ["app1", "app2"].into_iter());
    for value in values(bytes.split(|byte| *byte == b'\n'), NAME) {
        assert!(!value.contains(&b';'), "{value:?}");
        let inner = unquoted(value);
        is_ours_or_nobodys(&table, inner);
        if let Some((own, token)) = split_suffix(inner) {
            assert_eq!([own, b"~", token].concat(), inner);
            is_ours_or_nobodys(&table, token);
        }
    }
    for field in bytes.split(|byte| *byte == b'\n') {
        leaves_the_others(field);
        if let Some((value, attributes)) = set(field, NAME) {
            let whole = [b"=", value].concat();
            let behind = field.trim_ascii_start().strip_prefix(NAME.as_bytes()).expect("its name");
            assert!(behind.trim_ascii_start().starts_with(&whole) && field.ends_with(attributes));
            assert!(attributes.is_empty() || attributes[0] == b';');
        }
    }
}

/// A cookie that means something is the one that is issued for it.
fn is_ours_or_nobodys(table: &StickyTable, token: &[u8]) {
    let Some(binding) = table.find(token).filter(|binding| binding.is_current) else { return };
    let server = binding.server.expect("no other server was ever signed for");
    assert_eq!(table.issue(server, binding.minute).expect("there is a key").as_bytes(), token);
}

fn leaves_the_others(field: &[u8]) {
    let others = |field: &[u8]| {
        let pairs = field.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_it = |pair: &[u8]| {
            let end = pair.iter().position(|byte| *byte == b'=');
            end.is_some_and(|end| pair[..end].trim_ascii_end() == NAME.as_bytes())
        };
        let is_other = |pair: &&[u8]| !pair.is_empty() && !is_it(pair);
        pairs.filter(is_other).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let n = values(std::iter::once(field), NAME).count();
    let gone = edited(field, NAME, |_| CookieEdit::Goes);
    assert_eq!(gone.is_some(), n > 0);
    if let Some(gone) = gone {
        assert_eq!(values(std::iter::once(&*gone), NAME).count(), 0);
        assert_eq!(others(&gone), others(field));
    }
    let emptied = edited(field, NAME, |_| CookieEdit::Becomes(Cow::Borrowed(b"")));
    if let Some(emptied) = emptied {
        assert!(values(std::iter::once(&*emptied), NAME).all(<[u8]>::is_empty));
        assert_eq!((values(std::iter::once(&*emptied), NAME).count(), others(&emptied)), (n, others(field)));
    }
}
