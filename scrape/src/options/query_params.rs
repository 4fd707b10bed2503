use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::Deserialize;

/// The query parameters of a scrape's URL, each with its values in order.
///
/// A parameter may be a token, so `Debug` writes the names and hides the values.
///
/// ```
/// use promferry_scrape::ScrapeConfig;
///
/// let mut config = ScrapeConfig::new("probes");
/// config.params.insert("token".to_owned(), vec!["hunter2".to_owned()]);
/// assert_eq!(format!("{:?}", config.params), r#"{"token": [<secret>]}"#);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct QueryParams(BTreeMap<String, Vec<String>>);

impl Deref for QueryParams {
    type Target = BTreeMap<String, Vec<String>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for QueryParams {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<BTreeMap<String, Vec<String>>> for QueryParams {
    fn from(params: BTreeMap<String, Vec<String>>) -> Self {
        Self(params)
    }
}

impl fmt::Debug for QueryParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |values: &Vec<String>| vec![format_args!("<secret>"); values.len()];
        f.debug_map().entries(self.0.iter().map(|(name, values)| (name, hidden(values)))).finish()
    }
}
