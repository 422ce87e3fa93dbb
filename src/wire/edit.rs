//! What filters change of a head, kept beside it until the head is written: fields of its own that go, and fields that
//! come. A head without edits leaves as it came.

use super::title;
use crate::fields::{Field, FieldList};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use std::borrow::Cow;

/// A field's name, and how HTTP/1 usually writes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FieldName {
    pub(crate) name: HeaderName,
    title: Cow<'static, str>,
}

impl FieldName {
    /// `title` is the name with its capitals.
    pub(crate) const fn new(name: HeaderName, title: &'static str) -> Self {
        Self { name, title: Cow::Borrowed(title) }
    }

    /// One that is known when the program runs.
    pub(crate) fn named(name: HeaderName, title: String) -> Self {
        Self { name, title: Cow::Owned(title) }
    }
}

type AddedField<'a> = (&'a FieldName, Cow<'a, [u8]>);

/// Edits of one head.
#[derive(Debug, Default)]
pub(crate) struct Edits<'a> {
    /// A bit for each of the head's own fields that go.
    removed: SmallVec<[u64; 4]>,
    added: SmallVec<[AddedField<'a>; 8]>,
    /// Fields that were left out, since no field may have such a value.
    dropped: u32,
}

impl<'a> Edits<'a> {
    /// Takes out the field that is at this place in the head.
    pub(crate) fn remove_at(&mut self, index: usize) {
        let word = index / 64;
        if self.removed.len() <= word {
            self.removed.resize(word + 1, 0);
        }
        self.removed[word] |= 1 << (index % 64);
    }

    /// Takes out all fields of this name: the head's own, and those that an edit before has added.
    pub(crate) fn remove(&mut self, fields: FieldList<'_>, name: &HeaderName) {
        // Folded, as in `leaves`.
        let text = name.as_str();
        fields.each().enumerate().for_each(|(index, field)| {
            if field.is(text) {
                self.remove_at(index);
            }
        });
        if self.added.iter().any(|(added, _)| added.name == *name) {
            self.added.retain(|(added, _)| added.name != *name);
        }
    }

    /// Adds a field. A value that no field may have (RFC 9110 section 5.5) is left out, and the field with it.
    pub(crate) fn add(&mut self, name: &'a FieldName, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        if is_value(value.as_bytes()) {
            self.add_judged(name, value);
        }
    }

    /// The same for a value that was looked at where it came from, or that is our own writing.
    pub(crate) fn add_judged(&mut self, name: &'a FieldName, value: impl Into<Cow<'a, str>>) {
        self.add_bytes(
            name,
            match value.into() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        );
    }

    /// The same for what may be no text, as a stranger's value that was changed in part.
    pub(crate) fn add_bytes(&mut self, name: &'a FieldName, value: impl Into<Cow<'a, [u8]>>) {
        let value = value.into();
        debug_assert!(is_value(&value), "{name:?}: {value:?}");
        self.added.push((name, value));
    }

    /// The same for a value that strangers have a part in; one that no field may have is counted.
    pub(crate) fn add_stranger(&mut self, name: &'a FieldName, value: Cow<'a, [u8]>) {
        match is_value(&value) {
            true => self.added.push((name, value)),
            false => self.dropped += 1,
        }
    }

    /// How many fields were left out so.
    pub(crate) fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Puts a field in place of all of its name.
    #[cfg_attr(not(any(test, debug_assertions)), allow(dead_code))]
    pub(crate) fn set(&mut self, fields: FieldList<'_>, name: &'a FieldName, value: impl Into<Cow<'a, str>>) {
        self.remove(fields, &name.name);
        self.add(name, value);
    }

    /// Whether a field of this name leaves with the head.
    pub(crate) fn leaves(&self, fields: FieldList<'_>, name: &HeaderName) -> bool {
        // Folded: an end to look for would have each step ask which form the head has.
        self.staying(fields).fold(false, |leaves, field| leaves | field.is(name.as_str()))
            || self.added.iter().any(|(added, _)| added.name == *name)
    }

    fn is_removed(&self, index: usize) -> bool {
        self.removed.get(index / 64).is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    /// The head's own fields that leave with it.
    pub(crate) fn staying<'f>(&self, fields: FieldList<'f>) -> impl Iterator<Item = Field<'f>> {
        fields.each().enumerate().filter(|(index, _)| !self.is_removed(*index)).map(|(_, field)| field)
    }

    /// The values of the fields of this name that leave with the head.
    pub(crate) fn leaving<'e>(
        &'e self,
        fields: FieldList<'e>,
        name: &'e HeaderName,
    ) -> impl Iterator<Item = &'e [u8]> {
        let added = self.added.iter().filter(move |(added, _)| added.name == *name);
        let staying = self.staying(fields).filter(move |field| field.is(name.as_str()));
        staying.map(Field::value).chain(added.map(|(_, value)| &**value))
    }

    /// Writes the head's own fields that leave with it, but those that are left out. Fields of HTTP/1 leave as they came, and
    /// those that lie one behind the other by one copy; others with the capitals that they usually have.
    pub(super) fn write_staying<'f>(
        &self,
        fields: FieldList<'f>,
        out: &mut Vec<u8>,
        mut is_left_out: impl FnMut(Field<'f>) -> bool,
    ) {
        let FieldList::Raw { bytes, fields: spans } = fields else {
            return self
                .staying(fields)
                .filter(|field| !is_left_out(*field))
                .for_each(|field| write(field, out));
        };
        let mut lines = 0..0;
        for (index, at) in spans.iter().enumerate() {
            let field = Field::Raw { bytes, at: *at };
            if self.is_removed(index) || is_left_out(field) {
                continue;
            }
            match at.usual_line(bytes) {
                Some(line) if line.start == lines.end => lines.end = line.end,
                Some(line) => out.extend_from_slice(&bytes[std::mem::replace(&mut lines, line)]),
                None => {
                    out.extend_from_slice(&bytes[std::mem::take(&mut lines)]);
                    write(field, out);
                }
            }
        }
        out.extend_from_slice(&bytes[lines]);
    }

    /// How many fields were added.
    pub(crate) fn added_count(&self) -> usize {
        self.added.len()
    }

    /// Writes the added fields.
    pub(crate) fn write_added(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.added {
            write_field(name.title.as_bytes(), value, out);
        }
    }

    /// Adds the added fields to a map.
    pub(crate) fn append_added(&self, map: &mut HeaderMap) {
        for (name, value) in &self.added {
            // It has been looked at.
            if let Ok(value) = HeaderValue::from_bytes(value) {
                map.append(&name.name, value);
            }
        }
    }
}

/// Whether a field may have this value.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Writes a field as it came, or one of a map with the capitals that it usually has in HTTP/1.1.
fn write(field: Field<'_>, out: &mut Vec<u8>) {
    match field {
        Field::Raw { .. } => write_field(field.name(), field.value(), out),
        Field::Parsed { name, value } => {
            title::write(name.as_str(), out);
            for part in [b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// Writes a field.
pub(super) fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request_head::sample_head;
    use http::header;

    static DATE: FieldName = FieldName::new(header::DATE, "Date");
    static MARK: FieldName = FieldName::new(HeaderName::from_static("x-mark"), "X-Mark");

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn written(map: &HeaderMap, edits: &Edits<'_>) -> String {
        let mut out = Vec::new();
        edits.write_staying(FieldList::Map(map), &mut out, |_| false);
        edits.write_added(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_field_is_set_in_place_of_all_of_its_name() {
        let map = map(&[("x-mark", "1"), ("etag", "a"), ("x-mark", "2")]);
        let mut edits = Edits::default();
        edits.set(FieldList::Map(&map), &MARK, "3");
        assert_eq!(written(&map, &edits), "Etag: a\r\nX-Mark: 3\r\n");
        edits.set(FieldList::Map(&map), &MARK, "4".to_owned());
        edits.add(&DATE, "today");
        assert_eq!(written(&map, &edits), "Etag: a\r\nX-Mark: 4\r\nDate: today\r\n");
        edits.remove(FieldList::Map(&map), &MARK.name);
        assert_eq!(written(&map, &edits), "Etag: a\r\nDate: today\r\n");
    }

    #[test]
    fn fields_leave_as_they_came_whichever_stay() {
        let head = sample_head(
            "GET / HTTP/1.1\r\nHost: a\r\nB:2\r\nC: 3 \r\nd: 4\r\nE:\r\nF:  6\r\nG: 7\r\nH: 8\r\n\r\n",
        );
        let lines = ["Host: a", "B: 2", "C: 3", "d: 4", "E: ", "F: 6", "G: 7", "H: 8"]
            .map(|line| format!("{line}\r\n"));
        for staying in 0_u32..1 << lines.len() {
            let stays = |index: usize| staying & 1 << index != 0;
            let expected: String = (0..lines.len()).filter(|at| stays(*at)).map(|at| &*lines[at]).collect();
            let mut edits = Edits::default();
            (0..lines.len()).filter(|at| !stays(*at)).for_each(|at| edits.remove_at(at));
            let mut out = Vec::new();
            edits.write_staying(head.fields(), &mut out, |_| false);
            assert_eq!(str::from_utf8(&out), Ok(&*expected));
            // Whoever writes may leave them out as well.
            let (mut out, mut at) = (Vec::new(), 0);
            Edits::default().write_staying(head.fields(), &mut out, |_| {
                at += 1;
                !stays(at - 1)
            });
            assert_eq!(str::from_utf8(&out), Ok(&*expected));
        }
    }

    #[test]
    fn what_leaves_is_known() {
        let map = map(&[("etag", "a"), ("x-mark", "2")]);
        let list = FieldList::Map(&map);
        let mut edits = Edits::default();
        assert!(edits.leaves(list, &MARK.name) && !edits.leaves(list, &header::DATE));
        edits.remove(list, &MARK.name);
        edits.add(&DATE, "today");
        assert!(!edits.leaves(list, &MARK.name) && edits.leaves(list, &header::DATE));
        let leaving = |name| edits.leaving(list, name).collect::<Vec<_>>();
        assert_eq!((leaving(&header::DATE), leaving(&MARK.name)), (vec![&b"today"[..]], vec![]));
        assert_eq!(leaving(&header::ETAG), [b"a"]);
    }

    #[test]
    fn any_of_many_fields_is_removed() {
        let map: HeaderMap = (0..300)
            .map(|n| (HeaderName::try_from(format!("x-{n}")).expect("a name"), HeaderValue::from_static("")))
            .collect();
        for index in [0, 63, 64, 255, 256, 299] {
            let mut edits = Edits::default();
            edits.remove_at(index);
            let left: Vec<_> = edits.staying(FieldList::Map(&map)).map(Field::name).collect();
            let all: Vec<_> = FieldList::Map(&map).each().map(Field::name).collect();
            assert_eq!((left.len(), left.contains(&all[index])), (299, false), "{index}");
        }
    }

    #[test]
    fn a_value_that_would_end_its_line_is_left_out() {
        for value in ["a\r\nb: c", "a\nb", "a\0", "\x7f"] {
            let mut edits = Edits::default();
            edits.add(&MARK, value);
            assert_eq!(edits.added_count(), 0, "{value:?}");
        }
    }
}
