//! The options in the words of ADOT's `sigv4auth` extension.

use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

use crate::config::{check_region, present};
use crate::{
    ConfigError, CredentialsConfig, Environment, RoleStep, Scope, ScopeKeys, SetupError, SigV4Layer,
};

/// The `sigv4auth` extension's block in a configuration of the OpenTelemetry Collector (contrib v0.156.0,
/// `extension/sigv4authextension`), which ADOT brings.
///
/// An empty text means the same as an absent key, as it does there. One thing differs: `session_name` is used; the
/// extension reads and forgets it.
///
/// ```
/// use promferry_sigv4_auth::SigV4AuthConfig;
///
/// let config: SigV4AuthConfig = serde_json::from_str(
///     r#"{"region": "eu-west-1", "assume_role": {"arn": "arn:aws:iam::123456789012:role/remote-write"}}"#,
/// )?;
/// config.validate()?;
/// assert_eq!(config.credentials().roles.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigV4AuthConfig {
    /// The AWS region to sign for. Absent: from the endpoint's host, else `AWS_REGION`, else
    /// `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// The service to sign for. Absent: from the endpoint's host.
    pub service: Option<String>,
    /// The role to assume.
    #[serde(deserialize_with = "null_is_default")]
    pub assume_role: AssumeRole,
}

/// `assume_role` of [`SigV4AuthConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AssumeRole {
    /// The role's ARN. Absent: the credentials found sign.
    pub arn: Option<String>,
    /// The session's name as CloudTrail shows it. Absent: `AWS_ROLE_SESSION_NAME`, else one of our own.
    pub session_name: Option<String>,
    /// The region whose STS is called. Absent: `region`.
    pub sts_region: Option<String>,
    /// The external id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// A token to assume the role with (`AssumeRoleWithWebIdentity`), in place of the default chain's credentials.
    pub web_identity_token_file: Option<PathBuf>,
}

impl SigV4AuthConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A key of `assume_role` without its `arn`, an `arn` that is none, an external id beside a web identity token,
    /// an external id or session name that STS would refuse, a region that is no region's name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if let Some(region) = present(&self.region) {
            check_region("region", region)?;
        }
        let role = &self.assume_role;
        let Some(step) = role.step() else {
            let others = [
                ("web_identity_token_file", role.token_file().is_some()),
                ("session_name", present(&role.session_name).is_some()),
                ("external_id", present(&role.external_id).is_some()),
                ("sts_region", present(&role.sts_region).is_some()),
            ];
            return match others.into_iter().find(|(_, is_set)| *is_set) {
                Some((key, _)) => {
                    Err(ConfigError::at(key, "can only be used together with arn").under(&["assume_role"]))
                }
                None => Ok(()),
            };
        };
        step.validate(0).map_err(|mut error| {
            for key in error.path.iter_mut().filter(|key| *key == "role_arn") {
                *key = String::from("arn");
            }
            error.under(&["assume_role"])
        })
    }

    /// Where the credentials come from, in the form that [`CredentialChain`](crate::CredentialChain) takes.
    pub fn credentials(&self) -> CredentialsConfig {
        CredentialsConfig {
            roles: self.assume_role.step().into_iter().collect(),
            sts_region: present(&self.region).map(str::to_owned),
            ..CredentialsConfig::default()
        }
    }
}

impl AssumeRole {
    fn step(&self) -> Option<RoleStep> {
        let text = |option: &Option<String>| present(option).map(str::to_owned);
        Some(RoleStep {
            role_arn: text(&self.arn)?,
            session_name: text(&self.session_name),
            external_id: text(&self.external_id),
            sts_region: text(&self.sts_region),
            web_identity_token_file: self.token_file().cloned(),
        })
    }

    fn token_file(&self) -> Option<&PathBuf> {
        self.web_identity_token_file.as_ref().filter(|path| !path.as_os_str().is_empty())
    }
}

impl SigV4Layer {
    /// A layer for one endpoint from ADOT's options. Nothing is called yet: a start without reachable STS
    /// succeeds.
    ///
    /// # Errors
    /// Options that cannot be right, and a region or service that can't be told.
    pub fn from_adot_config(
        config: &SigV4AuthConfig,
        endpoint: &Uri,
        environment: &Environment,
    ) -> Result<Self, SetupError> {
        config.validate()?;
        let scope = Scope::resolve(
            endpoint.host().unwrap_or_default(),
            present(&config.region),
            present(&config.service),
            environment,
            ScopeKeys::OPENTELEMETRY,
        )?;
        Self::with_chain(scope, &config.credentials(), environment)
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<AssumeRole, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BaseCredentials;

    const ROLE: &str = "arn:aws:iam::123456789012:role/r";

    fn read(json: &str) -> SigV4AuthConfig {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn every_key_is_read_and_others_refused() {
        let config = read(
            r#"{"region":"eu-west-1","service":"aps","assume_role":{"arn":"arn:aws:iam::123456789012:role/r",
                "session_name":"pod-1","sts_region":"eu-central-1","external_id":"e-1"}}"#,
        );
        assert_eq!(config.validate(), Ok(()));
        let step = RoleStep {
            session_name: Some(String::from("pod-1")),
            sts_region: Some(String::from("eu-central-1")),
            external_id: Some(String::from("e-1")),
            ..RoleStep::new(ROLE)
        };
        let credentials = config.credentials();
        assert_eq!(credentials.roles, [step]);
        assert_eq!(credentials.base, BaseCredentials::DefaultChain);
        assert_eq!(credentials.sts_region.as_deref(), Some("eu-west-1"));

        let token = read(
            r#"{"assume_role":{"arn":"arn:aws:iam::123456789012:role/r","web_identity_token_file":"/token"}}"#,
        );
        assert_eq!(token.validate(), Ok(()));
        assert_eq!(token.credentials().roles[0].web_identity_token_file.as_deref(), Some("/token".as_ref()));

        let empty = [
            r#"{}"#,
            r#"{"assume_role":null}"#,
            r#"{"region":"","assume_role":{"arn":"","external_id":""}}"#,
        ];
        for empty in empty {
            assert_eq!(read(empty).validate(), Ok(()), "{empty}");
            assert_eq!(read(empty).credentials(), CredentialsConfig::default(), "{empty}");
        }
        for unknown in [r#"{"role_arn":"x"}"#, r#"{"assume_role":{"role_arn":"x"}}"#] {
            assert!(serde_json::from_str::<SigV4AuthConfig>(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let role = |more: &str| format!(r#"{{"assume_role":{{"arn":"{ROLE}"{more}}}}}"#);
        let cases = [
            (r#"{"region":"eu west"}"#.to_owned(), "region"),
            (r#"{"assume_role":{"arn":"hub"}}"#.to_owned(), "assume_role.arn"),
            (
                r#"{"assume_role":{"web_identity_token_file":"/token"}}"#.to_owned(),
                "assume_role.web_identity_token_file",
            ),
            (r#"{"assume_role":{"external_id":"e-1"}}"#.to_owned(), "assume_role.external_id"),
            (r#"{"assume_role":{"session_name":"s-1"}}"#.to_owned(), "assume_role.session_name"),
            (role(r#","session_name":"x""#), "assume_role.session_name"),
            (role(r#","external_id":"a b""#), "assume_role.external_id"),
            (role(r#","sts_region":"a b""#), "assume_role.sts_region"),
            (role(r#","external_id":"e-1","web_identity_token_file":"/token""#), "assume_role.external_id"),
        ];
        for (json, path) in cases {
            let error = read(&json).validate().expect_err(&json);
            assert_eq!(error.path.join("."), path, "{json}");
        }
    }

    #[test]
    fn the_scope_is_inferred_and_what_is_missing_has_its_key() {
        let nothing = Environment::from_pairs::<&str, &str>([]);
        let layer = |json: &str, url: &'static str| {
            SigV4Layer::from_adot_config(&read(json), &Uri::from_static(url), &nothing)
        };
        let search = layer("{}", "https://search-logs.eu-west-1.es.amazonaws.com/").expect("inferred");
        assert_eq!((search.scope().region.as_str(), search.scope().service.as_str()), ("eu-west-1", "es"));
        let error = layer("{}", "https://amp.example.com/").expect_err("unknown").to_string();
        assert!(error.contains("sigv4auth.region") && error.contains("sigv4auth.service"), "{error}");
    }
}
