use std::borrow::Cow;

use promferry_model::{
    EscapingScheme, MetadataView, MetricType, escape_label_name, escape_name, is_valid_label_name,
    is_valid_metric_name,
};

use crate::Format;
use crate::model::type_suffix;

/// The family that is being written, as its lines name it.
#[derive(Clone, Debug)]
pub(super) struct OpenFamily {
    pub(super) escaping: EscapingScheme,
    /// As it stands on the page: escaped, without the suffix.
    pub(super) name: String,
    pub(super) metric_type: MetricType,
    /// What the series of single values have behind the name.
    pub(super) suffix: &'static str,
}

impl OpenFamily {
    pub(super) const fn none(escaping: EscapingScheme) -> Self {
        Self { escaping, name: String::new(), metric_type: MetricType::Unknown, suffix: "" }
    }

    /// `suffixed` says whether a counter's or info's series carry the suffix of their type; in OpenMetrics they
    /// always do.
    pub(super) fn set(&mut self, format: Format, metadata: MetadataView<'_>, suffixed: bool) {
        self.metric_type = metadata.metric_type;
        let suffix = type_suffix(metadata.metric_type).unwrap_or_default();
        let mut family = metadata.family;
        if format == Format::OpenMetrics && !suffixed {
            // A name that has the ending all the same needs no second one.
            let stem = family.strip_suffix(suffix).filter(|stem| !stem.is_empty());
            family = stem.unwrap_or(family);
        }
        #[cfg(feature = "openmetrics2")]
        let has_suffix =
            suffixed || (format == Format::OpenMetrics2 && metadata.metric_type == MetricType::Info);
        #[cfg(not(feature = "openmetrics2"))]
        let has_suffix = suffixed;
        self.suffix = if has_suffix || format == Format::OpenMetrics { suffix } else { "" };
        self.name.clear();
        self.name.push_str(family);
        if self.escaping != EscapingScheme::AllowUtf8 && !is_valid_metric_name(family) {
            // Prometheus' client libraries escape the name with the suffix, which makes a difference to
            // underscores.
            self.name.push_str(self.suffix);
            let escaped = escape_name(&self.name, self.escaping).into_owned();
            self.name = escaped;
            self.name.truncate(self.name.len() - self.suffix.len());
        }
    }

    /// Whether the name stands in quotes.
    pub(super) fn is_quoted(&self) -> bool {
        !is_valid_metric_name(&self.name)
    }

    /// A label's name as it stands on the page.
    pub(super) fn label<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if is_valid_label_name(name) { Cow::Borrowed(name) } else { escape_label_name(name, self.escaping) }
    }
}
