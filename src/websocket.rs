//! Where a WebSocket's frames begin and end (RFC 6455 section 5.2), so that a frame of ours can go between two of
//! them: the close frame by which a client tells an end that was meant from a lost connection.

/// A frame's head without its mask is two bytes, and up to eight of length.
const LONGEST: usize = 10;
/// What the second byte says besides the length.
const MASKED: u8 = 0x80;
const CLOSE: u8 = 8;
/// What fits a control frame (section 5.5).
const REASON: usize = 123;

/// Follows the frames of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    head: [u8; LONGEST],
    have: u8,
    /// Of the frame under way: what is still to come after the bytes in `head`, its mask included.
    left: u64,
    is_closed: bool,
}

impl Frames {
    /// Follows bytes as they pass.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let n = self.left.min(bytes.len() as u64);
                self.skip(n);
                bytes = &bytes[n as usize..];
                continue;
            }
            self.head[usize::from(self.have)] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            self.read_head();
        }
    }

    /// So many bytes of the present frame pass unseen: no more than [`Frames::left`].
    pub fn skip(&mut self, n: u64) {
        self.left = self.left.saturating_sub(n);
    }

    /// How many bytes the present frame still has, if its length is known by now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Whether a frame may be put in here: the last one is over, and was not the one after which nothing may follow
    /// (section 5.5.1).
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.is_closed
    }

    fn read_head(&mut self) {
        let have = usize::from(self.have);
        if have < 2 {
            return;
        }
        let short = self.head[1] & !MASKED;
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if have < 2 + extended {
            return;
        }
        let length = match extended {
            0 => u64::from(short),
            _ => self.head[2..have].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        let mask = if self.head[1] & MASKED == 0 { 0 } else { 4 };
        self.left = length.saturating_add(mask);
        self.is_closed |= self.head[0] & 0xf == CLOSE;
        self.have = 0;
    }
}

/// The frame by which a side says that it closes, and why: `code` is one of section 7.4.1's, a `reason` that is
/// too long is cut. What goes to a server needs a mask (section 5.3).
#[must_use]
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(REASON)]);
    let length = u8::try_from(payload.len()).unwrap_or(0);
    let mut frame = vec![0x80 | CLOSE];
    match mask {
        None => frame.push(length),
        Some(mask) => {
            frame.push(MASKED | length);
            frame.extend_from_slice(&mask);
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
    frame.append(&mut payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as either side may send it.
    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length + if masked { 4 } else { 0 }, 0xff);
        frame
    }

    proptest! {
        #[test]
        fn a_frame_fits_in_only_where_one_has_ended(
            frames in prop::collection::vec(
                (0..3_u8, prop_oneof![0..200_usize, 65_000..66_000_usize], any::<bool>()), 1..5
            ),
            piece in 1..5_000_usize,
        ) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for (opcode, length, masked) in frames {
                bytes.append(&mut frame(0x80 | opcode, length, masked));
                ends.push(bytes.len());
            }
            let (mut seen, mut at) = (Frames::default(), 0);
            for piece in bytes.chunks(piece) {
                seen.pass(piece);
                at += piece.len();
                prop_assert_eq!(seen.is_between(), ends.contains(&at), "after {} bytes", at);
            }
        }
    }

    #[test]
    fn bytes_may_pass_unseen() {
        let bytes = frame(0x82, 1 << 20, true);
        let mut frames = Frames::default();
        frames.pass(&bytes[..100]);
        assert_eq!(frames.left(), bytes.len() as u64 - 100);
        frames.skip(frames.left());
        assert!(frames.is_between());
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut frames = Frames::default();
        frames.pass(&close(1000, "bye", None));
        assert!(!frames.is_between());
    }

    #[test]
    fn a_close_frame_has_code_reason_and_mask() {
        assert_eq!(close(1001, "bye", None), b"\x88\x05\x03\xe9bye");
        assert_eq!(close(1001, "bye", Some([1, 2, 3, 4])), b"\x88\x85\x01\x02\x03\x04\x02\xeba}d");
        let long = "ü".repeat(100);
        let frame = close(1001, &long, None);
        assert_eq!((frame[1], frame.len()), (124, 126), "cut between two letters");
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    proptest! {
        #[test]
        fn garbage_is_followed_without_harm(bytes: Vec<u8>) {
            Frames::default().pass(&bytes);
        }
    }
}
