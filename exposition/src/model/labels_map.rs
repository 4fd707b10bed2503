//! Labels as a map of names to values.

use std::fmt;

use promferry_model::{Label, Labels, LabelsBuilder};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::Serializer;

pub(super) fn serialize<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|label| (&label.name, &label.value)))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    deserializer.deserialize_map(NamesToValues)
}

struct NamesToValues;

impl<'de> Visitor<'de> for NamesToValues {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of label names to values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut labels = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            labels.push(Label { name, value });
        }
        let mut builder = LabelsBuilder::new();
        builder.reset_unsorted(labels).map_err(A::Error::custom)?;
        Ok(builder.to_labels())
    }
}
