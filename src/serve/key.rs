//! What of a request is hashed, for pools that balance by consistent hash.

use super::asked::Asked;
use crate::config::plan::HashKey;
use crate::fields::Fields;
use crate::select::consistent_hash::hash;

/// The hash of a request's key; without it, of the client's address.
pub(super) fn of<F: Fields>(key: &HashKey, asked: &Asked<'_, F>, client: &str) -> u64 {
    let found = match key {
        HashKey::ClientIp => None,
        HashKey::Path => Some(asked.path.as_bytes()),
        HashKey::Uri => Some(asked.path_and_query.as_bytes()),
        HashKey::Header(name) => asked.fields.first(name),
        HashKey::Cookie(name) => cookie(asked.fields, name),
        HashKey::Query(name) => query(asked.query, name),
    };
    hash(found.unwrap_or(client.as_bytes()))
}

/// RFC 6265 section 4.2: `name=value` pairs, separated by semicolons; the first of a name counts.
fn cookie<'a, F: Fields>(fields: &'a F, name: &str) -> Option<&'a [u8]> {
    fields
        .all(&http::header::COOKIE)
        .flat_map(|value| value.split(|&byte| byte == b';'))
        .map(<[u8]>::trim_ascii)
        .find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The value as it is written in the URL; two spellings of one value are two keys.
fn query<'a>(query: &'a str, name: &str) -> Option<&'a [u8]> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::http::RequestHeader;

    fn check(key: HashKey, hashed: &str) {
        let request = http::Request::get("/cart?id=7&x=8")
            .header("x-user", "u1")
            .header("cookie", "a=1; session=s1")
            .header("cookie", "session=s2");
        let head = RequestHeader::from(request.body(()).unwrap().into_parts().0);
        assert_eq!(of(&key, &Asked::from(&head), "192.0.2.7"), hash(hashed.as_bytes()), "{key:?}");
    }

    #[test]
    fn each_key_finds_its_part_of_the_request() {
        check(HashKey::ClientIp, "192.0.2.7");
        check(HashKey::Path, "/cart");
        check(HashKey::Uri, "/cart?id=7&x=8");
        check(HashKey::Header("x-user".parse().unwrap()), "u1");
        check(HashKey::Cookie("session".into()), "s1");
        check(HashKey::Query("id".into()), "7");
    }

    #[test]
    fn a_request_without_the_key_is_hashed_by_its_client() {
        check(HashKey::Header("x-none".parse().unwrap()), "192.0.2.7");
        check(HashKey::Cookie("sess".into()), "192.0.2.7");
        check(HashKey::Query("i".into()), "192.0.2.7");
    }
}
