//! How an endpoint's requests travel.

use std::sync::Arc;
use std::time::Duration;

use promferry_http_client::{Client, Http, HttpOptions};
use promferry_remote_write::Endpoint;
use promferry_remote_write::delivery::{DescribeBody, ExplainDenial, Transport, transport};
use promferry_sigv4_auth::{Denial, Environment, PayloadHash, SigV4Layer};
use tower::Layer as _;

use super::StartError;
use crate::signing::Signing;

/// An endpoint's transport: HTTP, below signing where that is asked for.
pub(crate) fn endpoint(
    endpoint: &promferry_config::Endpoint,
    options: &HttpOptions,
    environment: &Environment,
) -> Result<(Endpoint, Option<Signing>), StartError> {
    let config = endpoint.write.clone();
    let key = config.key();
    let http = Http::new(&endpoint.http, options.clone())
        .map_err(|source| StartError::Http { endpoint: key.clone(), source })?;
    let client = Client::new(http);
    let Some(sigv4) = &endpoint.sigv4 else {
        let endpoint =
            Endpoint { config, transport: transport(client), explain_denial: None, describe_body: None };
        return Ok((endpoint, None));
    };
    let uri: http::Uri =
        config.url.parse().map_err(|source| StartError::Url { endpoint: key.clone(), source })?;
    let layer = SigV4Layer::from_config(sigv4, &uri, environment)
        .map_err(|source| StartError::SigV4 { endpoint: key.clone(), source })?;
    // Less than an attempt may take, so that it is the credentials' wait that is named, and not the endpoint's.
    let patience = CREDENTIALS_PATIENCE.min(config.remote_timeout.as_std() / 2);
    let layer = layer.with_patience(patience);
    let signing = Signing::new(key, sigv4, &layer, environment);
    let signed: Transport = transport(layer.layer(client));
    let explain: ExplainDenial = Arc::new(move |status, headers, body| {
        let explanation = layer.learn_from_denial(status, body, headers, &uri)?;
        // Of what nobody knows there is only the endpoint's text, and that is shown anyway.
        let says_more = explanation.denial != Denial::Other || body.is_empty();
        says_more.then_some(explanation.message)
    });
    let describe: DescribeBody = Arc::new(|body| {
        let mut extensions = http::Extensions::new();
        extensions.insert(PayloadHash::of(body));
        extensions
    });
    let endpoint =
        Endpoint { config, transport: signed, explain_denial: Some(explain), describe_body: Some(describe) };
    Ok((endpoint, Some(signing)))
}

/// The longest that an attempt waits for credentials.
const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use promferry_config::{Config, NoFiles};

    use super::*;

    #[tokio::test]
    async fn a_signed_request_that_nobody_takes_fails_as_any_other() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/write");
        let text =
            format!("remote_write:\n- url: {url}\n  sigv4: {{region: r, access_key: a, secret_key: s}}\n");
        let config =
            Config::from_prometheus("prometheus.yml".as_ref(), &text, &NoFiles, &|_: &str| None).unwrap();
        let environment = Environment::from_pairs::<&str, &str>([]);
        let (endpoint, _) = endpoint(&config.remote_write[0], &HttpOptions::default(), &environment).unwrap();
        let request = http::Request::post(url).body("body".into()).unwrap();
        let error = tower::ServiceExt::oneshot(endpoint.transport, request).await.unwrap_err();
        let mut causes =
            std::iter::successors(Some(&*error as &(dyn std::error::Error + 'static)), |error| {
                error.source()
            });
        // Delivery finds it there: a flush does not wait for an endpoint that is gone, nor is a redirect repeated.
        assert!(causes.any(|cause| {
            cause.downcast_ref::<promferry_http_client::Error>().is_some_and(|error| error.is_connect())
        }));
    }

    #[tokio::test]
    async fn a_body_is_hashed_once_where_it_is_signed_and_nowhere_else() {
        let text = "remote_write:\n- url: http://a/write\n  sigv4: {region: r, access_key: a, secret_key: s}\n\
                    - url: http://b/write\n";
        let config =
            Config::from_prometheus("prometheus.yml".as_ref(), text, &NoFiles, &|_: &str| None).unwrap();
        let environment = Environment::from_pairs::<&str, &str>([]);
        let [signed, plain] = [0, 1].map(|at| {
            endpoint(&config.remote_write[at], &HttpOptions::default(), &environment).unwrap().0.describe_body
        });
        let described = signed.expect("the signing layer's part")(&"body".into());
        assert_eq!(described.get::<PayloadHash>(), Some(&PayloadHash::of(b"body")));
        assert!(plain.is_none());
    }
}
