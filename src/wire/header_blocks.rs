//! Finds out what an HTTP/2 connection's header blocks have that the codec does not tell. It says nothing of pseudo-fields that
//! have no place where they are: in trailers, or a request's in a response (RFC 9113 sections 8.1 and 8.3). And it ends the connection
//! for a name, value or pseudo-field that HTTP/2 forbids, where the stream alone is at fault (section 8.1.1).
//!
//! No field is kept for that. Of an entry of the dynamic table (RFC 7541 section 2.3.2) it is enough to know what kind of field it
//! is, and whether it is at fault. Entries are found by how many were added since, and what was evicted cannot be referred to, so that
//! their sizes are of no account either. What is no header block at all the codec refuses.

use super::field_text::{Mend, Text, TextKind};

/// Entries that the table has at most: the least is 32 bytes of the 4096 that we let others use (RFC 7541 section 4.1).
type Entries = u128;

/// It was in the table, with which it came.
const AGAIN: &str = "a field that was malformed before";
const LATE: &str = "a pseudo-field behind other fields";

/// What a header block has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockFacts {
    /// Before its other fields.
    pub(crate) has_status: bool,
    /// A request's, or one that is unknown, before its other fields.
    pub(crate) has_others: bool,
    /// What makes it malformed, whoever sends it.
    pub(crate) fault: Option<&'static str>,
}

impl BlockFacts {
    pub(crate) fn has_pseudo(self) -> bool {
        self.has_status || self.has_others
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Status,
    OtherPseudo,
    /// Which the codec has for a regular one.
    UnknownPseudo,
    Regular,
}

/// What becomes of a field that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It is in a table, value and all.
    Indexed,
    /// It goes into the table.
    Added,
    /// It does not.
    Passing,
    /// It is no field.
    Resize,
}

/// An integer that is longer than its prefix (section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    value: u32,
    shift: u32,
}

impl Number {
    /// Whether more of it follows.
    fn takes(&mut self, byte: u8) -> bool {
        let part = u32::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(0);
        self.value = self.value.saturating_add(part);
        self.shift += 7;
        byte & 0x80 != 0
    }
}

/// How far into a header block we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A field begins, or the table's size changes.
    Field,
    Index(Form, Number),
    NameLength,
    NameLengthMore(Text, Number),
    Name(Text, u32),
    ValueLength(TextKind),
    ValueLengthMore(Text, Number),
    Value(Text, u32),
}

/// Who sends header blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Server,
}

/// Reads the header blocks that one side of a connection sends.
#[derive(Debug)]
pub(crate) struct HeaderBlocks {
    sender: Sender,
    state: State,
    form: Form,
    /// Of the present block.
    found: BlockFacts,
    has_regular: bool,
    /// What kinds of fields the table has, the last that was added first, and which of their names and values are at fault.
    statuses: Entries,
    others: Entries,
    bad_names: Entries,
    bad_values: Entries,
    /// What is to change of what was read last, so that the codec takes it.
    mends: Vec<Mend>,
}

impl HeaderBlocks {
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            sender,
            state: State::Field,
            form: Form::Passing,
            found: BlockFacts::default(),
            has_regular: false,
            statuses: 0,
            others: 0,
            bad_names: 0,
            bad_values: 0,
            mends: Vec::new(),
        }
    }

    /// A block begins.
    pub(crate) fn begin(&mut self) {
        (self.state, self.found, self.has_regular) = (State::Field, BlockFacts::default(), false);
    }

    /// What was found in the block so far.
    pub(crate) fn found(&self) -> BlockFacts {
        self.found
    }

    /// What has to change of the bytes that were read last, for the codec to take them.
    pub(super) fn mends(&self) -> &[Mend] {
        &self.mends
    }

    /// The next bytes of the block.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        // Hardly any block has some: no room is kept for them.
        self.mends = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            at += match self.state {
                State::Name(text, left) | State::Value(text, left) => {
                    let n = left.min((bytes.len() - at) as u32);
                    self.take_text(text, left - n, (&bytes[at..][..n as usize], at));
                    n as usize
                }
                _ => {
                    self.take(*byte);
                    1
                }
            };
        }
    }

    fn take(&mut self, byte: u8) {
        let is_coded = byte & 0x80 != 0;
        match self.state {
            State::Field => {
                let (form, bits) = match byte {
                    0x80.. => (Form::Indexed, 7),
                    0x40.. => (Form::Added, 6),
                    0x20.. => (Form::Resize, 5),
                    _ => (Form::Passing, 4),
                };
                match number(byte, bits) {
                    Ok(index) => self.take_index(form, index),
                    Err(number) => self.state = State::Index(form, number),
                }
            }
            State::Index(form, mut number) => match number.takes(byte) {
                true => self.state = State::Index(form, number),
                false => self.take_index(form, number.value),
            },
            State::NameLength => {
                let text = Text::new(TextKind::Name, is_coded);
                match number(byte, 7) {
                    Ok(length) => self.begin_text(State::Name(text, length)),
                    Err(number) => self.state = State::NameLengthMore(text, number),
                }
            }
            State::NameLengthMore(text, mut number) => match number.takes(byte) {
                true => self.state = State::NameLengthMore(text, number),
                false => self.begin_text(State::Name(text, number.value)),
            },
            State::ValueLength(kind) => {
                let text = Text::new(kind, is_coded);
                match number(byte, 7) {
                    Ok(length) => self.begin_text(State::Value(text, length)),
                    Err(number) => self.state = State::ValueLengthMore(text, number),
                }
            }
            State::ValueLengthMore(text, mut number) => match number.takes(byte) {
                true => self.state = State::ValueLengthMore(text, number),
                false => self.begin_text(State::Value(text, number.value)),
            },
            State::Name(..) | State::Value(..) => {}
        }
    }

    fn take_index(&mut self, form: Form, index: u32) {
        self.form = form;
        match (form, index) {
            (Form::Resize, _) => self.state = State::Field,
            (Form::Added | Form::Passing, 0) => self.state = State::NameLength,
            _ => {
                let (kind, name_fault, value_fault) = self.entry(index);
                if form == Form::Indexed && value_fault {
                    self.note(Some(AGAIN));
                }
                self.take_field(kind, name_fault.then_some(AGAIN));
            }
        }
    }

    /// What kind of field a table has there (section 2.3.3 and appendix A), and whether its name and its value are at fault.
    fn entry(&self, index: u32) -> (FieldKind, bool, bool) {
        const FIRST_DYNAMIC: u32 = 62;
        let kind = match index {
            8..=14 => FieldKind::Status,
            1..=7 => FieldKind::OtherPseudo,
            FIRST_DYNAMIC.. => {
                let has = |entries: Entries| {
                    entries.checked_shr(index - FIRST_DYNAMIC).is_some_and(|entries| entries & 1 != 0)
                };
                let kind = match () {
                    () if has(self.statuses) => FieldKind::Status,
                    () if has(self.others) && has(self.bad_names) => FieldKind::UnknownPseudo,
                    () if has(self.others) => FieldKind::OtherPseudo,
                    () => FieldKind::Regular,
                };
                return (kind, has(self.bad_names), has(self.bad_values));
            }
            _ => FieldKind::Regular,
        };
        (kind, false, false)
    }

    /// A name or value follows.
    fn begin_text(&mut self, state: State) {
        self.state = state;
        if let State::Name(text, 0) | State::Value(text, 0) = state {
            self.end_text(text);
        }
    }

    /// More of a name or value, of which so much is left.
    fn take_text(&mut self, mut text: Text, left: u32, (bytes, at): (&[u8], usize)) {
        text.read(bytes, at, left == 0, &mut self.mends);
        match &mut self.state {
            State::Name(..) => self.state = State::Name(text, left),
            _ => self.state = State::Value(text, left),
        }
        if left == 0 {
            self.end_text(text);
        }
    }

    fn end_text(&mut self, text: Text) {
        let fault = text.end();
        if let State::Name(..) = self.state {
            let kind = match () {
                () if text.is_status() => FieldKind::Status,
                () if text.is_known_pseudo() => FieldKind::OtherPseudo,
                () if text.is_pseudo() => FieldKind::UnknownPseudo,
                () => FieldKind::Regular,
            };
            return self.take_field(kind, fault);
        }
        self.note(fault);
        if self.form == Form::Added {
            self.bad_values |= Entries::from(fault.is_some());
        }
        self.state = State::Field;
    }

    /// The name is known.
    fn take_field(&mut self, kind: FieldKind, fault: Option<&'static str>) {
        self.note(fault);
        let is_other = matches!(kind, FieldKind::OtherPseudo | FieldKind::UnknownPseudo);
        if self.form == Form::Added {
            self.statuses = self.statuses << 1 | Entries::from(kind == FieldKind::Status);
            self.others = self.others << 1 | Entries::from(is_other);
            self.bad_names = self.bad_names << 1 | Entries::from(fault.is_some());
            self.bad_values <<= 1;
        }
        match kind {
            FieldKind::Regular => self.has_regular = true,
            // The codec refuses it if it still knows it for one.
            _ if self.has_regular => self.note(Some(LATE)),
            FieldKind::Status => self.found.has_status = true,
            FieldKind::OtherPseudo | FieldKind::UnknownPseudo => self.found.has_others = true,
        }
        let value = match kind {
            FieldKind::Regular | FieldKind::UnknownPseudo => TextKind::Value,
            FieldKind::Status => TextKind::Status,
            FieldKind::OtherPseudo if self.sender == Sender::Client => TextKind::Any,
            FieldKind::OtherPseudo => TextKind::Pseudo,
        };
        self.state = if self.form == Form::Indexed { State::Field } else { State::ValueLength(value) };
    }

    fn note(&mut self, fault: Option<&'static str>) {
        self.found.fault = self.found.fault.or(fault);
    }
}

/// An integer with a prefix of so many bits, if it is no longer than that.
fn number(byte: u8, bits: u32) -> Result<u32, Number> {
    let most = (1 << bits) - 1;
    let value = u32::from(byte) & most;
    if value < most { Ok(value) } else { Err(Number { value, shift: 0 }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: BlockFacts = BlockFacts { has_status: false, has_others: false, fault: None };
    const STATUS: BlockFacts = BlockFacts { has_status: true, ..NONE };
    const OTHERS: BlockFacts = BlockFacts { has_others: true, ..NONE };
    const BOTH: BlockFacts = BlockFacts { has_status: true, ..OTHERS };

    fn fault(fault: &'static str) -> BlockFacts {
        BlockFacts { fault: Some(fault), ..NONE }
    }

    /// Blocks of one connection, and what is found in each, wherever they are cut.
    #[track_caller]
    fn check(blocks: &[(&[u8], BlockFacts)]) {
        let longest = blocks.iter().map(|(block, _)| block.len()).max().unwrap_or_default();
        for cut in 0..=longest {
            let mut reader = HeaderBlocks::new(Sender::Server);
            for (n, (block, found)) in blocks.iter().enumerate() {
                let (first, rest) = block.split_at(cut.min(block.len()));
                reader.begin();
                reader.read(first);
                reader.read(rest);
                assert_eq!((reader.found(), reader.state), (*found, State::Field), "block {n} cut at {cut}");
            }
        }
    }

    #[test]
    fn pseudo_fields_are_found_in_every_form() {
        for (block, found) in [
            (&b"\x88"[..], STATUS),
            (b"\x82", OTHERS),
            (b"\x88\x84", BOTH),
            (b"\x48\x03201", STATUS),
            (b"\x08\x03201", STATUS),
            (b"\x18\x03201", STATUS),
            (b"\x04\x01/", OTHERS),
            (b"\x00\x07:status\x03200", STATUS),
            (b"\x00\x07:scheme\x04http", OTHERS),
            (b"\x00\x05:path\x01/", OTHERS),
            (b"\x00\x02:x\x00", BlockFacts { fault: Some("an unknown pseudo-field"), ..OTHERS }),
            (b"\x40\x84\xb9\x58\xd3\x3f\x01/", OTHERS),
            // `:status` by Huffman's code.
            (b"\x40\x85\xb8\x84\x8d\x36\xa3\x03200", STATUS),
            (b"\x3f\xe1\x1f\x88", STATUS),
            (b"\x20\x3f\xe1\x1f\x82", OTHERS),
            (b"", NONE),
            (b"\x20", NONE),
            (b"\xbe", NONE),
            (b"\x58\x011", NONE),
            (b"\x40\x01x\x011", NONE),
            (b"\x40\x00\x00", fault("a field without a name")),
            (b"\x40\x01x\x011\x88", fault(LATE)),
            (
                b"\x00\x09:status\0\0\x011",
                BlockFacts { fault: Some("a character that no field's name may have"), ..OTHERS },
            ),
            (b"\x00\x09:statuses\x011", BlockFacts { fault: Some("an unknown pseudo-field"), ..OTHERS }),
        ] {
            check(&[(block, found)]);
        }
    }

    #[test]
    fn they_are_found_by_their_place_in_the_table_too() {
        let mut long = b"\x48\x03201\x40\x01x\x7f\x81\x01".to_vec();
        long.extend_from_slice(&[b'v'; 256]);
        check(&[
            (&long, STATUS),
            (b"\xbf", STATUS),
            (b"\xbe", NONE),
            // What has no index of its own takes no place.
            (b"\x00\x01y\x011\xbf", fault(LATE)),
            (b"\x7f\x00\x03202", STATUS),
            (b"\xbe", STATUS),
            (b"\xc0", STATUS),
            (b"\xbf", NONE),
            (b"\xff\x7f", NONE),
            (b"\xff\xff\xff\xff\x0f", NONE),
        ]);
    }

    #[test]
    fn what_breaks_off_does_not_spoil_the_next() {
        let mut reader = HeaderBlocks::new(Sender::Server);
        reader.begin();
        reader.read(b"\x88\x00\x7f");
        assert_eq!(reader.found(), STATUS);
        reader.begin();
        reader.read(b"\x40\x01x\x011");
        assert_eq!(reader.found(), NONE);
    }

    #[test]
    fn what_is_at_fault_stays_so_in_the_table() {
        let capital = fault("a capital letter in a field's name");
        check(&[
            (b"\x40\x01X\x011", capital),
            (b"\x88", STATUS),
            (b"\xbe", fault(AGAIN)),
            (b"\x7e\x012", fault(AGAIN)),
            (b"\x40\x01y\x02\0\0", fault("a control character in a field's value")),
            (b"\xbe", fault(AGAIN)),
            // Its name is good.
            (b"\x7e\x012", NONE),
            (b"\xbe", NONE),
            (b"\xbf", fault(AGAIN)),
        ]);
    }

    #[test]
    fn what_is_read_becomes_what_the_codec_takes() {
        for (block, becomes) in [
            (&b"\x88\x00\x05X-Cap\x01a"[..], &b"\x88\x00\x05x-xap\x01a"[..]),
            (b"\x88\x00\x01x\x03a\0b", b"\x88\x00\x01x\x03axb"),
            (b"\x88\x00\x04:foo\x011", b"\x88\x00\x04xfoo\x011"),
            (b"\x48\x03099", b"\x48\x03299"),
            (b"\x88\x04\x02/\xff", b"\x88\x04\x02xx"),
            (b"\x88\x00\x01x\x01a", b"\x88\x00\x01x\x01a"),
        ] {
            let (mut reader, mut bytes) = (HeaderBlocks::new(Sender::Server), block.to_vec());
            reader.begin();
            reader.read(block);
            reader.mends().iter().for_each(|mend| mend.apply(&mut bytes));
            assert_eq!(bytes, becomes, "{block:02x?}");
        }
    }
}
