//! What of a request is hashed, for pools that balance by consistent hash.

use crate::config::plan::HashKey;
use crate::select::consistent_hash::hash;
use http::{HeaderMap, Uri};

/// The hash of a request's key; without it, of the client's address.
pub(super) fn of(key: &HashKey, uri: &Uri, headers: &HeaderMap, client: &str) -> u64 {
    let found = match key {
        HashKey::ClientIp => None,
        HashKey::Path => Some(uri.path().as_bytes()),
        HashKey::Uri => Some(uri.path_and_query().map_or(uri.path(), |both| both.as_str()).as_bytes()),
        HashKey::Header(name) => headers.get(name).map(|value| value.as_bytes()),
        HashKey::Cookie(name) => cookie(headers, name),
        HashKey::Query(name) => query(uri.query().unwrap_or_default(), name),
    };
    hash(found.unwrap_or(client.as_bytes()))
}

/// RFC 6265 section 4.2: `name=value` pairs, separated by semicolons; the first of a name counts.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(http::header::COOKIE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b';'))
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

    fn check(key: HashKey, hashed: &str) {
        let uri: Uri = "/cart?id=7&x=8".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "u1".parse().unwrap());
        headers.append("cookie", "a=1; session=s1".parse().unwrap());
        headers.append("cookie", "session=s2".parse().unwrap());
        assert_eq!(of(&key, &uri, &headers, "192.0.2.7"), hash(hashed.as_bytes()), "{key:?}");
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
