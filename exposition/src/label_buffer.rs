use std::fmt;

use promferry_model::METRIC_NAME;

use crate::spans::Spans;

/// Where a series' labels are split into: names and values in one reused text.
///
/// The metric's name, as `__name__`, and the labels stand in the order of the page, with empty values and
/// repeated names as the page has them (a scraper judges those). So the name comes first but where the page puts
/// it in quotes behind a label. Refilling allocates only when a series is longer than every one before, or where
/// options have its labels added to or a number written anew.
#[derive(Clone, Default)]
pub struct LabelBuffer {
    text: String,
    /// Of each label the ends of its name and of its value in `text`.
    ends: Vec<(usize, usize)>,
    /// Kept for its memory.
    spans: Spans,
}

impl LabelBuffer {
    /// A buffer without labels.
    pub const fn new() -> Self {
        Self { text: String::new(), ends: Vec::new(), spans: Spans::new() }
    }

    /// How many labels there are, the metric's name included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none: before the first use.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The metric's name, which is the first `__name__`; empty if the page gave an empty one.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// The value of the first label of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let pair = (&self.text[start..name_end], &self.text[name_end..value_end]);
            start = value_end;
            pair
        })
    }

    /// Name and value of the label of this number.
    pub(crate) fn label(&self, at: usize) -> Option<(&str, &str)> {
        let &(name_end, value_end) = self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        Some((&self.text[start..name_end], &self.text[name_end..value_end]))
    }

    pub(crate) const fn spans_mut(&mut self) -> &mut Spans {
        &mut self.spans
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    pub(crate) fn push(&mut self, name: &str, value: &str) {
        self.push_with(|text| text.push_str(name), |text| text.push_str(value));
    }

    /// Appends a label whose texts are written in place.
    pub(crate) fn push_with(&mut self, name: impl FnOnce(&mut String), value: impl FnOnce(&mut String)) {
        name(&mut self.text);
        let name_end = self.text.len();
        value(&mut self.text);
        self.ends.push((name_end, self.text.len()));
    }

    /// Lets `written` give new values to the labels of this name.
    pub(crate) fn rewrite(&mut self, name: &str, written: impl Fn(&str) -> Option<String>) {
        let first = (0..self.ends.len()).find(|&at| {
            let name_start = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
            &self.text[name_start..self.ends[at].0] == name
        });
        let Some(first) = first else { return };
        // Everything from the first one's value on is written once more, however many there are.
        let mut start = self.ends[first].0;
        let unread = self.text.split_off(start);
        let unread_at = start;
        for at in first..self.ends.len() {
            let (name_end, value_end) = self.ends[at];
            let label_name = &unread[start - unread_at..name_end - unread_at];
            let value = &unread[name_end - unread_at..value_end - unread_at];
            self.text.push_str(label_name);
            let new_name_end = self.text.len();
            let new = if at == first || label_name == name { written(value) } else { None };
            self.text.push_str(new.as_deref().unwrap_or(value));
            self.ends[at] = (new_name_end, self.text.len());
            start = value_end;
        }
    }
}

impl fmt::Debug for LabelBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
