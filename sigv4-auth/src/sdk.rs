//! What every call to AWS shares: HTTP clients, endpoints, timeouts, and reading the SDK's errors.

use std::error::Error as StdError;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::SharedHttpClient;
use aws_sdk_sts::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::HttpConnectorSettings;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::clock::http_date;
use crate::{Clock, CredentialError, Environment};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// All attempts of one call together; the cache waits a little longer (`cache.rs`).
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 3;

/// The HTTP clients and STS settings of one chain of credentials.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    environment: Environment,
    clock: Option<Clock>,
    http: SharedHttpClient,
    http_without_proxy: SharedHttpClient,
}

impl Aws {
    /// Honours `HTTPS_PROXY`, `NO_PROXY` and `AWS_CA_BUNDLE`. What STS says of the time corrects `clock`.
    pub(crate) fn new(environment: Environment, clock: Option<Clock>) -> Result<Self, CredentialError> {
        let trust = trust_store(&environment)?;
        Ok(Self {
            environment,
            clock,
            http: http_client(trust.clone(), ProxyConfig::from_env()),
            http_without_proxy: http_client(trust, ProxyConfig::disabled()),
        })
    }

    /// An STS client for one region. `use_fips` adds to what the environment says.
    pub(crate) fn sts(
        &self,
        region: &str,
        use_fips: bool,
        credentials: Option<&crate::Credentials>,
    ) -> aws_sdk_sts::Client {
        let mut config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .use_fips(use_fips || self.environment.flag("AWS_USE_FIPS_ENDPOINT"))
            .use_dual_stack(self.environment.flag("AWS_USE_DUALSTACK_ENDPOINT"))
            .http_client(self.http.clone())
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts());
        if let Some(url) = self.sts_url() {
            config = config.endpoint_url(url);
        }
        if let Some(clock) = &self.clock {
            config = config.interceptor(DateObserver(clock.clone()));
        }
        if let Some(credentials) = credentials {
            config = config.credentials_provider(aws_credential_types::Credentials::new(
                credentials.access_key(),
                credentials.secret_key().expose(),
                credentials.session_token().map(|token| token.expose().to_owned()),
                // Whether they still hold is STS' to say: the system's clock, by which the SDK judges, may be wrong.
                None,
                "promferry",
            ));
        }
        aws_sdk_sts::Client::from_conf(config.build())
    }

    /// The name of the STS endpoint that [`sts`](Self::sts) calls, for messages.
    pub(crate) fn sts_endpoint(&self, region: &str, use_fips: bool) -> String {
        self.sts_url()
            .or_else(|| self.sts_name(region, use_fips))
            .unwrap_or_else(|| format!("the STS of {region}"))
    }

    /// As the SDK makes it of region, partition and both switches.
    fn sts_name(&self, region: &str, use_fips: bool) -> Option<String> {
        let params = Params::builder()
            .region(region)
            .use_fips(use_fips || self.environment.flag("AWS_USE_FIPS_ENDPOINT"))
            .use_dual_stack(self.environment.flag("AWS_USE_DUALSTACK_ENDPOINT"))
            .build()
            .ok()?;
        let resolver = DefaultResolver::new();
        let endpoint = pin!(resolver.resolve_endpoint(&params));
        // Rules over these four only: there is nothing to wait for.
        match endpoint.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(endpoint)) => Some(endpoint.url().to_owned()),
            _ => None,
        }
    }

    /// The settings of the SDK's own providers. Link-local services (ECS, Pod Identity, IMDS) are never
    /// asked through a proxy.
    pub(crate) fn provider_config(&self, region: &str, link_local: bool) -> ProviderConfig {
        let http = if link_local { &self.http_without_proxy } else { &self.http };
        ProviderConfig::without_region()
            .with_region(Some(Region::new(region.to_owned())))
            .with_http_client(http.clone())
            .with_use_fips(Some(self.environment.flag("AWS_USE_FIPS_ENDPOINT")))
            .with_use_dual_stack(Some(self.environment.flag("AWS_USE_DUALSTACK_ENDPOINT")))
            .with_retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .with_timeout_config(timeouts())
    }

    fn sts_url(&self) -> Option<String> {
        if self.environment.flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
            return None;
        }
        self.environment.var("AWS_ENDPOINT_URL_STS").or_else(|| self.environment.var("AWS_ENDPOINT_URL"))
    }
}

/// Corrects a clock by the `Date` of answers. It only looks on: the SDK has its own correction for the signatures
/// that it makes, and would correct twice by a clock of ours.
#[derive(Debug)]
struct DateObserver(Clock);

impl Intercept for DateObserver {
    fn name(&self) -> &'static str {
        "DateObserver"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.response().headers();
        let from_a_cache = headers.get("age").is_some();
        if let Some(server) = headers.get("date").filter(|_| !from_a_cache).and_then(http_date) {
            // Nothing is logged in the SDK's calls (`chain.rs`).
            self.0.correct(server);
        }
        Ok(())
    }
}

/// An error's own text and those of its causes, on one line, as far as it is fit to be shown: AWS' answers to
/// a wrong signature can quote the whole canonical request with its session token.
pub(crate) fn error_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    shown(&text)
}

/// One line of at most 600 characters, cut before a quoted canonical request.
pub(crate) fn shown(text: &str) -> String {
    let end = ["The Canonical String", "The String-to-Sign"]
        .iter()
        .filter_map(|quote| text.find(quote))
        .min()
        .unwrap_or(text.len());
    let line: Vec<&str> = text[..end].split_whitespace().collect();
    line.join(" ").chars().take(600).collect()
}

/// The SDK's word for an error of one of its own providers.
pub(crate) fn provider_error(provider: &str, error: &CredentialsError) -> CredentialError {
    match error {
        CredentialsError::ProviderTimedOut(timed_out) => {
            CredentialError::TimedOut { seconds: timed_out.timeout_duration().as_secs() }
        }
        other => CredentialError::Invalid { provider: provider.to_owned(), reason: error_text(other) },
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

fn trust_store(environment: &Environment) -> Result<TrustStore, CredentialError> {
    let Some(path) = environment.var("AWS_CA_BUNDLE") else { return Ok(TrustStore::default()) };
    let refused = |reason: &dyn Display| CredentialError::Invalid {
        provider: String::from("AWS_CA_BUNDLE"),
        reason: format!("{path}: {reason}"),
    };
    let pem = std::fs::read(&path).map_err(|error| refused(&error))?;
    if !pem.windows(PEM_CERTIFICATE.len()).any(|window| window == PEM_CERTIFICATE) {
        return Err(refused(&"holds no certificate in PEM"));
    }
    let trust = TrustStore::empty().with_pem_certificate(pem);
    // The SDK's connector panics for a certificate that it can't read: better here than at the first connection.
    let tried = catch_unwind(AssertUnwindSafe(|| connector(&trust, &ProxyConfig::disabled(), None, None)));
    tried.map_err(|_| refused(&"holds a certificate that can't be read: is it cut?"))?;
    Ok(trust)
}

const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn connector(
    trust: &TrustStore,
    proxy: &ProxyConfig,
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
) -> Connector {
    let mut connector = ConnectorBuilder::default()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .proxy_config(proxy.clone());
    // A context is only refused for what its builder was not given here.
    if let Ok(context) = TlsContext::builder().with_trust_store(trust.clone()).build() {
        connector = connector.tls_context(context);
    }
    connector.set_connector_settings(settings.cloned());
    connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
    connector.build()
}

fn http_client(trust: TrustStore, proxy: ProxyConfig) -> SharedHttpClient {
    Builder::new()
        .build_with_connector_fn(move |settings, components| connector(&trust, &proxy, settings, components))
}
