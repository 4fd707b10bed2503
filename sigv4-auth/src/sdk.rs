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
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::http_date;
use crate::{Clock, CredentialError, Environment};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// All attempts of one call together.
pub(crate) const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
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
    /// Honours `HTTPS_PROXY`, `NO_PROXY` and `AWS_CA_BUNDLE`; without the last the system's certificates are trusted, and
    /// Mozilla's where it has none, as in an image of one program. What STS says of the time corrects `clock`.
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

    /// The name of the STS endpoint that [`sts`](Self::sts) calls, for messages: without what could be a secret.
    pub(crate) fn sts_endpoint(&self, region: &str, use_fips: bool) -> String {
        self.sts_url()
            .map(|url| without_secrets(&url))
            .or_else(|| self.sts_name(region, use_fips))
            .unwrap_or_else(|| format!("the STS of {region}"))
    }

    /// The region that this process runs in and its STS, where another one is called only because of `region`.
    pub(crate) fn own_sts(&self, region: &str, use_fips: bool) -> Option<(String, String)> {
        let own = self.environment.region().filter(|own| own != region && self.sts_url().is_none())?;
        let url = self.sts_name(&own, use_fips)?;
        Some((own, url))
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
    /// asked through a proxy. `use_fips` adds to what the environment says.
    pub(crate) fn provider_config(&self, region: &str, use_fips: bool, link_local: bool) -> ProviderConfig {
        let http = if link_local { &self.http_without_proxy } else { &self.http };
        ProviderConfig::without_region()
            .with_region(Some(Region::new(region.to_owned())))
            .with_http_client(http.clone())
            .with_use_fips(Some(use_fips || self.environment.flag("AWS_USE_FIPS_ENDPOINT")))
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

/// A URL without user, password, query and fragment.
fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
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

/// One line of at most 600 characters, cut before a quoted canonical request, and before a request's header that
/// should not be seen: some proxies' pages show all that they were sent, and AWS' answer to an incomplete signature
/// the header that it stands in.
pub(crate) fn shown(text: &str) -> String {
    const NAMES: [&str; 4] = ["authorization", "x-amz-security-token", "x-amz-content-sha256", "cookie"];
    // Lower-casing ASCII alone moves no byte.
    let lower = text.to_ascii_lowercase();
    let is_named = |(at, name): (usize, &str)| {
        let after = lower[at + name.len()..].trim_start_matches(['"', '\'', '\\', ' ']);
        after.starts_with([':', '=']).then_some(at)
    };
    let quoted = ["the canonical string", "the string-to-sign", "aws4-hmac-sha256 credential"];
    let quoted = quoted.iter().filter_map(|quote| lower.find(quote));
    let named = NAMES.iter().filter_map(|name| lower.match_indices(name).find_map(is_named));
    let end = quoted.chain(named).min().unwrap_or(text.len());
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
    let Some(path) = environment.var("AWS_CA_BUNDLE") else {
        // The SDK would trust nobody, where the system has no certificates.
        let has_none = rustls_native_certs::load_native_certs().certs.is_empty();
        return Ok(if has_none { built_in() } else { TrustStore::default() });
    };
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

/// Mozilla's authorities, in the form that the SDK takes.
fn built_in() -> TrustStore {
    let mut pem = String::new();
    for certificate in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(certificate, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    TrustStore::empty().with_pem_certificate(pem)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_authorities_are_taken() {
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 100);
        // It panics for a certificate that it can't read.
        connector(&built_in(), &ProxyConfig::disabled(), None, None);
    }

    #[test]
    fn what_requests_carried_is_cut() {
        for (text, expected) in [
            ("refused here\nThe Canonical String for this request should have been 'POST", "refused here"),
            (
                "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 Credential=AKID/x",
                "Authorization header requires 'Signature' parameter.",
            ),
            (r#"{"headers":{"accept":"*/*","authorization":"AWS4-HMAC"#, r#"{"headers":{"accept":"*/*",""#),
            ("you sent X-Amz-Security-Token: token and more", "you sent"),
            ("you sent Cookie = session", "you sent"),
            ("(AWS4-HMAC-SHA256 Credential=AKID/x)", "("),
            (r#"{\"X-Amz-Security-Token\": \"token\"}"#, r#"{\""#),
            ("no authorization header, no cookie", "no authorization header, no cookie"),
            ("Ü İ authorization: x", "Ü İ"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, expected) in [
            ("https://sts.eu-west-1.amazonaws.com", "https://sts.eu-west-1.amazonaws.com"),
            ("http://user:hunter2@h:81/a?key=hunter2#hunter2", "http://h:81/a"),
            ("http://user:hun@ter2@h/a@b", "http://h/a@b"),
            ("user:hunter2@h", "h"),
        ] {
            assert_eq!(without_secrets(url), expected);
        }
    }
}
