//! The metadata of the family whose samples are being read.

use hashbrown::HashMap;
use promferry_exposition::belongs_to_family;
use promferry_model::{MetadataView, MetricType, TargetSink};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What the page has said about the current family so far.
#[derive(Debug, Default)]
pub(crate) struct Family {
    name: String,
    metric_type: MetricType,
    unit: String,
    help: String,
    /// Something was said since the sink was last told.
    changed: bool,
    /// Families that this page has named.
    count: usize,
}

impl Family {
    /// Starts a page: nothing has been said.
    pub(crate) fn start(&mut self) {
        self.name.clear();
        self.forget();
        self.changed = false;
        self.count = 0;
    }

    pub(crate) fn set_type(&mut self, family: &str, metric_type: MetricType) {
        self.enter(family);
        self.metric_type = metric_type;
    }

    pub(crate) fn set_unit(&mut self, family: &str, unit: &str) {
        self.enter(family);
        self.unit.clear();
        self.unit.push_str(unit);
    }

    pub(crate) fn set_help(&mut self, family: &str, help: &str) {
        self.enter(family);
        self.help.clear();
        self.help.push_str(help);
    }

    /// Whether another family than the current one is named next, so that this one's metadata is complete.
    pub(crate) fn is_left_for(&self, family: &str) -> bool {
        self.changed && self.name != family
    }

    /// The metadata of a series of the metric `name`: none if it is not of this family.
    pub(crate) fn metadata_of(&self, name: &str) -> MetadataView<'_> {
        if !self.name.is_empty() && belongs_to_family(name, &self.name, self.metric_type) {
            self.view()
        } else {
            MetadataView::default()
        }
    }

    /// Tells the sink what is new about the family; `told` remembers it from page to page.
    #[inline]
    pub(crate) fn tell<T: TargetSink>(&mut self, told: &mut HashMap<u64, u64>, sink: &mut T) {
        if self.changed {
            self.tell_changed(told, sink);
        }
    }

    fn tell_changed<T: TargetSink>(&mut self, told: &mut HashMap<u64, u64>, sink: &mut T) {
        self.changed = false;
        let mut content = Xxh3::new();
        content.update(&[self.metric_type as u8]);
        content.update(self.unit.as_bytes());
        content.update(&[0xff]);
        content.update(self.help.as_bytes());
        let content = content.digest();
        if told.insert(xxh3_64(self.name.as_bytes()), content) != Some(content) {
            sink.metadata(&self.view());
        }
    }

    /// Ends a page: forgets what families that come and go have left behind.
    pub(crate) fn finish(&mut self, told: &mut HashMap<u64, u64>) {
        if told.len() > 2 * self.count + 1000 {
            *told = HashMap::new();
        }
    }

    fn enter(&mut self, family: &str) {
        if self.name != family {
            self.forget();
            self.name.clear();
            self.name.push_str(family);
            self.count += 1;
        }
        self.changed = true;
    }

    fn forget(&mut self) {
        self.metric_type = MetricType::Unknown;
        self.unit.clear();
        self.help.clear();
    }

    fn view(&self) -> MetadataView<'_> {
        MetadataView { family: &self.name, metric_type: self.metric_type, unit: &self.unit, help: &self.help }
    }
}
