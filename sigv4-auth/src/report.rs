//! What a chain of credentials looked at.

use std::fmt;

/// What was looked at to get credentials, in order, and what came of it. Holds no secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderReport {
    /// The base's providers, then one entry a role.
    pub looked_at: Vec<LookedAt>,
}

impl ProviderReport {
    /// The provider that gave the base credentials.
    pub fn base(&self) -> Option<&LookedAt> {
        self.looked_at
            .iter()
            .find(|looked_at| looked_at.role_arn.is_none() && looked_at.finding == Finding::Used)
    }

    pub(crate) fn add(&mut self, provider: &str, finding: Finding) {
        self.looked_at.push(LookedAt { provider: provider.to_owned(), role_arn: None, finding });
    }

    pub(crate) fn add_role(&mut self, role_arn: &str, finding: Finding) {
        self.looked_at.push(LookedAt {
            provider: String::from("assume role"),
            role_arn: Some(role_arn.to_owned()),
            finding,
        });
    }
}

impl fmt::Display for ProviderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, looked_at) in self.looked_at.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{looked_at}")?;
        }
        Ok(())
    }
}

/// One place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedAt {
    /// Its name: `environment`, `web identity`, `profile NAME`, `container`, `IMDS`, `static keys`,
    /// `assume role`.
    pub provider: String,
    /// The role, for `assume role`.
    pub role_arn: Option<String>,
    /// What came of it.
    pub finding: Finding,
}

impl fmt::Display for LookedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        if let Some(role_arn) = &self.role_arn {
            write!(f, " {role_arn}")?;
        }
        match &self.finding {
            Finding::Used => f.write_str(" (used)"),
            Finding::NotConfigured(why) | Finding::Skipped(why) | Finding::Failed(why) => {
                write!(f, " ({why})")
            }
        }
    }
}

/// What came of looking at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It gave the credentials.
    Used,
    /// What it needs is not set, and what that is.
    NotConfigured(String),
    /// It was left out on purpose, and why.
    Skipped(String),
    /// It is configured and failed; nothing after it was tried.
    Failed(String),
}
