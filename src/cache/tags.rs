//! The tags by which responses are purged, and their numbers. Two that share one are purged together.

use crate::config::plan::cache::TagsPlan;
use crate::fields::Fields;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// So many tags of a response are told apart; one with more is purged by any tag.
const MOST: usize = 10_000;

/// In place of the numbers of more tags than are told apart.
pub(crate) const ANY_TAG: u64 = 0;

/// The tags that a text names, with blanks or commas between them.
pub(crate) fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b',' | b' ' | b'\t')).filter(|tag| !tag.is_empty())
}

pub(crate) fn tag_number(tag: &[u8]) -> u64 {
    xxh3_64_with_seed(tag, 1)
}

/// The numbers of a response's tags.
pub(crate) fn tags_of(plan: &TagsPlan, fields: &impl Fields) -> Box<[u64]> {
    let lines = plan.fields.iter().flat_map(|name| fields.all(name));
    numbers_of(lines.flat_map(split))
}

fn numbers_of<'a>(tags: impl Iterator<Item = &'a [u8]>) -> Box<[u64]> {
    let mut numbers: Vec<_> = tags.map(tag_number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.len() > MOST {
        return [ANY_TAG].into();
    }
    numbers.into()
}

/// The tags that Magento names in `X-Magento-Tags-Pattern`, which is a regular expression and is never run as one:
/// `((^|,)cat_p_1(,|$))|((^|,)cat_c_2(,|$))`. `None` is all (`.*`); an error is any other expression.
pub(crate) fn magento_tags(pattern: &str) -> Result<Option<Vec<&str>>, ()> {
    if pattern == ".*" {
        return Ok(None);
    }
    let is_tag = |tag: &str| {
        !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
    };
    let tag = |part: &'_ str| -> Option<usize> {
        let rest = part.strip_prefix("((^|,)")?;
        rest.find("(,|$))").filter(|end| is_tag(&rest[..*end]))
    };
    let (mut rest, mut tags) = (pattern, Vec::new());
    loop {
        let length = tag(rest).ok_or(())?;
        let begin = "((^|,)".len();
        tags.push(&rest[begin..begin + length]);
        rest = &rest[begin + length + "(,|$))".len()..];
        match rest.strip_prefix('|') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(Some(tags)),
            None => return Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magentos_expressions_are_lists_of_tags_or_nothing() {
        for (pattern, tags) in [
            (".*", Ok(None)),
            ("((^|,)cat_p_1(,|$))", Ok(Some(vec!["cat_p_1"]))),
            ("((^|,)cat_p_1(,|$))|((^|,)cms-b.2(,|$))", Ok(Some(vec!["cat_p_1", "cms-b.2"]))),
            ("", Err(())),
            ("cat_p_1", Err(())),
            (".*|((^|,)a(,|$))", Err(())),
            ("((^|,)a|b(,|$))", Err(())),
            ("((^|,)(,|$))", Err(())),
            ("((^|,)a(,|$))|", Err(())),
            ("((^|,)a(,|$))((^|,)b(,|$))", Err(())),
        ] {
            assert_eq!(magento_tags(pattern), tags, "{pattern}");
        }
    }

    #[test]
    fn of_too_many_tags_each_stands_for_all() {
        let names = |count: usize| (0..count).map(|n| format!("cat_p_{n}")).collect::<Vec<_>>();
        let numbers = |names: &[String]| numbers_of(names.iter().map(String::as_bytes));
        let (most, more) = (names(MOST), names(MOST + 1));
        assert_eq!(numbers(&most).len(), MOST);
        assert!(numbers(&most).contains(&tag_number(b"cat_p_9999")), "the last of them counts");
        assert_eq!(*numbers(&[most.clone(), most].concat()), *numbers(&names(MOST)), "once each");
        assert_eq!(*numbers(&more), [ANY_TAG]);
        assert!(numbers(&[]).is_empty());
    }

    #[test]
    fn tags_are_parted_by_commas_and_blanks() {
        let split = |text: &str| split(text.as_bytes()).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!(split("a, bb\tccc,,d  "), [1, 2, 3, 1]);
        assert_eq!(split(" , "), [0; 0]);
    }
}
