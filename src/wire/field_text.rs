//! Names and values of HTTP/2's fields as they lie on the wire, in Huffman's code too (RFC 7541 section 5.2): what HTTP/2 forbids in
//! them, and what may stand in its place so that the codec, which ends a connection for it, takes the rest.
//!
//! What stands in its place has as many bits, so that nothing else moves, and is of no account: the block it is in is malformed.

const CAPITAL: &str = "a capital letter in a field's name";
const NAME: &str = "a character that no field's name may have";
const NO_NAME: &str = "a field without a name";
const UNKNOWN: &str = "an unknown pseudo-field";
const VALUE: &str = "a control character in a field's value";
const STATUS: &str = "a status of other than three digits";
/// There is none in HTTP/2 (RFC 9113 section 8.6), and the codec ends the connection for a body behind it.
pub(super) const UPGRADE: &str = "an upgrade nobody asked for";
const CODE: &str = "a field in broken Huffman code";

/// Bytes of what is read at once that are changed.
const MOST_MENDS: usize = 1024;
/// The longest code for a character.
const LONGEST_CODE: u8 = 30;
/// As much of a name is kept as tells `:authority` and shorter ones from every other.
const BEGINNING: usize = 11;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    Name,
    Value,
    /// The value of `:status`.
    Status,
    /// The value of another pseudo-field, where that has no place.
    Pseudo,
    /// In which nothing is looked for.
    Any,
}

/// Bits that change on their way to the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mend {
    /// Which byte of what was read.
    pub(super) at: usize,
    mask: u8,
    bits: u8,
}

impl Mend {
    pub(super) fn apply(self, bytes: &mut [u8]) {
        if let Some(byte) = bytes.get_mut(self.at) {
            *byte = *byte & !self.mask | self.bits;
        }
    }
}

/// Where a character lies in what is read: a whole byte, or bits of which the first may have been read before.
#[derive(Clone, Copy, Debug)]
enum Place {
    Byte(usize),
    Bits { first: Option<usize>, length: u8 },
}

/// A text that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    kind: TextKind,
    is_coded: bool,
    /// Bits of a code that is not whole yet.
    code: u32,
    bits: u8,
    have: u8,
    begins: [u8; BEGINNING],
    fault: Option<&'static str>,
}

impl Text {
    pub(super) fn new(kind: TextKind, is_coded: bool) -> Self {
        Self { kind, is_coded, code: 0, bits: 0, have: 0, begins: [0; BEGINNING], fault: None }
    }

    /// The next bytes of it, which begin `at` so many in what is read; `is_last` if nothing follows.
    pub(super) fn read(&mut self, bytes: &[u8], at: usize, is_last: bool, mends: &mut Vec<Mend>) {
        if self.is_harmless(bytes, is_last) {
            return;
        }
        let mut beginning = None;
        match self.is_coded {
            true => self.read_coded(bytes, at, &mut beginning, mends),
            false => bytes.iter().enumerate().for_each(|(n, byte)| {
                self.take(*byte, Place::Byte(at + n), &mut beginning, mends);
            }),
        }
        if is_last && let Some(place) = beginning {
            match self.kind {
                // The codec takes no other that begins so.
                TextKind::Name if self.is_pseudo() && !self.is_known_pseudo() => mend(place, b'x', mends),
                TextKind::Status if self.is_upgrade() => mend(place, b'2', mends),
                _ => {}
            }
        }
    }

    fn read_coded(&mut self, bytes: &[u8], at: usize, beginning: &mut Option<Place>, mends: &mut Vec<Mend>) {
        let (mut word, mut have) = (u64::from(self.code), usize::from(self.bits));
        for (n, byte) in bytes.iter().enumerate() {
            word = word << 8 | u64::from(*byte);
            have += 8;
            while let Some((symbol, length)) = next_symbol(word, have) {
                have -= usize::from(length);
                word &= (1 << have) - 1;
                let Some(symbol) = symbol else {
                    self.fault.get_or_insert(CODE);
                    continue;
                };
                let first = ((at + n + 1) * 8 - have).checked_sub(usize::from(length));
                self.take(symbol, Place::Bits { first, length }, beginning, mends);
            }
        }
        (self.code, self.bits) = (word as u32, have as u8);
    }

    /// What is wrong with it, now that it is whole.
    pub(super) fn end(&self) -> Option<&'static str> {
        let is_whole = match self.kind {
            TextKind::Name if self.have == 0 => Err(NO_NAME),
            TextKind::Name if self.is_pseudo() && !self.is_known_pseudo() => Err(UNKNOWN),
            TextKind::Status if self.have != 3 => Err(STATUS),
            TextKind::Status if self.is_upgrade() => Err(UPGRADE),
            _ => Ok(()),
        };
        self.fault.or(is_whole.err())
    }

    pub(super) fn is_status(&self) -> bool {
        self.is(b":status")
    }

    /// Whether HTTP/2 has this pseudo-field, for requests or responses (RFC 9113 section 8.3, RFC 8441 section 4).
    pub(super) fn is_known_pseudo(&self) -> bool {
        let known: [&[u8]; 6] = [b":method", b":scheme", b":authority", b":path", b":status", b":protocol"];
        known.iter().any(|known| self.is(known))
    }

    /// Whether it is this, byte by byte: it may have zeros, too.
    fn is(&self, known: &[u8]) -> bool {
        usize::from(self.have) == known.len() && self.begins.starts_with(known)
    }

    fn is_upgrade(&self) -> bool {
        self.have == 3 && self.begins.starts_with(b"101")
    }

    pub(super) fn is_pseudo(&self) -> bool {
        self.begins[0] == b':'
    }

    /// Whether it is a value with nothing to be found in it. Codes of control characters have ten ones in a row.
    fn is_harmless(&self, bytes: &[u8], is_last: bool) -> bool {
        match self.kind {
            TextKind::Value => {}
            TextKind::Any => return true,
            TextKind::Name | TextKind::Status | TextKind::Pseudo => return false,
        }
        if !self.is_coded {
            return !bytes.iter().any(|byte| is_control(*byte));
        }
        let is_whole = self.have == 0 && self.bits == 0 && is_last;
        is_whole && !has_ten_ones(bytes)
    }

    fn take(&mut self, symbol: u8, place: Place, first: &mut Option<Place>, mends: &mut Vec<Mend>) {
        let position = usize::from(self.have);
        self.have = self.have.saturating_add(1);
        if let Some(kept) = self.begins.get_mut(position) {
            *kept = symbol;
        }
        if position == 0 {
            *first = Some(place);
        }
        let fault = match self.kind {
            TextKind::Name if position == 0 && symbol == b':' => return,
            TextKind::Name if symbol.is_ascii_uppercase() => CAPITAL,
            TextKind::Name if !is_of_name(symbol) => NAME,
            TextKind::Value if is_control(symbol) => VALUE,
            TextKind::Status
                if position > 2 || !symbol.is_ascii_digit() || position == 0 && symbol == b'0' =>
            {
                STATUS
            }
            // Whatever it is, it has no place where this is mended.
            TextKind::Pseudo if !is_of_name(symbol) => {
                return self.replace(place, mends);
            }
            _ => return,
        };
        self.fault.get_or_insert(fault);
        self.replace(place, mends);
    }

    /// Puts something in a character's place that may stand there.
    fn replace(&self, place: Place, mends: &mut Vec<Mend>) {
        let other = match (self.kind, place) {
            (TextKind::Status, Place::Byte(_) | Place::Bits { length: 5, .. }) => b'2',
            (TextKind::Status, Place::Bits { length: 6, .. }) => b'3',
            (TextKind::Status, _) => return,
            (_, Place::Byte(_)) => b'x',
            (TextKind::Value, Place::Bits { length, .. }) => match length {
                13 => b'$',
                23 => 135,
                28 => 220,
                _ => return,
            },
            (_, Place::Bits { length, .. }) => match length {
                6 => b'_',
                7 => b'x',
                8 => b'*',
                10 => b'!',
                11 => b'+',
                12 => b'#',
                13 => b'$',
                14 => b'^',
                15 => b'`',
                _ => return,
            },
        };
        mend(place, other, mends);
    }
}

fn mend(place: Place, symbol: u8, mends: &mut Vec<Mend>) {
    match place {
        Place::Byte(at) => change(Mend { at, mask: u8::MAX, bits: symbol }, mends),
        Place::Bits { first: Some(first), length } => {
            let Some((code, _)) = code(symbol).filter(|(_, bits)| *bits == length) else { return };
            for bit in 0..usize::from(length) {
                let (at, mask) = ((first + bit) / 8, 0x80_u8 >> ((first + bit) % 8));
                let is_one = code >> (usize::from(length) - 1 - bit) & 1 != 0;
                change(Mend { at, mask, bits: if is_one { mask } else { 0 } }, mends);
            }
        }
        // Its beginning is with the codec already, which will end the connection.
        Place::Bits { first: None, .. } => {}
    }
}

/// Adds to what changes. The codec ends the connection for what is beyond its bound.
fn change(mend: Mend, mends: &mut Vec<Mend>) {
    let has_room = mends.len() < MOST_MENDS;
    match mends.last_mut() {
        Some(last) if last.at == mend.at => {
            last.mask |= mend.mask;
            last.bits |= mend.bits;
        }
        _ if has_room => mends.push(mend),
        _ => {}
    }
}

/// Whether there are so many in a row.
fn has_ten_ones(mut bytes: &[u8]) -> bool {
    let has = |word: [u8; 8]| {
        let word = u64::from_be_bytes(word);
        let two = word & word >> 1;
        let four = two & two >> 2;
        let eight = four & four >> 4;
        eight & two >> 8 != 0
    };
    while let Some(word) = bytes.first_chunk() {
        if has(*word) {
            return true;
        }
        // They may begin in the last two bytes.
        bytes = &bytes[6..];
    }
    let mut last = [0; 8];
    last[..bytes.len()].copy_from_slice(bytes);
    has(last)
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

/// RFC 9110 section 5.6.2 without capital letters, and the quote that the codec takes too.
fn is_of_name(byte: u8) -> bool {
    matches!(byte, b'!'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'^'..=b'z' | b'|' | b'~')
}

/// The character that comes first in so many bits, if it is whole, and the length of its code. No character has the code of ones alone.
fn next_symbol(word: u64, have: usize) -> Option<(Option<u8>, u8)> {
    if have == 0 {
        return None;
    }
    let word = word << (64 - have);
    let is_there = |length: u8| usize::from(length) <= have;
    let (symbol, length) = SHORT_CODES[(word >> 56) as usize];
    if length > 0 {
        return is_there(length).then_some((Some(symbol), length));
    }
    for (length, first, symbols) in &CODES[SHORT_LENGTHS..] {
        let code = (word >> (64 - length)) as u32;
        if let Some(symbol) = code.checked_sub(*first).and_then(|at| symbols.get(at as usize)) {
            return is_there(*length).then_some((Some(*symbol), *length));
        }
    }
    is_there(LONGEST_CODE).then_some((None, LONGEST_CODE))
}

/// What codes of eight bits at most stand for, and their length, by the eight bits that they begin with; 0 of longer ones.
static SHORT_CODES: [(u8, u8); 256] = {
    let (mut table, mut row) = ([(0, 0); 256], 0);
    while row < SHORT_LENGTHS {
        let (length, first, symbols) = CODES[row];
        let mut at = 0;
        while at < symbols.len() {
            let begins = (first as usize + at) << (8 - length);
            let mut rest = 0;
            while rest < 1 << (8 - length) {
                table[begins + rest] = (symbols[at], length);
                rest += 1;
            }
            at += 1;
        }
        row += 1;
    }
    table
};

/// How many rows of the table below have codes of eight bits at most.
const SHORT_LENGTHS: usize = 4;

/// A character's code and its length.
fn code(symbol: u8) -> Option<(u32, u8)> {
    CODES.iter().find_map(|(bits, first, symbols)| {
        let at = symbols.iter().position(|other| *other == symbol)?;
        Some((first + at as u32, *bits))
    })
}

/// Huffman's code (RFC 7541 appendix B): for each length of codes the first of them, and what they stand for one after another.
const CODES: [(u8, u32, &[u8]); 21] = [
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\x00$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
    (19, 0x7fff0, b"\\\xc3\xd0"),
    (20, 0xfffe6, b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2"),
    (21, 0x1fffdc, b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6"),
    (22, 0x3fffd2, b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9"),
    (23, 0x7fffd8, b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef"),
    (24, 0xffffea, b"\x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed"),
    (25, 0x1ffffec, b"\xc7\xcf\xea\xeb"),
    (26, 0x3ffffe0, b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff"),
    (27, 0x7ffffde, b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe"),
    (28, 0xfffffe2, b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9"),
    (30, 0x3ffffffc, b"\x0a\x0d\x16"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text is found to be and becomes, in one piece and byte by byte.
    #[track_caller]
    fn check(kind: TextKind, is_coded: bool, text: &[u8], fault: Option<&'static str>, becomes: &[u8]) {
        let (mut read, mut mends, mut bytes) = (Text::new(kind, is_coded), Vec::new(), text.to_vec());
        read.read(text, 0, true, &mut mends);
        mends.into_iter().for_each(|mend| mend.apply(&mut bytes));
        assert_eq!((read.end(), &*bytes), (fault, becomes), "{text:02x?}");
        let mut read = Text::new(kind, is_coded);
        for (n, byte) in text.iter().enumerate() {
            read.read(&[*byte], 0, n + 1 == text.len(), &mut Vec::new());
        }
        assert_eq!(read.end(), fault, "{text:02x?} byte by byte");
    }

    #[test]
    fn what_has_no_place_is_found_and_replaced() {
        use TextKind::{Name, Pseudo, Status, Value};
        for (kind, text, fault, becomes) in [
            (Name, &b"x-a!"[..], None, &b"x-a!"[..]),
            (Name, b"X-Cap", Some(CAPITAL), b"x-xap"),
            (Name, b"a b", Some(NAME), b"axb"),
            (Name, b"a:b", Some(NAME), b"axb"),
            (Name, b"a\xe4", Some(NAME), b"ax"),
            (Name, b"", Some(NO_NAME), b""),
            (Name, b":status", None, b":status"),
            (Name, b":authority", None, b":authority"),
            (Name, b":statuses", Some(UNKNOWN), b"xstatuses"),
            (Name, b":path\0", Some(NAME), b"xpathx"),
            (Name, b":status\0\0", Some(NAME), b"xstatusxx"),
            (Name, b":foo", Some(UNKNOWN), b"xfoo"),
            (Value, b" a\tb\xff", None, b" a\tb\xff"),
            (Value, b"a\0b", Some(VALUE), b"axb"),
            (Value, b"a\r\nb", Some(VALUE), b"axxb"),
            (Value, b"\x7f", Some(VALUE), b"x"),
            (Value, b"", None, b""),
            (Status, b"200", None, b"200"),
            (Status, b"099", Some(STATUS), b"299"),
            (Status, b"2xx", Some(STATUS), b"222"),
            (Status, b"101", Some(UPGRADE), b"201"),
            (Status, b"20", Some(STATUS), b"20"),
            (Pseudo, b"/\xff", None, b"xx"),
        ] {
            check(kind, false, text, fault, becomes);
        }
    }

    #[test]
    fn the_same_holds_in_huffmans_code() {
        use TextKind::{Name, Status, Value};
        for (kind, text, fault, becomes) in [
            (Name, &b"x-a!"[..], None, &b"x-a!"[..]),
            (Name, b"X-Cap", Some(CAPITAL), b"*-xap"),
            (Name, b"ABC", Some(CAPITAL), b"_xx"),
            (Name, b"\0(", Some(NAME), b"$!"),
            (Name, b":foo", Some(UNKNOWN), b"xfoo"),
            (Name, b":status", None, b":status"),
            (Value, b"W/\"a$\xff\"", None, b"W/\"a$\xff\""),
            (Value, b"a\0b", Some(VALUE), b"a$b"),
            (Value, b"\x01\x7f", Some(VALUE), b"\x87\xdc"),
            // There is no other of this length.
            (Value, b"a\r", Some(VALUE), b"a\r"),
            (Status, b"099", Some(STATUS), b"299"),
            (Status, b"100", None, b"100"),
            (Status, b"101", Some(UPGRADE), b"201"),
        ] {
            check(kind, true, &coded(text), fault, &coded(becomes));
        }
        check(TextKind::Value, true, &[0xff; 4], Some(CODE), &[0xff; 4]);
    }

    #[test]
    fn ten_ones_are_found_wherever_they_lie() {
        for length in 0..20_usize {
            for at in 0..(length * 8).saturating_sub(9) {
                let mut bytes = vec![0; length];
                for bit in at..at + 10 {
                    bytes[bit / 8] |= 0x80 >> (bit % 8);
                }
                assert!(has_ten_ones(&bytes), "{at} of {length}");
                bytes[(at + 4) / 8] &= !(0x80 >> ((at + 4) % 8));
                assert!(!has_ten_ones(&bytes), "{at} of {length}");
            }
        }
    }

    #[test]
    fn no_more_is_changed_than_a_bound() {
        let (name, mut mends) = (vec![b'X'; 5000], Vec::new());
        let mut read = Text::new(TextKind::Name, false);
        read.read(&name, 0, true, &mut mends);
        assert_eq!((mends.len(), read.end()), (MOST_MENDS, Some(CAPITAL)));
        let (name, mut mends) = (coded(&name), Vec::new());
        let mut read = Text::new(TextKind::Name, true);
        read.read(&name, 0, true, &mut mends);
        assert_eq!((mends.len(), read.end()), (MOST_MENDS, Some(CAPITAL)));
    }

    #[test]
    fn each_length_has_its_codes_and_no_code_begins_another() {
        let mut next = 0_u64;
        for (bits, first, symbols) in CODES {
            assert_eq!(u64::from(first), next >> (30 - bits), "of {bits} bits");
            next += (symbols.len() as u64) << (30 - bits);
        }
        assert_eq!(next, (1 << 30) - 1, "but for the end of text");
    }

    fn coded(text: &[u8]) -> Vec<u8> {
        let (mut bytes, mut word, mut have) = (Vec::new(), 0_u64, 0);
        for (code, bits) in text.iter().filter_map(|symbol| code(*symbol)) {
            word = word << bits | u64::from(code);
            have += bits;
            while have >= 8 {
                have -= 8;
                bytes.push((word >> have) as u8);
            }
        }
        if have > 0 {
            bytes.push((word << (8 - have)) as u8 | 0xff >> have);
        }
        bytes
    }
}
