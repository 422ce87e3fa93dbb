//! A request's body on its way to a server, as much of it kept as may have to be sent again to another.

use super::client::Client;
use crate::access_log::Why;
use bytes::Bytes;
use std::task::{Context, Poll, ready};

/// As much of a body is kept as may have to be sent again.
const REPEATABLE: usize = 64 * 1024;

/// What was read of a body.
#[derive(Debug)]
pub(super) struct Body {
    /// All of it so far, if `is_repeatable`.
    kept: Vec<Bytes>,
    /// How many of those this try has sent.
    sent: usize,
    /// All that was read of it is kept.
    pub(super) is_repeatable: bool,
    /// All of it was read.
    pub(super) is_over: bool,
    pub(super) bytes: u64,
}

impl Body {
    pub(super) fn new(is_repeatable: bool, is_over: bool) -> Self {
        Self { kept: Vec::new(), sent: 0, is_repeatable, is_over, bytes: 0 }
    }

    /// The next of it for the present try; `None` is its end.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl Client,
        limit: u64,
    ) -> Poll<Result<Option<Bytes>, Why>> {
        if let Some(bytes) = self.kept.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Ok(Some(bytes.clone())));
        }
        if self.is_over {
            return Poll::Ready(Ok(None));
        }
        let Some(bytes) = ready!(client.poll_body(cx))? else {
            self.is_over = true;
            return Poll::Ready(Ok(None));
        };
        let before = self.bytes;
        self.bytes += bytes.len() as u64;
        if self.bytes > limit {
            return Poll::Ready(Err(Why::BodyTooLarge));
        }
        self.is_repeatable &= before + bytes.len() as u64 <= REPEATABLE as u64;
        if self.is_repeatable {
            self.kept.push(bytes.clone());
            self.sent += 1;
        } else {
            self.kept = Vec::new();
            self.sent = 0;
        }
        Poll::Ready(Ok(Some(bytes)))
    }

    /// The next try begins at the beginning.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The request will not be sent again.
    pub(super) fn forget(&mut self) {
        self.is_repeatable = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::Scripted;
    use super::*;

    fn read(body: &mut Body, client: &mut Scripted, limit: u64) -> Result<Vec<u8>, Why> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        loop {
            match body.poll_next(&mut cx, client, limit) {
                Poll::Ready(Ok(Some(bytes))) => all.extend_from_slice(&bytes),
                Poll::Ready(Ok(None)) => return Ok(all),
                Poll::Ready(Err(why)) => return Err(why),
                Poll::Pending => panic!("it has more"),
            }
        }
    }

    #[test]
    fn a_small_body_can_be_sent_again() {
        let mut client = Scripted::sending(&[b"ab", b"", b"c"]);
        let mut body = Body::new(true, false);
        assert_eq!(read(&mut body, &mut client, 3), Ok(b"abc".to_vec()));
        body.rewind();
        assert_eq!(read(&mut body, &mut client, 3), Ok(b"abc".to_vec()));
        assert_eq!((body.bytes, body.is_repeatable, body.is_over), (3, true, true));
    }

    #[test]
    fn what_is_larger_is_not_kept() {
        let large = vec![b'x'; REPEATABLE];
        let mut client = Scripted::sending(&[b"ab", &large, b"c"]);
        let mut body = Body::new(true, false);
        assert_eq!(read(&mut body, &mut client, u64::MAX).map(|all| all.len()), Ok(REPEATABLE + 3));
        assert!(!body.is_repeatable && body.kept.is_empty());
    }

    #[test]
    fn the_limit_counts_all_of_it() {
        let mut client = Scripted::sending(&[b"ab", b"c"]);
        assert_eq!(read(&mut Body::new(true, false), &mut client, 2), Err(Why::BodyTooLarge));
    }
}
