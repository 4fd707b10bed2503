use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use regex::{Captures, Regex, RegexBuilder};
use smol_str::SmolStr;

use crate::go_regex::{GoRegexError, MAX_NESTING, translate_anchored};

/// A rule's regular expression, compiled to the cheapest thing that matches alike.
#[derive(Debug)]
pub(crate) struct Pattern {
    matcher: Matcher,
    /// The name of each capture group, the whole match included.
    group_names: Vec<Option<Box<str>>>,
}

impl Pattern {
    /// The pattern of a text, shared with everything else that has compiled the same text: a regular expression
    /// takes some 30 KiB, and one configuration repeats the same few.
    pub(crate) fn interned(expression: &str) -> Result<Arc<Self>, GoRegexError> {
        static INTERNED: LazyLock<Mutex<HashMap<SmolStr, Weak<Pattern>>>> = LazyLock::new(Mutex::default);
        let mut interned = INTERNED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = interned.get(expression).and_then(Weak::upgrade) {
            return Ok(pattern);
        }
        let pattern = Arc::new(Self::compile(expression)?);
        interned.retain(|_, pattern| pattern.strong_count() > 0);
        interned.insert(expression.into(), Arc::downgrade(&pattern));
        Ok(pattern)
    }

    /// Like [`interned`](Self::interned), for this caller alone.
    pub(crate) fn compile(expression: &str) -> Result<Self, GoRegexError> {
        match parse_simple(expression) {
            Some(pattern) => Ok(pattern),
            None => Self::compile_regex(expression),
        }
    }

    fn compile_regex(expression: &str) -> Result<Self, GoRegexError> {
        let translation = translate_anchored(expression)?;
        let regex = RegexBuilder::new(&translation.expression)
            // The pieces of a translation may wrap each of Go's groups once more.
            .nest_limit(4 * MAX_NESTING as u32)
            .build()
            .map_err(|error| GoRegexError::TooLarge(error.to_string()))?;
        Ok(Self { matcher: Matcher::Regex(regex), group_names: translation.group_names })
    }

    pub(crate) fn is_match(&self, value: &str) -> bool {
        match &self.matcher {
            Matcher::Affix(affix) => affix.is_match(value),
            Matcher::AnyOf(affixes) => affixes.iter().any(|affix| affix.is_match(value)),
            Matcher::Contains(part) => value.contains(part.as_str()),
            Matcher::OneOf(literals) => literals.contains(value),
            Matcher::Regex(regex) => regex.is_match(value),
        }
    }

    /// The groups of the match, or `None` when there is no match.
    pub(crate) fn find<'v>(&'v self, value: &'v str) -> Option<Groups<'v>> {
        // Asked first because it allocates nothing.
        if !self.is_match(value) {
            return None;
        }
        match &self.matcher {
            Matcher::Regex(regex) => regex.captures(value).map(Groups::Regex),
            Matcher::Affix(Affix { hole: Some(hole), prefix, suffix }) if hole.captured => {
                let inner = &value[prefix.len()..value.len() - suffix.len()];
                Some(Groups::Simple { whole: value, first: Some(inner) })
            }
            _ => {
                let first = (self.group_names.len() > 1).then_some(value);
                Some(Groups::Simple { whole: value, first })
            }
        }
    }

    /// All matches one after the other with the texts between them replaced by `expand`, as Go's
    /// `ReplaceAllString`; the value has to match.
    pub(crate) fn replace_all(
        &self,
        value: &str,
        into: &mut String,
        mut expand: impl FnMut(&Groups<'_>, &mut String),
    ) {
        let Matcher::Regex(regex) = &self.matcher else {
            // What is matched without a regex is matched whole.
            if let Some(groups) = self.find(value) {
                expand(&groups, into);
            }
            return;
        };
        let mut end = 0;
        for captures in regex.captures_iter(value) {
            let whole = captures.get_match();
            into.push_str(&value[end..whole.start()]);
            end = whole.end();
            expand(&Groups::Regex(captures), into);
        }
        into.push_str(&value[end..]);
    }

    /// The positions of the groups of this name, in order.
    pub(crate) fn groups_named(&self, name: &str) -> Vec<usize> {
        let named = self.group_names.iter().enumerate();
        named.filter(|(_, group)| group.as_deref() == Some(name)).map(|(at, _)| at).collect()
    }

    /// How many groups there are, the whole match included.
    pub(crate) fn group_count(&self) -> usize {
        self.group_names.len()
    }
}

/// What the groups of a match hold.
pub(crate) enum Groups<'v> {
    Regex(Captures<'v>),
    Simple { whole: &'v str, first: Option<&'v str> },
}

impl Groups<'_> {
    /// The text of a group; `None` when it did not take part.
    pub(crate) fn get(&self, group: usize) -> Option<&str> {
        match (self, group) {
            (Self::Regex(captures), _) => captures.get(group).map(|text| text.as_str()),
            (Self::Simple { whole, .. }, 0) => Some(whole),
            (Self::Simple { first, .. }, 1) => *first,
            (Self::Simple { .. }, _) => None,
        }
    }
}

#[derive(Debug)]
enum Matcher {
    /// `literal`, `prefix.*`, `.+suffix`, `prefix(.*)suffix`, `.*`.
    Affix(Affix),
    /// Several of those, none of them with a group of its own.
    AnyOf(Vec<Affix>),
    /// `.*part.*`
    Contains(SmolStr),
    /// An alternation of literals.
    OneOf(BTreeSet<SmolStr>),
    Regex(Regex),
}

#[derive(Debug)]
struct Affix {
    prefix: SmolStr,
    /// What stands between prefix and suffix, where something may.
    hole: Option<Hole>,
    suffix: SmolStr,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    /// `.+` and not `.*`.
    filled: bool,
    captured: bool,
}

impl Affix {
    fn is_match(&self, value: &str) -> bool {
        let Some(hole) = self.hole else { return value == self.prefix };
        value.len() >= self.prefix.len() + self.suffix.len() + usize::from(hole.filled)
            && value.starts_with(self.prefix.as_str())
            && value.ends_with(self.suffix.as_str())
    }
}

/// Reads an expression that needs no regular expression to match; `None` for all others, wrong ones included.
fn parse_simple(expression: &str) -> Option<Pattern> {
    let (body, whole_captured) = strip_group(expression);
    let mut alternatives = split_alternatives(body)?;
    let unnamed = |groups| vec![None; groups];
    if let [Alternative::Contains(_)] = alternatives.as_slice()
        && let Some(Alternative::Contains(part)) = alternatives.pop()
    {
        let group_names = unnamed(1 + usize::from(whole_captured));
        return Some(Pattern { matcher: Matcher::Contains(part), group_names });
    }
    let mut affixes = Vec::with_capacity(alternatives.len());
    for alternative in alternatives {
        let Alternative::Affix(affix) = alternative else { return None };
        affixes.push(affix);
    }
    let captures_hole = |affix: &Affix| affix.hole.is_some_and(|hole| hole.captured);
    let one = affixes.len() == 1;
    if (whole_captured || !one) && affixes.iter().any(captures_hole) {
        return None;
    }
    let groups = 1 + usize::from(whole_captured || affixes.iter().any(captures_hole));
    let matcher = if one {
        Matcher::Affix(affixes.pop()?)
    } else if affixes.iter().all(|affix| affix.hole.is_none()) {
        Matcher::OneOf(affixes.into_iter().map(|affix| affix.prefix).collect())
    } else {
        Matcher::AnyOf(affixes)
    };
    Some(Pattern { matcher, group_names: unnamed(groups) })
}

enum Alternative {
    Affix(Affix),
    Contains(SmolStr),
}

/// The inside of a group that is the whole expression, and whether the group captures.
fn strip_group(expression: &str) -> (&str, bool) {
    let Some(inner) = expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) else {
        return (expression, false);
    };
    let (inner, captured) = match inner.strip_prefix("?:") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    // Another group inside, an escaped end, or `(a)|(b)`: split_alternatives decides about the whole text.
    if inner.contains(['(', ')']) || inner.ends_with('\\') { (expression, false) } else { (inner, captured) }
}

fn split_alternatives(body: &str) -> Option<Vec<Alternative>> {
    let mut alternatives = Vec::new();
    let mut current = Parts::default();
    let mut chars = body.chars().peekable();
    let mut fresh = true;
    while let Some(c) = chars.next() {
        let was_fresh = std::mem::replace(&mut fresh, false);
        match c {
            '|' => {
                alternatives.push(std::mem::take(&mut current).finish()?);
                fresh = true;
                continue;
            }
            // The whole is anchored: at an alternative's ends these say nothing more.
            '^' if was_fresh => {
                if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) {
                    return None;
                }
                continue;
            }
            '$' if matches!(chars.peek(), None | Some('|')) => continue,
            '.' => current.hole(take_hole(&mut chars)?, false)?,
            '(' => {
                if chars.next()? != '.' {
                    return None;
                }
                let filled = take_hole(&mut chars)?;
                if chars.next()? != ')' {
                    return None;
                }
                current.hole(filled, true)?;
            }
            '\\' => match chars.next()? {
                escaped if escaped.is_ascii_punctuation() => current.literal(escaped),
                _ => return None,
            },
            '[' | ']' | '{' | '}' | ')' | '*' | '+' | '?' | '^' | '$' => return None,
            literal => current.literal(literal),
        }
        // A repetition of what was just read, also of a whole hole (`.**`), is not simple.
        if matches!(chars.peek(), Some('*' | '+' | '?' | '{')) {
            return None;
        }
    }
    alternatives.push(current.finish()?);
    Some(alternatives)
}

/// Reads the `*` or `+` behind a dot: whether the hole has to be filled.
fn take_hole(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<bool> {
    match chars.next()? {
        '*' => Some(false),
        '+' => Some(true),
        _ => None,
    }
}

/// The literals of an alternative and the holes between them: at most `hole literal hole`.
#[derive(Default)]
struct Parts {
    literals: Vec<String>,
    holes: Vec<Hole>,
}

impl Parts {
    fn literal(&mut self, c: char) {
        self.literals.resize(self.holes.len() + 1, String::new());
        if let Some(last) = self.literals.last_mut() {
            last.push(c);
        }
    }

    fn hole(&mut self, filled: bool, captured: bool) -> Option<()> {
        self.literals.resize(self.holes.len() + 1, String::new());
        self.holes.push(Hole { filled, captured });
        (self.holes.len() <= 2).then_some(())
    }

    fn finish(mut self) -> Option<Alternative> {
        self.literals.resize(self.holes.len() + 1, String::new());
        let mut literals = self.literals.iter().map(SmolStr::from);
        let (prefix, second) = (literals.next()?, literals.next());
        match self.holes.as_slice() {
            [] => Some(Alternative::Affix(Affix { prefix, hole: None, suffix: SmolStr::default() })),
            [hole] => Some(Alternative::Affix(Affix { prefix, hole: Some(*hole), suffix: second? })),
            [before, after] => {
                let optional = |hole: &Hole| !hole.filled && !hole.captured;
                let contained = second.filter(|part| !part.is_empty())?;
                let open = prefix.is_empty() && literals.next()?.is_empty();
                (open && optional(before) && optional(after)).then_some(Alternative::Contains(contained))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_needs_no_regex() {
        for expression in [
            "",
            "foo",
            r"a\.b",
            "foo|bar",
            "(foo|bar)",
            "(?:foo|bar)",
            "^metrics$",
            "foo.*",
            ".+foo",
            "(.*)",
            "(.+)",
            ".+",
            "__meta_(.+)",
            "a(.*)b",
            ".*http.*",
            "a.*|b",
            "^a$|^b$",
            "|a",
            "é.*",
        ] {
            assert!(parse_simple(expression).is_some(), "{expression:?}");
        }
        for expression in [
            "a.b",
            "a*",
            "(a)(b)",
            "(a)|(b)",
            r"\d",
            r"a\",
            ".**",
            ".*?",
            "^*",
            "a$b",
            "(?i)a",
            "a)|(b",
            "(a",
            "[a]",
            "a{2}",
            "{foo}",
            "(.*)(.*)",
            "a.*b.*",
            "(a|.+b)(c)",
            "((a))",
        ] {
            assert!(parse_simple(expression).is_none(), "{expression:?}");
        }
    }

    proptest! {
        /// What is matched without a regular expression is matched as the regular expression would.
        #[test]
        fn simple_is_the_same(expression in r"[ab.*+|()\\^$?é:]{0,10}", value in "[abé.\n]{0,5}") {
            let Some(simple) = parse_simple(&expression) else { return Ok(()) };
            let regex = Pattern::compile_regex(&expression);
            prop_assert!(regex.is_ok(), "{expression:?} is simple but no expression");
            let regex = regex.unwrap();
            prop_assert_eq!(simple.group_count(), regex.group_count());
            let groups = |pattern: &Pattern| {
                pattern.find(&value).map(|groups| {
                    (0..3).map(|at| groups.get(at).map(str::to_owned)).collect::<Vec<_>>()
                })
            };
            prop_assert_eq!(groups(&simple), groups(&regex), "{} on {}", expression, value);
        }

        #[test]
        fn any_text_compiles_or_is_refused(expression in r"([\\\[\]{}()^$.|*+?a-c0-9:,<>PQEpxdwsbimU&~\-]|\PC){0,24}") {
            let _ = Pattern::compile(&expression);
        }
    }
}
