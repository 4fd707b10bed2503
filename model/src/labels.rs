use std::fmt;
use std::ops::Deref;

use smol_str::SmolStr;
use xxhash_rust::xxh3::Xxh3;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds a classic histogram bucket's upper bound.
pub const BUCKET_LABEL: &str = "le";
/// The label that holds a summary's quantile.
pub const QUANTILE_LABEL: &str = "quantile";

/// A label's name and value. Equality and order are by name, then by value, bytewise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The name; any UTF-8, whether a name is valid is judged elsewhere.
    pub name: SmolStr,
    /// The value; an empty value means that the label is absent, so a [`Labels`] holds none.
    pub value: SmolStr,
}

/// A label of this name and value.
pub fn label(name: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Label {
    Label { name: name.into(), value: value.into() }
}

/// A set of labels that owns its texts: sorted by name, each name once, no empty values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[Label]>);

impl Labels {
    /// The set of these pairs. Of pairs with one name the last counts; empty values are left out.
    pub fn from_pairs<N: Into<SmolStr>, V: Into<SmolStr>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.to_labels()
    }

    /// The value of the label `name`, empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        get(&self.0, name)
    }

    /// Whether there is a label `name`.
    pub fn has(&self, name: &str) -> bool {
        position(&self.0, name).is_ok()
    }

    /// An unseeded xxh3 hash of names and values: the same in every process and release, since where a
    /// target's data lies on disk depends on it.
    pub fn stable_hash(&self) -> u64 {
        hash_labels(&self.0, 0)
    }
}

impl Deref for Labels {
    type Target = [Label];

    fn deref(&self) -> &[Label] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<N: Into<SmolStr>, V: Into<SmolStr>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self::from_pairs(pairs)
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, &self.0)
    }
}

/// Two labels of one set had the same name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label name {0:?} is not unique")]
pub struct DuplicateLabel(pub SmolStr);

/// A set of labels being worked on; keeps the order and the rules of [`Labels`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelsBuilder(Vec<Label>);

impl LabelsBuilder {
    /// A builder without labels.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Forgets all labels, keeping the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Starts over from `labels`, which are sorted by unique names as those of [`Labels`] are.
    pub fn reset(&mut self, labels: &[Label]) {
        self.0.clear();
        self.0.extend_from_slice(labels);
    }

    /// Starts over from labels as they were read: in any order, empty values left out.
    ///
    /// # Errors
    /// [`DuplicateLabel`] when a name occurs twice, with a value or without; the builder is then empty.
    pub fn reset_unsorted(&mut self, labels: impl IntoIterator<Item = Label>) -> Result<(), DuplicateLabel> {
        self.0.clear();
        self.0.extend(labels);
        self.0.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = self.0.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let duplicate = DuplicateLabel(pair[0].name.clone());
            self.0.clear();
            return Err(duplicate);
        }
        self.0.retain(|label| !label.value.is_empty());
        Ok(())
    }

    /// Gives the label `name` this value; an empty value removes it.
    pub fn set(&mut self, name: impl Into<SmolStr>, value: impl Into<SmolStr>) {
        let (name, value) = (name.into(), value.into());
        match (position(&self.0, &name), value.is_empty()) {
            (Ok(at), true) => {
                self.0.remove(at);
            }
            (Ok(at), false) => self.0[at].value = value,
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, Label { name, value }),
        }
    }

    /// Removes the label `name`, if there is one.
    pub fn remove(&mut self, name: &str) {
        if let Ok(at) = position(&self.0, name) {
            self.0.remove(at);
        }
    }

    /// Keeps the labels for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Label) -> bool) {
        self.0.retain(keep);
    }

    /// The value of the label `name`, empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        get(&self.0, name)
    }

    /// Whether there is a label `name`.
    pub fn has(&self, name: &str) -> bool {
        position(&self.0, name).is_ok()
    }

    /// The labels, sorted by name.
    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    /// The labels as a value of its own.
    pub fn to_labels(&self) -> Labels {
        Labels(self.0.clone().into_boxed_slice())
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        Self(labels.to_vec())
    }
}

impl fmt::Display for LabelsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_labels(f, &self.0)
    }
}

/// An xxh3 hash of sorted labels under `seed`; seed 0 gives [`Labels::stable_hash`]. Names and values are told
/// apart by a byte that UTF-8 never has.
pub fn hash_labels(labels: &[Label], seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    for Label { name, value } in labels {
        hasher.update(name.as_bytes());
        hasher.update(&[0xff]);
        hasher.update(value.as_bytes());
        hasher.update(&[0xff]);
    }
    hasher.digest()
}

fn position(labels: &[Label], name: &str) -> Result<usize, usize> {
    labels.binary_search_by(|label| label.name.as_str().cmp(name))
}

fn get<'a>(labels: &'a [Label], name: &str) -> &'a str {
    position(labels, name).map_or("", |at| &labels[at].value)
}

fn write_labels(f: &mut fmt::Formatter<'_>, labels: &[Label]) -> fmt::Result {
    f.write_str("{")?;
    for (at, Label { name, value }) in labels.iter().enumerate() {
        let separator = if at == 0 { "" } else { ", " };
        if crate::NameValidation::Legacy.is_valid_label_name(name) {
            write!(f, "{separator}{name}={value:?}")?;
        } else {
            write!(f, "{separator}{name:?}={value:?}")?;
        }
    }
    f.write_str("}")
}

#[cfg(feature = "serde")]
mod serde_impls {
    use super::{Label, Labels, LabelsBuilder};
    use serde::de::{MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use smol_str::SmolStr;

    impl serde::Serialize for Labels {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.len()))?;
            for Label { name, value } in self {
                map.serialize_entry(name.as_str(), value.as_str())?;
            }
            map.end()
        }
    }

    impl<'de> serde::Deserialize<'de> for Labels {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Pairs;
            impl<'de> Visitor<'de> for Pairs {
                type Value = Labels;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a mapping of label names to values")
                }

                fn visit_unit<E>(self) -> Result<Labels, E> {
                    Ok(Labels::default())
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                    let mut builder = LabelsBuilder::default();
                    while let Some((name, value)) = map.next_entry::<SmolStr, SmolStr>()? {
                        builder.set(name, value);
                    }
                    Ok(builder.to_labels())
                }
            }
            deserializer.deserialize_map(Pairs)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "0"), ("c", ""), ("a", "1")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!((labels.get("a"), labels.get("c"), labels.has("c")), ("1", "", false));
    }

    #[test]
    fn read_labels_may_not_repeat_a_name_even_with_an_empty_value() {
        let mut builder = LabelsBuilder::new();
        let read = [label("z", "1"), label("a", ""), label("z", "")];
        assert_eq!(builder.reset_unsorted(read), Err(DuplicateLabel("z".into())));
        assert!(builder.as_slice().is_empty());
        assert_eq!(builder.reset_unsorted([label("z", "1"), label("a", "")]), Ok(()));
        assert_eq!(builder.to_string(), r#"{z="1"}"#);
    }

    #[test]
    fn setting_an_empty_value_removes() {
        let mut builder = LabelsBuilder::from(&Labels::from_pairs([("a", "1"), ("b", "2")]));
        builder.set("a", "");
        builder.remove("nothing");
        assert_eq!((builder.get("a"), builder.as_slice().len()), ("", 1));
    }

    #[test]
    fn the_stable_hash_never_changes() {
        // On-disk data is laid out by it: another value here breaks spools written before.
        assert_eq!(Labels::default().stable_hash(), 0x2d06_8005_38d3_94c2);
        let labels = Labels::from_pairs([("instance", "10.0.0.7:8080"), ("job", "api")]);
        assert_eq!(
            labels.stable_hash(),
            Labels::from_pairs([("job", "api"), ("instance", "10.0.0.7:8080")]).stable_hash()
        );
        assert_ne!(
            labels.stable_hash(),
            Labels::from_pairs([("job", "api"), ("instance", "10.0.0.8:8080")]).stable_hash()
        );
    }
}
