//! Finds out which pseudo-fields an HTTP/2 connection's header blocks have. The codec reads them and says nothing of those that
//! have no place where they are: in trailers, or a request's in a response (RFC 9113 sections 8.1 and 8.3).
//!
//! Nothing is decoded for that. Of an entry of the dynamic table (RFC 7541 section 2.3.2) it is enough to know what kind of field it
//! is. Entries are found by how many were added since, and what was evicted cannot be referred to, so that their sizes are of
//! no account either. What is no header block at all the codec refuses.

/// Entries that the table has at most: the least is 32 bytes of the 4096 that we let others use (RFC 7541 section 4.1).
type Entries = u128;

/// Pseudo-fields that a header block has before its other fields; those behind the codec refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PseudoFields {
    pub(crate) has_status: bool,
    /// A request's, or one that is unknown.
    pub(crate) has_others: bool,
}

impl PseudoFields {
    pub(crate) fn is_any(self) -> bool {
        self.has_status || self.has_others
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    Status,
    OtherPseudo,
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

/// The beginning of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Name {
    is_coded: bool,
    have: u8,
    begins: [u8; 3],
}

impl Name {
    fn kind(self) -> FieldKind {
        match (self.is_coded, self.begins) {
            (false, [b':', b's', b't']) => FieldKind::Status,
            (false, [b':', ..]) => FieldKind::OtherPseudo,
            // The same three letters by Huffman's code (appendix B): 1011100 01000 01001.
            (true, [0b1011_1000, 0b1000_0100, last]) if last >= 0x80 => FieldKind::Status,
            (true, [first, ..]) if first >> 1 == 0b101_1100 => FieldKind::OtherPseudo,
            _ => FieldKind::Regular,
        }
    }
}

/// How far into a header block we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A field begins, or the table's size changes.
    Field,
    Index(Form, Number),
    NameLength,
    NameLengthMore(Name, Number),
    Name(Name, u32),
    ValueLength,
    ValueLengthMore(Number),
    Value(u32),
}

/// Reads the header blocks that one side of a connection sends.
#[derive(Debug)]
pub(crate) struct HeaderBlocks {
    state: State,
    form: Form,
    /// Of the present block.
    found: PseudoFields,
    has_regular: bool,
    /// What kinds of fields the table has, the last that was added first.
    statuses: Entries,
    others: Entries,
}

impl HeaderBlocks {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Field,
            form: Form::Passing,
            found: PseudoFields::default(),
            has_regular: false,
            statuses: 0,
            others: 0,
        }
    }

    /// A block begins.
    pub(crate) fn begin(&mut self) {
        (self.state, self.found, self.has_regular) = (State::Field, PseudoFields::default(), false);
    }

    /// What was found in the block so far.
    pub(crate) fn found(&self) -> PseudoFields {
        self.found
    }

    /// The next bytes of the block.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            bytes = match self.state {
                State::Value(left) => {
                    let n = bytes.len().min(left as usize);
                    self.state = after_value(left - n as u32);
                    &bytes[n..]
                }
                State::Name(name, left) => {
                    let n = bytes.len().min(left as usize);
                    self.take_name(name, left, &bytes[..n]);
                    &bytes[n..]
                }
                _ => {
                    self.take(*byte);
                    rest
                }
            };
        }
    }

    fn take(&mut self, byte: u8) {
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
                let name = Name { is_coded: byte & 0x80 != 0, ..Name::default() };
                match number(byte, 7) {
                    Ok(length) => self.take_name(name, length, &[]),
                    Err(number) => self.state = State::NameLengthMore(name, number),
                }
            }
            State::NameLengthMore(name, mut number) => match number.takes(byte) {
                true => self.state = State::NameLengthMore(name, number),
                false => self.take_name(name, number.value, &[]),
            },
            State::ValueLength => match number(byte, 7) {
                Ok(length) => self.state = after_value(length),
                Err(number) => self.state = State::ValueLengthMore(number),
            },
            State::ValueLengthMore(mut number) => match number.takes(byte) {
                true => self.state = State::ValueLengthMore(number),
                false => self.state = after_value(number.value),
            },
            State::Name(..) | State::Value(_) => {}
        }
    }

    fn take_index(&mut self, form: Form, index: u32) {
        self.form = form;
        match (form, index) {
            (Form::Resize, _) => self.state = State::Field,
            (Form::Added | Form::Passing, 0) => self.state = State::NameLength,
            _ => self.take_field(self.kind_at(index)),
        }
    }

    /// What kind of field a table has there (section 2.3.3 and appendix A).
    fn kind_at(&self, index: u32) -> FieldKind {
        const FIRST_DYNAMIC: u32 = 62;
        match index {
            8..=14 => FieldKind::Status,
            1..=7 => FieldKind::OtherPseudo,
            FIRST_DYNAMIC.. => {
                let has = |entries: Entries| {
                    entries.checked_shr(index - FIRST_DYNAMIC).is_some_and(|entries| entries & 1 != 0)
                };
                match () {
                    () if has(self.statuses) => FieldKind::Status,
                    () if has(self.others) => FieldKind::OtherPseudo,
                    () => FieldKind::Regular,
                }
            }
            _ => FieldKind::Regular,
        }
    }

    fn take_name(&mut self, mut name: Name, left: u32, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = name.begins.get_mut(usize::from(name.have)) {
                *place = *byte;
                name.have += 1;
            }
        }
        match left - bytes.len() as u32 {
            0 => self.take_field(name.kind()),
            left => self.state = State::Name(name, left),
        }
    }

    /// The name is known.
    fn take_field(&mut self, kind: FieldKind) {
        if self.form == Form::Added {
            self.statuses = self.statuses << 1 | Entries::from(kind == FieldKind::Status);
            self.others = self.others << 1 | Entries::from(kind == FieldKind::OtherPseudo);
        }
        match kind {
            FieldKind::Regular => self.has_regular = true,
            _ if self.has_regular => {}
            FieldKind::Status => self.found.has_status = true,
            FieldKind::OtherPseudo => self.found.has_others = true,
        }
        self.state = if self.form == Form::Indexed { State::Field } else { State::ValueLength };
    }
}

fn after_value(left: u32) -> State {
    if left == 0 { State::Field } else { State::Value(left) }
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

    const NONE: PseudoFields = PseudoFields { has_status: false, has_others: false };
    const STATUS: PseudoFields = PseudoFields { has_status: true, has_others: false };
    const OTHERS: PseudoFields = PseudoFields { has_status: false, has_others: true };
    const BOTH: PseudoFields = PseudoFields { has_status: true, has_others: true };

    /// Blocks of one connection, and what is found in each, wherever they are cut.
    #[track_caller]
    fn check(blocks: &[(&[u8], PseudoFields)]) {
        let longest = blocks.iter().map(|(block, _)| block.len()).max().unwrap_or_default();
        for cut in 0..=longest {
            let mut reader = HeaderBlocks::new();
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
            (b"\x00\x02:x\x00", OTHERS),
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
            (b"\x40\x00\x00", NONE),
            // Behind a field it is the codec's matter.
            (b"\x40\x01x\x011\x88", NONE),
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
            (b"\x00\x01y\x011\xbf", NONE),
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
        let mut reader = HeaderBlocks::new();
        reader.begin();
        reader.read(b"\x88\x00\x7f");
        assert_eq!(reader.found(), STATUS);
        reader.begin();
        reader.read(b"\x40\x01x\x011");
        assert_eq!(reader.found(), NONE);
    }
}
