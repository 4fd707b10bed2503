//! A page in another format.

use promferry_exposition::{Format, MetricFamily, Negotiated, StreamError, StreamingEncoder};
use promferry_model::EscapingScheme;

/// The families as a page of the newest protocol of `format`, with names as they are unless `escaping` says otherwise.
pub(super) fn convert(
    families: &[MetricFamily],
    format: Format,
    escaping: Option<EscapingScheme>,
) -> Result<Vec<u8>, StreamError> {
    let newest = Negotiated::newest(format);
    let protocol = Negotiated::new(newest.protocol(), escaping.unwrap_or_else(|| newest.escaping()));
    let mut page = StreamingEncoder::new(Vec::new(), protocol);
    families.iter().try_for_each(|family| page.family(family))?;
    page.finish()
}
