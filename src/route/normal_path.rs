//! The path that servers may take a path for: what rules that keep clients out must see as well.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// Whether a path says all it means: nothing in it is decoded, resolved, joined or cut off by anybody.
fn is_plain(path: &str) -> bool {
    let mut before = b'x';
    path.bytes().all(|byte| {
        let says_more = matches!(byte, b'%' | b';' | b'\\') || before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !says_more
    })
}

/// The path with everything decoded once, dot segments resolved (RFC 3986 section 5.2.4), slashes joined, backslashes taken for
/// slashes, and the parameters of segments (`;x=1`, section 3.3) cut off. That is as far as any server goes, and further than
/// most. `None` if the path is that already.
pub fn normal(path: &str) -> Option<String> {
    if is_plain(path) {
        return None;
    }
    let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
    let decoded = String::from_utf8_lossy(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    let mut is_directory = true;
    for segment in decoded.split(['/', '\\']) {
        let segment = segment.split(';').next().unwrap_or_default();
        is_directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => _ = segments.pop(),
            segment => segments.push(segment),
        }
    }
    let end = if is_directory && !segments.is_empty() { "/" } else { "" };
    let normal = format!("/{}{end}", segments.join("/"));
    (normal != path).then_some(normal)
}

/// Whether a server that goes as far as `normal` resolves dot segments in a path, however they are spelled: `..`, `%2e%2e`, `..%2f`,
/// `..;x=1`, `..\\`.
pub fn has_dot_segments(path: &str) -> bool {
    if is_plain(path) {
        return false;
    }
    let decoded: Cow<'_, [u8]> = percent_decode_str(path).into();
    decoded.split(|byte| matches!(byte, b'/' | b'\\')).any(|segment| {
        let end = segment.iter().position(|byte| *byte == b';').unwrap_or(segment.len());
        matches!(&segment[..end], b"." | b"..")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_servers_may_take_it_for() {
        for (path, taken_for) in [
            ("//admin", "/admin"),
            ("/./admin", "/admin"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/a/..%2fadmin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%41", "/A"),
            ("/admin;x", "/admin"),
            ("/admin;x=1/users;y", "/admin/users"),
            ("/a/..;/admin", "/admin"),
            ("/..\\admin", "/admin"),
            ("/admin//", "/admin/"),
            ("/../..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            // Servers decode once.
            ("/%2561dmin", "/%61dmin"),
            ("/.git/config", "/.git/config"),
            ("/caf%C3%A9", "/caf\u{e9}"),
        ] {
            let normal = normal(path).unwrap_or_else(|| path.to_owned());
            assert_eq!(normal, taken_for, "{path}");
        }
    }

    #[test]
    fn dot_segments_are_found_however_they_are_spelled() {
        for path in [
            "/../a",
            "/a/..",
            "/./a",
            "/a/.",
            "/%2e%2e/a",
            "/.%2E/a",
            "/..%2fa",
            "/..%5ca",
            "/..\\a",
            "/..;/a",
            "/..;x=1/a",
            "/..%3b/a",
            "/a//../b",
            "/a%2f..%2fb",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        let others = [
            "/",
            "/a.b",
            "/.git",
            "/..a",
            "/a..",
            "/...",
            "/a;..",
            "//a",
            "/%61%2fb",
            "/caf%C3%A9",
            "/%252e%252e/a",
        ];
        for path in others {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn a_plain_path_costs_nothing() {
        for path in ["/", "/a", "/a/b.c/d", "/a/b/", "/a.b", "/a-b_c~d", "/a,b=c@d:e!f$g&h'i(j)k*l+m"] {
            assert_eq!(normal(path), None, "{path}");
        }
        // What looks as if it were not plain, and is.
        for path in ["/.git", "/a/.b/c", "/..a"] {
            assert_eq!(normal(path), None, "{path}");
        }
    }
}
