//! Text that must not be shown.

use std::fmt;

use serde::Deserialize;

/// A secret key or token. `Debug` and `Display` print `<secret>`, as Prometheus does; only
/// [`expose`](Self::expose) gives the text.
///
/// ```
/// use promferry_sigv4_auth::Secret;
///
/// let key = Secret::new("wJalrXUtnFEMI");
/// assert_eq!(format!("{key} {key:?}"), "<secret> <secret>");
/// assert_eq!(key.expose(), "wJalrXUtnFEMI");
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}
