//! The options, in Prometheus' words and in the form both configuration dialects end in.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Deserialize;

use crate::{Environment, Scope, ScopeKeys, Secret, SignError};

/// Prometheus' `sigv4:` block of a `remote_write` entry (Prometheus 3.16, `prometheus/sigv4`).
///
/// An empty text means the same as an absent key, as it does in Prometheus.
///
/// ```
/// use promferry_sigv4_auth::SigV4Config;
///
/// let config: SigV4Config = serde_json::from_str(
///     r#"{"region": "eu-west-1", "role_arn": "arn:aws:iam::123456789012:role/remote-write"}"#,
/// )?;
/// config.validate()?;
/// assert_eq!(config.service(), "aps");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigV4Config {
    /// The AWS region to sign for. Absent: from the endpoint's host, else `AWS_REGION`, else
    /// `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// A fixed access key id; needs `secret_key`.
    pub access_key: Option<String>,
    /// The secret of `access_key`.
    pub secret_key: Option<Secret>,
    /// A profile of the shared configuration and credentials files to use instead of the default chain.
    pub profile: Option<String>,
    /// A role to assume with the credentials found.
    pub role_arn: Option<String>,
    /// The external id that the trust policy of `role_arn` asks for.
    pub external_id: Option<String>,
    /// Roles to assume one with the other, the first with the credentials found; the last one signs. In place of
    /// `role_arn` and `external_id`. Prometheus has no such key.
    #[serde(deserialize_with = "null_is_empty")]
    pub roles: Vec<RoleStep>,
    /// Whether STS is called at its FIPS endpoint.
    #[serde(deserialize_with = "null_is_false")]
    pub use_fips_sts_endpoint: bool,
    /// The service name to sign for. Absent: `aps`.
    pub service_name: Option<String>,
}

impl SigV4Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// One of `access_key` and `secret_key` without the other, `external_id` without `role_arn`, `roles` beside
    /// either, a `role_arn` that is no ARN, an external id or session name that STS would refuse, a region that is
    /// no region's name. The path of an error in a role begins with `roles` and its index.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let secret_key = self.secret_key.as_ref().is_some_and(|secret| !secret.is_empty());
        match (present(&self.access_key).is_some(), secret_key) {
            (true, false) => {
                return Err(ConfigError::at(
                    "secret_key",
                    "must be set together with access_key, or neither of them",
                ));
            }
            (false, true) => {
                return Err(ConfigError::at(
                    "access_key",
                    "must be set together with secret_key, or neither of them",
                ));
            }
            _ => {}
        }
        if !self.roles.is_empty() {
            for (key, option) in [("role_arn", &self.role_arn), ("external_id", &self.external_id)] {
                if present(option).is_some() {
                    return Err(ConfigError::at(key, "cannot be used together with roles: write it there"));
                }
            }
        }
        if let Some(arn) = present(&self.role_arn) {
            check_role_arn("role_arn", arn)?;
        } else if present(&self.external_id).is_some() {
            return Err(ConfigError::at("external_id", "can only be used together with role_arn"));
        }
        if let Some(external_id) = present(&self.external_id) {
            check_external_id("external_id", external_id)?;
        }
        check_roles(&self.roles)?;
        if let Some(region) = present(&self.region) {
            check_region("region", region)?;
        }
        Ok(())
    }

    /// The service to sign for: `service_name`, else `aps`.
    pub fn service(&self) -> &str {
        present(&self.service_name).unwrap_or("aps")
    }

    /// The region and service to sign for at an endpoint with this host's name.
    ///
    /// # Errors
    /// [`SignError::ScopeUnknown`] where `region` is absent and neither the host nor the environment says it.
    pub fn scope(&self, host: &str, environment: &Environment) -> Result<Scope, SignError> {
        let region = present(&self.region);
        Scope::resolve(host, region, Some(self.service()), environment, ScopeKeys::PROMETHEUS)
    }

    /// Where the credentials come from, in the form that [`CredentialChain`](crate::CredentialChain) takes.
    pub fn credentials(&self) -> CredentialsConfig {
        let base = if let (Some(access_key), Some(secret_key)) = (present(&self.access_key), &self.secret_key)
        {
            BaseCredentials::Static {
                access_key: access_key.to_owned(),
                secret_key: secret_key.clone(),
                session_token: None,
            }
        } else if let Some(profile) = present(&self.profile) {
            BaseCredentials::Profile(profile.to_owned())
        } else {
            BaseCredentials::DefaultChain
        };
        let one = present(&self.role_arn)
            .map(|arn| RoleStep { external_id: self.external_id.clone(), ..RoleStep::new(arn) });
        let roles = one.as_ref().into_iter().chain(&self.roles).map(RoleStep::without_empty_texts);
        CredentialsConfig {
            base,
            roles: roles.collect(),
            sts_region: present(&self.region).map(str::to_owned),
            use_fips_sts_endpoint: self.use_fips_sts_endpoint,
        }
    }
}

/// Where credentials come from: a base, then any number of roles assumed one with the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsConfig {
    /// What the chain begins with.
    pub base: BaseCredentials,
    /// The roles to assume, in order. The last one signs.
    pub roles: Vec<RoleStep>,
    /// The region whose STS is called where a step names none.
    pub sts_region: Option<String>,
    /// Whether STS is called at its FIPS endpoint.
    pub use_fips_sts_endpoint: bool,
}

impl CredentialsConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A role that is no ARN, an external id or session name that STS would refuse, a web identity token anywhere
    /// but in the first step, an empty static key, a region that is no region's name. The path begins with `roles`
    /// and the step's index.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let BaseCredentials::Static { access_key, secret_key, .. } = &self.base {
            if access_key.trim().is_empty() {
                return Err(ConfigError::at("access_key", "must not be empty"));
            }
            if secret_key.expose().trim().is_empty() {
                return Err(ConfigError::at("secret_key", "must not be empty"));
            }
        }
        if let Some(region) = present(&self.sts_region) {
            check_region("sts_region", region)?;
        }
        check_roles(&self.roles)
    }
}

/// What a chain of credentials begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BaseCredentials {
    /// The order of AWS' SDK for Go: environment, web identity (IRSA), shared profile, container (ECS, EKS
    /// Pod Identity), IMDSv2. The first that is configured is the one; should it fail, no other is tried.
    #[default]
    DefaultChain,
    /// One named profile of the shared files.
    Profile(String),
    /// Fixed keys.
    Static {
        /// The access key id.
        access_key: String,
        /// Its secret.
        secret_key: Secret,
        /// The session token of temporary keys.
        session_token: Option<Secret>,
    },
}

/// One role to assume. ADOT's `assume_role{arn, session_name, sts_region, external_id,
/// web_identity_token_file}` maps to one step; read from a file, it is one entry of [`SigV4Config::roles`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleStep {
    /// The role's ARN.
    pub role_arn: String,
    /// The session's name as CloudTrail shows it: 2 to 64 letters, digits and `_+=,.@-`. Absent:
    /// `AWS_ROLE_SESSION_NAME`, else one of our own.
    pub session_name: Option<String>,
    /// The external id that the role's trust policy asks for: 2 to 1224 letters, digits and `_+=,.@:/-`.
    pub external_id: Option<String>,
    /// The region whose STS is called.
    pub sts_region: Option<String>,
    /// A token to assume the role with (`AssumeRoleWithWebIdentity`); the base is not used then. Only in
    /// the first step. Read again for each call. Not read from a file.
    #[serde(skip)]
    pub web_identity_token_file: Option<PathBuf>,
}

impl RoleStep {
    /// A step with nothing but its role.
    pub fn new(role_arn: impl Into<String>) -> Self {
        Self {
            role_arn: role_arn.into(),
            session_name: None,
            external_id: None,
            sts_region: None,
            web_identity_token_file: None,
        }
    }

    /// Checks what the types cannot, of the step at this index.
    pub(crate) fn validate(&self, index: usize) -> Result<(), ConfigError> {
        check_role_arn("role_arn", &self.role_arn)?;
        if let Some(session_name) = present(&self.session_name) {
            check_session_name(session_name).map_err(|message| ConfigError::at("session_name", message))?;
        }
        if let Some(external_id) = present(&self.external_id) {
            check_external_id("external_id", external_id)?;
        }
        if let Some(region) = present(&self.sts_region) {
            check_region("sts_region", region)?;
        }
        if self.web_identity_token_file.is_some() {
            if index > 0 {
                return Err(ConfigError::at(
                    "web_identity_token_file",
                    "is possible in the first role only: later roles are assumed with the one before",
                ));
            }
            if present(&self.external_id).is_some() {
                return Err(ConfigError::at(
                    "external_id",
                    "has no meaning with web_identity_token_file: STS takes none in AssumeRoleWithWebIdentity",
                ));
            }
        }
        Ok(())
    }

    fn without_empty_texts(&self) -> Self {
        let text = |option: &Option<String>| present(option).map(str::to_owned);
        Self {
            role_arn: self.role_arn.trim().to_owned(),
            session_name: text(&self.session_name),
            external_id: text(&self.external_id),
            sts_region: text(&self.sts_region),
            web_identity_token_file: self.web_identity_token_file.clone(),
        }
    }
}

/// An option that cannot be right, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", .path.join("."))]
pub struct ConfigError {
    /// The keys that lead to the option, outermost first, from the block that was checked.
    pub path: Vec<String>,
    /// What is wrong, without the path.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn at(key: &str, message: impl Into<String>) -> Self {
        Self { path: vec![key.to_owned()], message: message.into() }
    }

    pub(crate) fn under(mut self, keys: &[&str]) -> Self {
        self.path.splice(0..0, keys.iter().map(|key| (*key).to_owned()));
        self
    }
}

/// An option's text, with the empty one taken as absent.
pub(crate) fn present(option: &Option<String>) -> Option<&str> {
    option.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn check_roles(roles: &[RoleStep]) -> Result<(), ConfigError> {
    for (index, step) in roles.iter().enumerate() {
        step.validate(index).map_err(|error| error.under(&["roles", &index.to_string()]))?;
    }
    Ok(())
}

/// STS' own rule for `RoleSessionName` (API reference of `AssumeRole`); the error is the message.
pub(crate) fn check_session_name(name: &str) -> Result<(), String> {
    if fits(name, 2..=64, "_+=,.@-") {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no session name that STS takes: expected 2 to 64 letters, digits and _ + = , . @ -"
    ))
}

// STS' own rule for `ExternalId` (API reference of `AssumeRole`).
fn check_external_id(key: &str, external_id: &str) -> Result<(), ConfigError> {
    if fits(external_id, 2..=1224, "_+=,.@:/-") {
        return Ok(());
    }
    Err(ConfigError::at(
        key,
        "is no external id that STS takes: expected 2 to 1224 letters, digits and _ + = , . @ : / -",
    ))
}

fn fits(text: &str, length: RangeInclusive<usize>, signs: &str) -> bool {
    length.contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
}

// STS-compatible servers other than AWS have other partitions, services and forms of account; so only the
// shape that every ARN has is asked for.
fn check_role_arn(key: &str, arn: &str) -> Result<(), ConfigError> {
    let arn = arn.trim();
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    if parts.len() == 6 && parts[0] == "arn" && !parts[5].is_empty() && !arn.contains(char::is_whitespace) {
        return Ok(());
    }
    Err(ConfigError::at(
        key,
        format!(
            "{arn:?} is no role's ARN: expected arn:aws:iam::ACCOUNT:role/NAME, found where IAM shows the role"
        ),
    ))
}

pub(crate) fn check_region(key: &str, region: &str) -> Result<(), ConfigError> {
    if region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(());
    }
    Err(ConfigError::at(key, format!("{region:?} is no AWS region: expected a name such as eu-west-1")))
}

fn null_is_false<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<RoleStep>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::123456789012:role/r";

    #[test]
    fn wrong_options_are_named() {
        let secret = || Some(Secret::new("wrong-options-secret"));
        let text = |text: &str| Some(text.to_owned());
        let base = SigV4Config::default;
        let cases = [
            (SigV4Config { access_key: text("AKID"), ..base() }, "secret_key"),
            (
                SigV4Config { access_key: text("AKID"), secret_key: Some(Secret::new("")), ..base() },
                "secret_key",
            ),
            (SigV4Config { secret_key: secret(), ..base() }, "access_key"),
            (SigV4Config { external_id: text("x"), ..base() }, "external_id"),
            (SigV4Config { role_arn: text("promferry"), ..base() }, "role_arn"),
            (SigV4Config { role_arn: text("arn:aws:iam::1:role/a b"), ..base() }, "role_arn"),
            (SigV4Config { region: text("eu west"), ..base() }, "region"),
            (SigV4Config { role_arn: text(ROLE), roles: vec![RoleStep::new(ROLE)], ..base() }, "role_arn"),
            (
                SigV4Config { external_id: text("xy"), roles: vec![RoleStep::new(ROLE)], ..base() },
                "external_id",
            ),
            (SigV4Config { role_arn: text(ROLE), external_id: text("x"), ..base() }, "external_id"),
            (SigV4Config { role_arn: text(ROLE), external_id: text("x y"), ..base() }, "external_id"),
        ];
        for (config, key) in cases {
            let error = config.validate().expect_err("must be refused");
            assert_eq!(error.path, [key], "{error}");
            assert!(!error.to_string().contains("wrong-options-secret"));
        }
        let whole = SigV4Config {
            access_key: text("AKID"),
            secret_key: secret(),
            role_arn: text(ROLE),
            external_id: text("x/1"),
            ..base()
        };
        assert_eq!(whole.validate(), Ok(()));
        assert!(!format!("{whole:?}").contains("wrong-options-secret"));
    }

    #[test]
    fn prometheus_keys_are_read_and_others_refused() {
        let config: SigV4Config = serde_json::from_str(
            r#"{"region":"eu-west-1","access_key":"AKID","secret_key":"s","profile":"p","role_arn":"r",
                "external_id":"e","use_fips_sts_endpoint":true,"service_name":"es"}"#,
        )
        .expect("all keys");
        assert_eq!(config.secret_key.as_ref().map(Secret::expose), Some("s"));
        assert!(config.use_fips_sts_endpoint);
        assert_eq!(config.service(), "es");
        let error = serde_json::from_str::<SigV4Config>(r#"{"regin":"eu-west-1"}"#).expect_err("unknown key");
        assert!(error.to_string().contains("regin"), "{error}");
        let nulls: SigV4Config =
            serde_json::from_str(r#"{"region":null,"use_fips_sts_endpoint":null}"#).expect("nulls");
        assert_eq!(nulls, SigV4Config::default());
    }

    #[test]
    fn steps_are_checked_with_their_index() {
        let mut config = CredentialsConfig {
            roles: vec![RoleStep::new("arn:aws:iam::1:role/a"), RoleStep::new("arn:aws:iam::2:role/b")],
            ..CredentialsConfig::default()
        };
        assert_eq!(config.validate(), Ok(()));
        config.roles[1].web_identity_token_file = Some("/token".into());
        let error = config.validate().expect_err("a token in the second step");
        assert_eq!(error.path, ["roles", "1", "web_identity_token_file"]);
    }

    #[test]
    fn a_chain_of_roles_is_read_and_its_errors_have_a_place() {
        let read = |roles: &str| {
            let config: SigV4Config = serde_json::from_str(&format!(r#"{{"roles":{roles}}}"#))?;
            Ok::<_, serde_json::Error>(config)
        };
        let config = read(
            r#"[{"role_arn":"arn:aws:iam::1:role/a"},
                {"role_arn":"arn:aws:iam::2:role/b","external_id":"e-1","session_name":"pod@1","sts_region":""}]"#,
        )
        .expect("roles");
        assert_eq!(config.validate(), Ok(()));
        let roles = config.credentials().roles;
        assert_eq!(roles[0], RoleStep::new("arn:aws:iam::1:role/a"));
        let last = RoleStep {
            external_id: Some(String::from("e-1")),
            session_name: Some(String::from("pod@1")),
            ..RoleStep::new("arn:aws:iam::2:role/b")
        };
        assert_eq!(roles[1], last, "an empty text is an absent one");
        assert_eq!(read("null").expect("null").roles, []);
        for unknown in [r#"[{"external_id":"e-1"}]"#, r#"[{"role_arn":"r","web_identity_token_file":"/t"}]"#]
        {
            assert!(read(unknown).is_err(), "{unknown}");
        }

        let long = "n".repeat(65);
        let names = ["x", "a b", "a/b", "é1", &long];
        for name in names {
            let mut config = config.clone();
            config.roles[1].session_name = Some(name.to_owned());
            let error = config.validate().expect_err(name);
            assert_eq!(error.path, ["roles", "1", "session_name"], "{name}");
        }
        let mut config = config;
        config.roles[0].external_id = Some(String::from("a#b"));
        assert_eq!(config.validate().expect_err("a sign").path, ["roles", "0", "external_id"]);
        config.roles[0].external_id = Some("e".repeat(1225));
        let error = config.validate().expect_err("too long");
        assert_eq!(error.to_string().lines().count(), 1);
        assert!(error.message.len() < 200, "{error}");
    }
}
