//! The environment variables that AWS' SDKs read, as an argument.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The process's environment variables, or a given set in their place.
///
/// Tests and programs with several identities pass their own set; nothing here ever changes the process's
/// environment. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Environment {
    given: Option<Arc<BTreeMap<String, String>>>,
}

impl Environment {
    /// The variables of this process, read when asked for.
    pub fn process() -> Self {
        Self { given: None }
    }

    /// These variables and no others.
    ///
    /// Shared profiles, container credentials and IMDS are read by AWS' SDK, which looks at the process's
    /// own environment for its finer settings (proxy, `HOME`, IMDS endpoint).
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let given = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { given: Some(Arc::new(given)) }
    }

    /// A variable's value without surrounding white space; an empty one counts as unset.
    pub fn var(&self, name: &str) -> Option<String> {
        let value = match &self.given {
            Some(given) => given.get(name).cloned(),
            None => std::env::var(name).ok(),
        };
        value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Whether a variable says `true`, as the SDKs' switches do.
    pub fn flag(&self, name: &str) -> bool {
        self.var(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The region that the environment names: `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub fn region(&self) -> Option<String> {
        self.var("AWS_REGION").or_else(|| self.var("AWS_DEFAULT_REGION"))
    }

    pub(crate) fn is_process(&self) -> bool {
        self.given.is_none()
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(given) => f.debug_set().entries(given.keys()).finish(),
            None => f.write_str("Environment(process)"),
        }
    }
}
