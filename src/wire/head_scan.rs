//! When a head that comes bit by bit is worth reading from its beginning: where it may be whole by now, and else no more often than it has
//! doubled, so that a long one costs a sender no less than us, however many lines it is sent in.

/// Up to so many bytes it is read at each line's end: what is wrong with it is found at once then.
const SHORT: usize = 4096;

/// How much of a head was looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadScan {
    /// Bytes that were looked at for its end.
    scanned: usize,
    /// Bytes that there were when it was last read.
    read: usize,
}

impl HeadScan {
    /// Whether what has come of it by now is to be read; it has at least as many bytes as before.
    pub(crate) fn is_due(&mut self, bytes: &[u8]) -> bool {
        let before = std::mem::replace(&mut self.scanned, bytes.len());
        // Only a line's end can complete it.
        if memchr::memchr(b'\n', &bytes[before..]).is_none() {
            return false;
        }
        let is_due = bytes.len() <= SHORT
            || bytes.len() >= self.read.saturating_mul(2)
            || has_empty_line(&bytes[before.saturating_sub(2)..]);
        if is_due {
            self.read = bytes.len();
        }
        is_due
    }
}

/// Whether an empty line lies there, however its sender ends lines.
fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes)
        .any(|at| bytes[at + 1..].starts_with(b"\n") || bytes[at + 1..].starts_with(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LONGEST_HEAD;
    use crate::wire::request_head::{RequestHeadVerdict, judge};

    #[test]
    fn a_head_is_read_as_soon_as_it_is_whole_wherever_it_is_cut() {
        for end in ["\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n"] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}{end}", "x".repeat(9000));
            for cut in [1, 2, 3, 4, 5, 17, 5000] {
                for more in 0..4 {
                    let (mut scan, mut came, mut is_due) = (HeadScan::default(), more, false);
                    while came < head.len() {
                        came = (came + cut).min(head.len());
                        is_due = scan.is_due(&head.as_bytes()[..came]);
                    }
                    assert!(is_due, "{end:?} {cut} {more}");
                }
            }
        }
    }

    #[test]
    fn what_is_read_of_a_long_head_is_a_small_multiple_of_it_however_many_lines_it_comes_in() {
        for fields in [1, 10, 200] {
            let value = "x".repeat(LONGEST_HEAD / fields - 20);
            let lines: String = (0..fields).map(|n| format!("X-{n}: {value}\r\n")).collect();
            let head = format!("PURGE / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            for step in [1, 500, 5000] {
                let (mut scan, mut read, mut came) = (HeadScan::default(), 0, 0);
                while came < head.len() {
                    came = (came + step).min(head.len());
                    if scan.is_due(&head.as_bytes()[..came]) {
                        read += came;
                        let verdict = judge(&head.as_bytes()[..came], usize::MAX);
                        assert_eq!(matches!(verdict, RequestHeadVerdict::Complete(_)), came == head.len());
                    }
                }
                assert!(read <= 4 * head.len(), "{fields} {step}: {read} of {}", head.len());
            }
        }
    }
}
