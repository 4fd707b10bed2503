use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use promferry_model::{
    Label, Labels, LabelsBuilder, MetadataView, SeriesContext, Stage, Verdict, hash_labels,
};
use xxhash_rust::xxh3::Xxh3;

use crate::Protocol;

/// Everything that decides which bytes an endpoint gets. Endpoints that agree in all of it share one log.
#[derive(Clone, Default)]
pub struct Profile {
    /// Labels that every series gets which has no label of that name (`global.external_labels`).
    pub external_labels: Labels,
    /// `write_relabel_configs`, applied in order after the external labels.
    pub write_relabel: Vec<Arc<dyn Stage>>,
    /// Which message is written.
    pub protocol: Protocol,
    /// Whether exemplars are sent.
    pub send_exemplars: bool,
    /// Whether native histograms are sent.
    pub send_native_histograms: bool,
}

impl Profile {
    /// Whether a series' labels leave as they came but for external labels, for every series.
    pub(super) fn keeps_every_series(&self) -> bool {
        self.write_relabel.is_empty()
    }

    /// Gives a series the external labels whose names it does not have.
    pub(super) fn add_external_labels(&self, labels: &mut LabelsBuilder) {
        for external in &self.external_labels {
            if !labels.has(&external.name) {
                labels.set(external.name.clone(), external.value.clone());
            }
        }
    }

    /// Whether `other` makes the same labels of every series.
    pub(super) fn names_series_as(&self, other: &Self) -> bool {
        self.external_labels == other.external_labels
            && self.write_relabel.len() == other.write_relabel.len()
            && self.write_relabel.iter().zip(&other.write_relabel).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// What becomes of a series' labels.
    pub(super) fn outgoing(
        &self,
        labels: &[Label],
        target: &[Label],
        metadata: MetadataView<'_>,
    ) -> Outgoing {
        if self.keeps_every_series() {
            let nothing = labels.is_empty() && self.external_labels.is_empty();
            return if nothing { Outgoing::Nothing } else { Outgoing::Own };
        }
        let mut builder = LabelsBuilder::new();
        builder.reset(labels);
        self.add_external_labels(&mut builder);
        let before = builder.as_slice().to_vec();
        if !self.relabel(&mut builder, target, metadata) {
            Outgoing::Nothing
        } else if builder.as_slice() == before {
            Outgoing::Own
        } else {
            Outgoing::Other(builder.as_slice().to_vec())
        }
    }

    /// The hash of the labels under which a series leaves; `None` when it does not.
    pub(super) fn fingerprint(&self, labels: &[Label], outgoing: &Outgoing, seed: u64) -> Option<u64> {
        match outgoing {
            Outgoing::Own => Some(self.hash_with_external(labels, seed)),
            Outgoing::Other(labels) => Some(hash_labels(labels, seed)),
            Outgoing::Nothing => None,
        }
    }

    /// [`hash_labels`] of the series' labels and the external ones that it has no label of the name of.
    fn hash_with_external(&self, labels: &[Label], seed: u64) -> u64 {
        if self.external_labels.is_empty() {
            return hash_labels(labels, seed);
        }
        let mut hasher = LabelsHasher::new(seed);
        let mut external = self.external_labels.iter().peekable();
        for label in labels {
            while let Some(before) = external.next_if(|external| external.name < label.name) {
                hasher.add(&before.name, &before.value);
            }
            external.next_if(|external| external.name == label.name);
            hasher.add(&label.name, &label.value);
        }
        external.for_each(|external| hasher.add(&external.name, &external.value));
        hasher.finish()
    }

    /// Applies write relabelling; false when the series is not sent at all.
    pub(super) fn relabel(
        &self,
        labels: &mut LabelsBuilder,
        target: &[Label],
        metadata: MetadataView<'_>,
    ) -> bool {
        let context = SeriesContext { target, metadata };
        self.write_relabel.iter().all(|stage| stage.apply(labels, &context) == Verdict::Keep)
            && !labels.as_slice().is_empty()
    }
}

/// What a profile makes of a series' labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// They leave as they came, but for external labels.
    Own,
    /// These.
    Other(Vec<Label>),
    /// The series is not sent.
    Nothing,
}

/// Hashes labels one by one as [`hash_labels`] does.
pub(super) struct LabelsHasher(Xxh3);

impl LabelsHasher {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xxh3::with_seed(seed))
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        for text in [name, value] {
            self.0.update(text.as_bytes());
            self.0.update(&[0xff]);
        }
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("external_labels", &self.external_labels)
            .field("write_relabel", &self.write_relabel.iter().map(|stage| stage.name()).collect::<Vec<_>>())
            .field("protocol", &self.protocol)
            .field("send_exemplars", &self.send_exemplars)
            .field("send_native_histograms", &self.send_native_histograms)
            .finish()
    }
}

/// The profiles that a sink has at one time, with a number that tells one time from another.
///
/// A profile that stays is best passed on as the same [`Arc`]: what was derived for it is then kept.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    generation: u32,
    list: Vec<Arc<Profile>>,
}

impl Profiles {
    /// The profiles of generation `generation`.
    pub const fn new(generation: u32, list: Vec<Arc<Profile>>) -> Self {
        Self { generation, list }
    }

    /// The number of this list; another list has another.
    pub const fn generation(&self) -> u32 {
        self.generation
    }
}

impl Deref for Profiles {
    type Target = [Arc<Profile>];

    fn deref(&self) -> &[Arc<Profile>] {
        &self.list
    }
}
