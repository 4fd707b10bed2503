//! The extensions: `sigv4auth` signs, `health_check` answers.

use http::Uri;
use promferry_sigv4_auth::{Environment, Scope, ScopeKeys, SigV4AuthConfig, SigV4Config};

use super::component::{take, take_without_effect};
use crate::yaml::{Entry, NodeError};
use crate::{Env, ErrorKind, HealthCheck};

/// Reads `sigv4auth` for the endpoint that it signs for: in Prometheus' words, with what the collector tells from
/// the endpoint's host filled in.
pub(super) fn read_sigv4(id: &Entry, endpoint: &str, env: &dyn Env) -> Result<SigV4Config, NodeError> {
    let config: SigV4AuthConfig = id.value.read()?;
    let block = id.value.mapping()?;
    config.validate().map_err(|error| NodeError::at_path(&block, &error.path, error.message))?;
    let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let environment = Environment::from_pairs(
        variables.into_iter().filter_map(|name| env.variable(name).map(|value| (name, value))),
    );
    let host = endpoint.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    fn present(text: &Option<String>) -> Option<&str> {
        text.as_deref().map(str::trim).filter(|text| !text.is_empty())
    }
    let scope = Scope::resolve(
        &host,
        present(&config.region),
        present(&config.service),
        &environment,
        ScopeKeys::OPENTELEMETRY,
    );
    let scope = scope.map_err(|error| {
        let message = format!("{error} (or AWS_REGION in the environment)");
        NodeError::new(ErrorKind::Value, message).at(id.key_at)
    })?;
    let credentials = config.credentials();
    Ok(SigV4Config {
        region: Some(scope.region),
        service_name: Some(scope.service),
        roles: credentials.roles,
        ..SigV4Config::default()
    })
}

/// Reads `health_check`.
pub(super) fn read_health_check(
    id: &Entry,
    warn: &mut dyn FnMut(NodeError),
) -> Result<HealthCheck, NodeError> {
    const WITHOUT_EFFECT: [(&str, &str); 4] = [
        ("check_collector_pipeline", "it has gone from the extension"),
        ("response_body", "the answer is the extension's own"),
        ("include_metadata", "requests are answered whatever they carry"),
        ("cors", "requests are answered whatever they carry"),
    ];
    let mut mapping = id.value.mapping()?;
    take_without_effect(&mut mapping, &WITHOUT_EFFECT, warn);
    if let Some(tls) = mapping.take("tls").filter(|entry| !entry.value.is_null()) {
        return Err(NodeError::unsupported("not supported: TLS for health_check")
            .at(tls.key_at)
            .in_key("tls"));
    }
    let default = HealthCheck::default();
    let endpoint = take::<String>(&mut mapping, "endpoint")?.filter(|endpoint| !endpoint.is_empty());
    let path = take::<String>(&mut mapping, "path")?.filter(|path| !path.is_empty());
    mapping.refuse_unknown(
        ["endpoint", "path", "tls"].iter().chain(WITHOUT_EFFECT.iter().map(|(key, _)| key)),
    )?;
    Ok(HealthCheck { endpoint: endpoint.unwrap_or(default.endpoint), path: path.unwrap_or(default.path) })
}
