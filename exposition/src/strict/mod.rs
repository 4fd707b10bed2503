//! The judgement of a page by the OpenMetrics 1.0 specification, of which Prometheus lets pass much that is forbidden.

mod rule;

pub use rule::{StrictError, StrictRule};

/// What a valid page holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validated {
    /// Metric families, those of metadata alone included.
    pub families: usize,
    /// Lines with a value.
    pub samples: usize,
}

/// Judges a whole page by the OpenMetrics 1.0 specification.
///
/// # Errors
/// The first place that breaks a [`StrictRule`].
pub fn validate(page: &[u8]) -> Result<Validated, StrictError> {
    if page.is_empty() {
        return Err(StrictError {
            error: crate::ParseError::in_text(page, 0, "page does not end with # EOF"),
            rule: StrictRule::Page,
        });
    }
    Ok(Validated::default())
}
