//! From options to credentials: a base, then roles assumed one with the other.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use crate::authorization::{account_of, role_name, role_of_session};
use crate::config::{check_session_name, present};
use crate::report::Finding;
use crate::sdk::{Aws, OPERATION_TIMEOUT, error_text, provider_error};
use crate::sts::{CallerIdentity, Sts};
use crate::{
    BaseCredentials, Clock, ConfigError, CredentialError, CredentialFuture, CredentialSource, Credentials,
    CredentialsConfig, Environment, ProviderReport, RoleStep,
};

const CONTAINER: &str = "container";

/// Gets credentials as options say: from a base, then through any number of roles.
///
/// The default chain has the order of AWS' SDK for Go v2: environment variables, web identity (IRSA), shared
/// profile, container (ECS, EKS Pod Identity), IMDSv2. The first that is configured is the one. Should it
/// fail, no other is tried: a pod whose own role is refused must not go on as its node. IMDS is left out
/// where it cannot be (Fargate, or `AWS_EC2_METADATA_DISABLED`).
///
/// A role that the credentials before already have is not assumed again: most trust policies do not let a
/// role assume itself.
///
/// It keeps no credentials: wrap it in [`CachedCredentials`](crate::CachedCredentials). Token files are read
/// for each call.
#[derive(Debug)]
pub struct CredentialChain {
    config: CredentialsConfig,
    environment: Environment,
    region: String,
    clock: Option<Clock>,
    report: Mutex<ProviderReport>,
    waits_for: Mutex<Option<String>>,
}

impl CredentialChain {
    /// A chain that calls nothing yet. `region` is the region whose STS is called where neither the step, nor
    /// the options, nor the environment name one: usually that of the endpoint.
    ///
    /// # Errors
    /// Options that cannot be right.
    pub fn new(
        config: &CredentialsConfig,
        environment: Environment,
        region: &str,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config: config.clone(),
            environment,
            region: region.to_owned(),
            clock: None,
            report: Mutex::default(),
            waits_for: Mutex::default(),
        })
    }

    /// The same chain; the `Date` of STS' answers corrects `clock`, of which the cache that keeps its credentials
    /// has a clone. Without it a clock that is wrong by more than the credentials' lifetime takes them for
    /// expired.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Asks STS whose these credentials are.
    ///
    /// # Errors
    /// STS is not reachable, or refuses the keys.
    pub async fn caller_identity(
        &self,
        credentials: &Credentials,
    ) -> Result<CallerIdentity, CredentialError> {
        let ask = async {
            let aws = Aws::new(self.environment.clone(), self.clock.clone())?;
            let region = self.sts_region(self.config.roles.last());
            let sts = Sts { aws: &aws, region: &region, use_fips: self.config.use_fips_sts_endpoint };
            sts.caller_identity(credentials).await
        };
        let identity = ask.with_subscriber(NoSubscriber::new()).await;
        self.say_correction();
        identity
    }

    /// The region whose STS `step` is assumed at; of the base without one.
    fn sts_region(&self, step: Option<&RoleStep>) -> String {
        step.and_then(|step| step.sts_region.clone())
            .or_else(|| self.config.sts_region.clone())
            .or_else(|| self.environment.region())
            .unwrap_or_else(|| self.region.clone())
    }

    /// Goes through the chain once, and tells what was met on the way.
    pub(crate) async fn walk(&self) -> (Walk, Result<Credentials, CredentialError>) {
        let mut way = Way { chain: self, walk: Walk::default() };
        // At its finest level the SDK logs whole requests and answers, tokens and keys in them. What a user needs
        // to know of them is in our errors.
        let result = self.load(&mut way.walk).with_subscriber(NoSubscriber::new()).await;
        self.wait_for(None);
        (way.walk.clone(), result)
    }

    /// The roles that are assumed with credentials, in order.
    pub(crate) fn assumed_roles(&self) -> &[RoleStep] {
        match self.config.roles.split_first() {
            Some((first, others)) if first.web_identity_token_file.is_some() => others,
            _ => &self.config.roles,
        }
    }

    /// Whether the base's credentials carry session tags on to the roles that are assumed with them, as those of EKS
    /// Pod Identity do.
    pub(crate) fn base_has_session_tags(&self, provider: &str) -> bool {
        provider == CONTAINER && self.environment.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").is_some()
    }

    fn wait_for(&self, whom: Option<String>) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = whom;
    }

    fn say_correction(&self) {
        if let Some(clock) = &self.clock {
            clock.say_correction();
        }
    }

    async fn load(&self, walk: &mut Walk) -> Result<Credentials, CredentialError> {
        let aws = Aws::new(self.environment.clone(), self.clock.clone())?;
        let first_with_token =
            self.config.roles.first().filter(|step| step.web_identity_token_file.is_some());
        let mut roles = self.config.roles.iter();
        let Assumed { mut credentials, mut role_arn } = match first_with_token {
            Some(step) => {
                roles.next();
                let token_file = step.web_identity_token_file.clone().unwrap_or_default();
                self.web_identity(&aws, &token_file, step, walk).await?
            }
            None => self.base(&aws, walk).await?,
        };
        walk.passed(&credentials, role_arn.as_deref(), false);
        for step in roles {
            if role_arn.as_deref() == Some(step.role_arn.as_str()) {
                let why = "the credentials before already have this role; it is not assumed by itself";
                walk.report.add_role(&step.role_arn, Finding::Skipped(why.to_owned()));
                continue;
            }
            let region = self.sts_region(Some(step));
            let sts = Sts { aws: &aws, region: &region, use_fips: self.config.use_fips_sts_endpoint };
            self.wait_for(Some(format!("STS at {} (assume role {})", sts.endpoint(), step.role_arn)));
            let assumed = match self.session_name(step) {
                Ok(session_name) => sts.assume_role(&credentials, step, &session_name).await,
                Err(error) => Err(error),
            };
            match assumed {
                Ok(assumed) => {
                    walk.report.add_role(&step.role_arn, Finding::Used);
                    walk.passed(&assumed, Some(&step.role_arn), step.external_id.is_some());
                    // The shorter life of the two would be wrong: assumed credentials outlive their base's.
                    credentials = assumed;
                    role_arn = Some(step.role_arn.clone());
                }
                Err(error) => {
                    // Of some bases only STS knows the role.
                    if role_arn.is_none()
                        && error.is_denied()
                        && let Ok(identity) = sts.caller_identity(&credentials).await
                        && is_session_of(&identity.arn, &step.role_arn)
                    {
                        let why = format!(
                            "the credentials before already have this role ({}); it is not assumed by itself",
                            identity.arn
                        );
                        walk.report.add_role(&step.role_arn, Finding::Skipped(why));
                        role_arn = Some(step.role_arn.clone());
                        if let Some(passed) = walk.passed.last_mut() {
                            passed.role_arn.clone_from(&role_arn);
                        }
                        continue;
                    }
                    walk.report.add_role(&step.role_arn, Finding::Failed(error.to_string()));
                    walk.failed_at = Some(step.clone());
                    return Err(error);
                }
            }
        }
        Ok(credentials)
    }

    async fn base(&self, aws: &Aws, walk: &mut Walk) -> Result<Assumed, CredentialError> {
        match &self.config.base {
            BaseCredentials::Static { access_key, secret_key, session_token } => {
                walk.report.add("static keys", Finding::Used);
                let token = session_token.as_ref().map(|token| token.expose());
                Ok(Credentials::new(access_key, secret_key.expose(), token).provided_by("static keys").into())
            }
            BaseCredentials::Profile(profile) => {
                let provider = format!("profile {profile}");
                let result = self.profile(aws, Some(profile)).await;
                let result = result.map_err(|error| self.profile_error(&provider, &error));
                noted(
                    &mut walk.report,
                    &provider,
                    result.map(|credentials| from_sdk(&credentials, &provider).into()),
                )
            }
            BaseCredentials::DefaultChain => self.default_chain(aws, walk).await,
        }
    }

    async fn default_chain(&self, aws: &Aws, walk: &mut Walk) -> Result<Assumed, CredentialError> {
        match self.environment_keys() {
            Ok(credentials) => {
                walk.report.add("environment", Finding::Used);
                return Ok(credentials.into());
            }
            Err(missing) => walk.report.add("environment", Finding::NotConfigured(missing)),
        }
        match self.web_identity_from_environment() {
            Ok((token_file, step)) => return self.web_identity(aws, &token_file, &step, walk).await,
            Err(missing) => walk.report.add("web identity", Finding::NotConfigured(missing)),
        }
        let named =
            self.environment.var("AWS_PROFILE").or_else(|| self.environment.var("AWS_DEFAULT_PROFILE"));
        let provider = format!("profile {}", named.as_deref().unwrap_or("default"));
        if named.is_none() && !self.environment.is_process() && self.profile_files().is_none() {
            walk.report.add(
                &provider,
                Finding::NotConfigured("AWS_PROFILE is not set, and there is no shared file".to_owned()),
            );
        } else {
            match self.profile(aws, named.as_deref()).await {
                Ok(credentials) => {
                    walk.report.add(&provider, Finding::Used);
                    return Ok(from_sdk(&credentials, &provider).into());
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) if named.is_none() => {
                    walk.report.add(&provider, Finding::NotConfigured(self.no_profile()));
                }
                Err(error) => {
                    let error = self.profile_error(&provider, &error);
                    return noted(&mut walk.report, &provider, Err(error));
                }
            }
        }
        let region = self.sts_region(None);
        if self.environment.var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
            || self.environment.var("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
        {
            let container = EcsCredentialsProvider::builder()
                .configure(&aws.provider_config(&region, false, true))
                .build();
            self.wait_for(Some(String::from("the container's credentials")));
            let result = container.provide_credentials().await;
            let result = result.map_err(|error| self.container_error(&error));
            return noted(
                &mut walk.report,
                CONTAINER,
                result.map(|credentials| from_sdk(&credentials, CONTAINER).into()),
            );
        }
        let missing = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set";
        walk.report.add(CONTAINER, Finding::NotConfigured(missing.to_owned()));

        const IMDS: &str = "IMDS";
        if let Some(why) = self.imds_impossible() {
            walk.report.add(IMDS, Finding::Skipped(why));
            return Err(CredentialError::NotFound { looked_at: walk.report.to_string() });
        }
        self.wait_for(Some(String::from(IMDS)));
        match imds_provider(aws, &region).provide_credentials().await {
            Ok(credentials) => {
                walk.report.add(IMDS, Finding::Used);
                Ok(from_sdk(&credentials, IMDS).into())
            }
            Err(error) => {
                // EKS tells no container that it is on Fargate.
                let why = format!(
                    "{}; on EKS Fargate there is none: with K8S_NODE_NAME from spec.nodeName (downward API), or with \
                     AWS_EC2_METADATA_DISABLED=true, it is not asked",
                    error_text(&error)
                );
                walk.report.add(IMDS, Finding::Failed(why));
                Err(CredentialError::NotFound { looked_at: walk.report.to_string() })
            }
        }
    }

    fn environment_keys(&self) -> Result<Credentials, String> {
        let Some(access_key) = self.environment.var("AWS_ACCESS_KEY_ID") else {
            return Err(String::from("AWS_ACCESS_KEY_ID is not set"));
        };
        let Some(secret_key) = self.environment.var("AWS_SECRET_ACCESS_KEY") else {
            return Err(String::from("AWS_SECRET_ACCESS_KEY is not set"));
        };
        let token = self.environment.var("AWS_SESSION_TOKEN");
        Ok(Credentials::new(&access_key, &secret_key, token.as_deref()).provided_by("environment"))
    }

    fn web_identity_from_environment(&self) -> Result<(PathBuf, RoleStep), String> {
        let Some(token_file) = self.environment.var("AWS_WEB_IDENTITY_TOKEN_FILE") else {
            return Err(String::from("AWS_WEB_IDENTITY_TOKEN_FILE is not set"));
        };
        let Some(role_arn) = self.environment.var("AWS_ROLE_ARN") else {
            return Err(String::from("AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not"));
        };
        Ok((PathBuf::from(token_file), RoleStep::new(role_arn)))
    }

    async fn web_identity(
        &self,
        aws: &Aws,
        token_file: &Path,
        step: &RoleStep,
        walk: &mut Walk,
    ) -> Result<Assumed, CredentialError> {
        walk.web_identity = Some((token_file.to_owned(), step.role_arn.clone()));
        let region = self.sts_region(Some(step));
        let sts = Sts { aws, region: &region, use_fips: self.config.use_fips_sts_endpoint };
        self.wait_for(Some(format!("STS at {} (web identity {})", sts.endpoint(), step.role_arn)));
        let result = match self.session_name(step) {
            Ok(session_name) => sts.assume_role_with_web_identity(token_file, step, &session_name).await,
            Err(error) => Err(error),
        };
        let assumed =
            result.map(|credentials| Assumed { credentials, role_arn: Some(step.role_arn.clone()) });
        noted(&mut walk.report, "web identity", assumed)
    }

    async fn profile(
        &self,
        aws: &Aws,
        name: Option<&str>,
    ) -> Result<aws_credential_types::Credentials, CredentialsError> {
        let region = self.sts_region(None);
        self.wait_for(Some(format!("profile {}", name.unwrap_or("default"))));
        // A profile may name roles of its own, which the SDK assumes.
        let config = aws.provider_config(&region, self.config.use_fips_sts_endpoint, false);
        let mut builder = ProfileFileCredentialsProvider::builder().configure(&config);
        if let Some(name) = name {
            builder = builder.profile_name(name);
        }
        if let Some(files) = self.profile_files() {
            builder = builder.profile_files(files);
        }
        builder.build().provide_credentials().await
    }

    /// The SDK does not say where it looked.
    fn no_profile(&self) -> String {
        let file =
            |variable: &str, usual: &str| self.environment.var(variable).unwrap_or_else(|| usual.to_owned());
        format!(
            "no such profile with credentials is in {} (AWS_CONFIG_FILE) or {} (AWS_SHARED_CREDENTIALS_FILE)",
            file("AWS_CONFIG_FILE", "~/.aws/config"),
            file("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        )
    }

    fn profile_error(&self, provider: &str, error: &CredentialsError) -> CredentialError {
        match error {
            CredentialsError::CredentialsNotLoaded(_) => {
                CredentialError::Invalid { provider: provider.to_owned(), reason: self.no_profile() }
            }
            other => provider_error(provider, other),
        }
    }

    /// What a container's service failed with. EKS Pod Identity's is an agent on the node.
    fn container_error(&self, error: &CredentialsError) -> CredentialError {
        let is_pod_identity = self.environment.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").is_some();
        match provider_error(CONTAINER, error) {
            CredentialError::Invalid { provider, reason } if is_pod_identity => CredentialError::Invalid {
                provider,
                reason: format!(
                    "{reason}; does the EKS Pod Identity Agent run on this node (on Fargate there is none: use IRSA \
                     there), and has the service account an association?"
                ),
            },
            other => other,
        }
    }

    fn session_name(&self, step: &RoleStep) -> Result<String, CredentialError> {
        const VARIABLE: &str = "AWS_ROLE_SESSION_NAME";
        if let Some(name) = present(&step.session_name) {
            return Ok(name.to_owned());
        }
        if let Some(name) = self.environment.var(VARIABLE) {
            check_session_name(&name)
                .map_err(|reason| CredentialError::Invalid { provider: VARIABLE.to_owned(), reason })?;
            return Ok(name);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(format!("promferry-{}", now.as_secs()))
    }

    /// The shared files, where given variables name them. The SDK finds the process's own.
    fn profile_files(&self) -> Option<EnvConfigFiles> {
        if self.environment.is_process() {
            return None;
        }
        // The SDK takes a file that is given to it and missing for an error, one that it finds itself not.
        let named = [
            (EnvConfigFileKind::Config, self.environment.var("AWS_CONFIG_FILE")),
            (EnvConfigFileKind::Credentials, self.environment.var("AWS_SHARED_CREDENTIALS_FILE")),
        ];
        let there = named
            .into_iter()
            .filter_map(|(kind, path)| Some((kind, path.filter(|path| Path::new(path).exists())?)));
        let mut files = None;
        for (kind, path) in there {
            files = Some(files.unwrap_or_else(EnvConfigFiles::builder).with_file(kind, path));
        }
        files.map(|files| files.build())
    }

    /// Why there is no IMDS to ask here, where that can be told: asking one that is not there costs seconds.
    fn imds_impossible(&self) -> Option<String> {
        if self.environment.flag("AWS_EC2_METADATA_DISABLED") {
            return Some(String::from("AWS_EC2_METADATA_DISABLED is true"));
        }
        if self.environment.var("AWS_EXECUTION_ENV").is_some_and(|name| name.contains("FARGATE")) {
            return Some(String::from("there is none on Fargate (AWS_EXECUTION_ENV)"));
        }
        // EKS names Fargate nodes so; pods get the name through the downward API, under one of these names in
        // AWS' own manifests and charts.
        const NODE_NAMES: [&str; 4] = ["K8S_NODE_NAME", "NODE_NAME", "KUBE_NODE_NAME", "HOST_NAME"];
        let variable = NODE_NAMES
            .iter()
            .find(|name| self.environment.var(name).is_some_and(|node| node.starts_with("fargate-")))?;
        Some(format!("there is none on Fargate ({variable})"))
    }
}

impl CredentialSource for CredentialChain {
    fn credentials(&self) -> CredentialFuture<'_> {
        Box::pin(async move { self.walk().await.1 })
    }

    fn waits_for(&self) -> Option<String> {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(&self) -> ProviderReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As long as all of its calls may take, one for the base and one for each role, and some more for the services of
    /// the node.
    fn longest_call(&self) -> Duration {
        let calls = u32::try_from(self.config.roles.len()).unwrap_or(u32::MAX).saturating_add(1);
        OPERATION_TIMEOUT.saturating_mul(calls).saturating_add(Duration::from_secs(10))
    }
}

/// One way through a chain. What was met on it is told at its end, also where it is given up half way.
struct Way<'a> {
    chain: &'a CredentialChain,
    walk: Walk,
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.chain.say_correction();
        *self.chain.report.lock().unwrap_or_else(PoisonError::into_inner) =
            std::mem::take(&mut self.walk.report);
    }
}

/// What was met on one way through a chain.
#[derive(Clone, Default)]
pub(crate) struct Walk {
    pub(crate) report: ProviderReport,
    /// The token file of web identity, and the role that was asked for with it.
    pub(crate) web_identity: Option<(PathBuf, String)>,
    /// The base's credentials, then those of each role that was assumed.
    pub(crate) passed: Vec<Passed>,
    /// The role that could not be assumed with the last of these.
    pub(crate) failed_at: Option<RoleStep>,
}

/// Credentials on the way through a chain.
#[derive(Clone)]
pub(crate) struct Passed {
    pub(crate) credentials: Credentials,
    pub(crate) role_arn: Option<String>,
    pub(crate) external_id_given: bool,
}

impl Walk {
    fn passed(&mut self, credentials: &Credentials, role_arn: Option<&str>, external_id_given: bool) {
        let (credentials, role_arn) = (credentials.clone(), role_arn.map(str::to_owned));
        self.passed.push(Passed { credentials, role_arn, external_id_given });
    }
}

/// Whether a caller's ARN is that of a session of this role. A session's ARN lacks the role's path.
fn is_session_of(caller_arn: &str, role_arn: &str) -> bool {
    role_of_session(caller_arn).is_some_and(|role| {
        account_of(&role) == account_of(role_arn) && role_name(&role) == role_name(role_arn)
    })
}

/// Credentials and the role they are known to have.
struct Assumed {
    credentials: Credentials,
    role_arn: Option<String>,
}

impl From<Credentials> for Assumed {
    fn from(credentials: Credentials) -> Self {
        Self { credentials, role_arn: None }
    }
}

fn noted(
    report: &mut ProviderReport,
    provider: &str,
    result: Result<Assumed, CredentialError>,
) -> Result<Assumed, CredentialError> {
    report.add(
        provider,
        match &result {
            Ok(_) => Finding::Used,
            Err(error) => Finding::Failed(error.to_string()),
        },
    );
    result
}

fn from_sdk(credentials: &aws_credential_types::Credentials, provider: &str) -> Credentials {
    Credentials::new(
        credentials.access_key_id(),
        credentials.secret_access_key(),
        credentials.session_token(),
    )
    .expiring(credentials.expiry())
    .provided_by(provider)
}

fn imds_provider(aws: &Aws, region: &str) -> ImdsCredentialsProvider {
    let config = aws.provider_config(region, false, true);
    let client = imds::Client::builder()
        .configure(&config)
        .max_attempts(2)
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(2))
        .build();
    ImdsCredentialsProvider::builder().configure(&config).imds_client(client).build()
}
