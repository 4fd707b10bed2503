use std::sync::LazyLock;

use regex::Regex;
use smol_str::SmolStr;

use crate::pattern::{Groups, Pattern};

/// A text with `$1` and `${name}` in it, read for one pattern by the rules of Go's `regexp.Expand` (Go 1.26
/// regexp/regexp.go): the longest name of letters, digits and `_` counts, `$$` is `$`, what is not well-formed
/// is text, a group that does not exist or did not take part is empty.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(SmolStr),
    /// The first of these groups that took part.
    Group(Vec<usize>),
}

impl Template {
    pub(crate) fn compile(template: &str, pattern: &Pattern) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = leading_name(rest) else {
                text.push('$');
                continue;
            };
            rest = after;
            let groups = match group_number(name) {
                Some(number) if number < pattern.group_count() => vec![number],
                Some(_) => Vec::new(),
                None => pattern.groups_named(name),
            };
            if !groups.is_empty() {
                if !text.is_empty() {
                    parts.push(Part::Text(SmolStr::from(std::mem::take(&mut text))));
                }
                parts.push(Part::Group(groups));
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Self(parts)
    }

    /// The text, when it is the same for every match.
    pub(crate) fn constant(&self) -> Option<SmolStr> {
        match self.0.as_slice() {
            [] => Some(SmolStr::default()),
            [Part::Text(text)] => Some(text.clone()),
            _ => None,
        }
    }

    pub(crate) fn expand(&self, groups: &Groups<'_>, into: &mut String) {
        for part in &self.0 {
            match part {
                Part::Text(text) => into.push_str(text),
                Part::Group(candidates) => {
                    into.push_str(candidates.iter().find_map(|group| groups.get(*group)).unwrap_or_default());
                }
            }
        }
    }
}

/// The name behind a `$`, in braces or not, and what follows it.
fn leading_name(rest: &str) -> Option<(&str, &str)> {
    // Go's letters and digits: the categories L and Nd.
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A[\p{L}\p{Nd}_]+").ok());
    let (inner, braces) = match rest.strip_prefix('{') {
        Some(inner) => (inner, true),
        None => (rest, false),
    };
    let end = NAME.as_ref()?.find(inner)?.end();
    let (name, after) = inner.split_at(end);
    let after = if braces { after.strip_prefix('}')? } else { after };
    Some((name, after))
}

fn group_number(name: &str) -> Option<usize> {
    // Go takes 01 for a name, and whatever is 100,000,000 or more before its last digit.
    let leading_zero = name.len() > 1 && name.starts_with('0');
    let digits = !leading_zero && name.len() <= 9 && name.bytes().all(|b| b.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}
