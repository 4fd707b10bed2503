use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use promferry_model::{Label, Labels, LabelsBuilder, MetadataView, SeriesContext, Stage, Verdict};

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
