//! The judgement of a page by the OpenMetrics 1.0 specification, of which Prometheus lets pass much that is forbidden.

mod decimal;
mod family;
mod line;
mod rule;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use family::Family;
use line::Label;
pub use rule::{StrictError, StrictRule};

use crate::ParseError;
use crate::family::Suffix;
use crate::seeded_hasher::SeededHasher;

/// What a valid page holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validated {
    /// Metric families, those of metadata alone included.
    pub families: usize,
    /// Lines with a value.
    pub samples: usize,
}

/// Judges a whole page by the OpenMetrics 1.0 specification: strict mode. Prometheus, and so
/// [`Parser`](crate::Parser), accepts much of what this refuses.
///
/// Names beyond letters, digits, underscores and colons are accepted in quotes, as `escaping=allow-utf-8` negotiates
/// them; the specification itself came before them. A plain double quote in a HELP text is accepted, which its test
/// data has and its grammar has not. Names that the specification reserves are not refused, nor is anything that
/// it says SHOULD be.
///
/// Takes time linear in the page's length but for sorting the labels of a line, and memory in proportion to the
/// page: a few dozen bytes for each family and, while its family is read, for each metric.
///
/// # Errors
/// The first place that breaks a [`StrictRule`]. What can be judged only at the end of a metric or a family is found
/// after what is wrong within it.
///
/// ```
/// use promferry_exposition::{StrictRule, validate};
///
/// let page = b"# TYPE requests counter\nrequests_total{code=\"200\"} 7\n# EOF\n";
/// assert_eq!(validate(page)?.samples, 1);
///
/// let refused = validate(b"# TYPE requests counter\nrequests 7\n# EOF\n").unwrap_err();
/// assert_eq!((refused.rule, refused.error.line()), (StrictRule::SampleName, Some(2)));
/// # Ok::<(), promferry_exposition::StrictError>(())
/// ```
pub fn validate(page: &[u8]) -> Result<Validated, StrictError> {
    let judged = match std::str::from_utf8(page) {
        Ok(text) => Validator::new().judge(text),
        Err(error) => Err(Refusal::new(StrictRule::Page, error.valid_up_to(), "not UTF-8")),
    };
    judged.map_err(|refusal| StrictError {
        error: ParseError::in_text(page, refusal.at, refusal.problem),
        rule: refusal.rule,
    })
}

/// What is wrong at a byte of the page, before it is known which line that is.
#[derive(Debug)]
struct Refusal {
    rule: StrictRule,
    at: usize,
    problem: Cow<'static, str>,
}

impl Refusal {
    fn new(rule: StrictRule, at: usize, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, at, problem: problem.into() }
    }
}

struct Validator<'a> {
    found: Validated,
    line_number: usize,
    family: Option<Family<'a>>,
    /// Names that samples of the families so far may have, as hashes, with the line on which the family begins.
    sample_names: HashMap<u128, usize>,
    hasher: SeededHasher,
    /// Working memory for the labels of a line and of its exemplar.
    labels: Vec<Label<'a>>,
    exemplar_labels: Vec<Label<'a>>,
}

impl<'a> Validator<'a> {
    fn new() -> Self {
        Self {
            found: Validated::default(),
            line_number: 0,
            family: None,
            sample_names: HashMap::new(),
            hasher: SeededHasher::new(),
            labels: Vec::new(),
            exemplar_labels: Vec::new(),
        }
    }

    fn judge(mut self, page: &'a str) -> Result<Validated, Refusal> {
        let refuse = |at, problem| Err(Refusal::new(StrictRule::Page, at, problem));
        let mut at = 0;
        loop {
            self.line_number += 1;
            let rest = &page[at..];
            let end = memchr::memchr(b'\n', rest.as_bytes());
            let line = &rest[..end.unwrap_or(rest.len())];
            let next = at + line.len() + 1;
            if line == "# EOF" {
                if next < page.len() {
                    return refuse(next, "text after # EOF");
                }
                break;
            }
            if end.is_none() {
                return refuse(page.len(), "page does not end with # EOF");
            }
            if line.is_empty() {
                return refuse(at, "an empty line");
            }
            if line.ends_with('\r') {
                return refuse(next - 2, "a carriage return at the end of a line");
            }
            if line.starts_with('#') {
                self.metadata(line, at)?
            } else {
                self.sample(line, at)?
            }
            at = next;
        }
        self.close_family()?;
        Ok(self.found)
    }

    fn metadata(&mut self, line: &'a str, at: usize) -> Result<(), Refusal> {
        let metadata = line::metadata(line, at)?;
        if self.family.as_ref().is_none_or(|family| family.name != metadata.family) {
            self.begin_family(metadata.family.clone(), metadata.family_at)?;
        }
        match &mut self.family {
            Some(family) => family.describe(&metadata),
            None => Ok(()),
        }
    }

    fn sample(&mut self, line: &'a str, at: usize) -> Result<(), Refusal> {
        let sample = line::sample(line, at, &mut self.labels, &mut self.exemplar_labels)?;
        self.found.samples += 1;
        let suffix = self.family.as_ref().map(|family| family.suffix_of(&sample)).transpose()?.flatten();
        if suffix.is_none() {
            self.begin_family(sample.name.clone(), at)?;
        }
        match &mut self.family {
            Some(family) => {
                family.add(&sample, suffix.unwrap_or(Suffix::None), &self.labels, &mut self.hasher)
            }
            None => Ok(()),
        }
    }

    fn begin_family(&mut self, name: Cow<'a, str>, at: usize) -> Result<(), Refusal> {
        self.close_family()?;
        self.found.families += 1;
        self.family = Some(Family::new(name, at, self.line_number));
        Ok(())
    }

    fn close_family(&mut self) -> Result<(), Refusal> {
        let Some(family) = self.family.take() else { return Ok(()) };
        family.close()?;
        let suffixes = Suffix::of(family.metric_type());
        // No family is named as another's sample either.
        let own_name = (!suffixes.contains(&Suffix::None)).then_some(&Suffix::None);
        for suffix in own_name.into_iter().chain(suffixes) {
            let name = self.hasher.hash_name(&family.name, suffix.as_str());
            match self.sample_names.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(family.line_number);
                }
                Entry::Occupied(entry) => {
                    let problem = format!(
                        "a family that could have the sample name of one on line {}, with {}",
                        entry.get(),
                        match suffix {
                            Suffix::None => "no suffix",
                            suffix => suffix.as_str(),
                        }
                    );
                    return Err(Refusal::new(StrictRule::NameClash, family.at, problem));
                }
            }
        }
        Ok(())
    }
}
