//! What the SDK reads from the process's own environment, each in a process of its own.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use promferry_sigv4_auth::{CredentialChain, CredentialSource, CredentialsConfig, Environment};
use tokio::process::Command;

use crate::front::Server;

/// Not a test of its own: what the others run as a process.
#[tokio::test]
#[ignore = "run by the other tests of this file in processes with their own environment"]
async fn child() {
    let chain = CredentialChain::new(&CredentialsConfig::default(), Environment::process(), "eu-west-1");
    let chain = chain.expect("a chain");
    match chain.credentials().await {
        Ok(credentials) => println!("got {} from {}", credentials.access_key(), credentials.provider()),
        Err(error) => println!("failed: {error}"),
    }
    println!("looked at: {}", chain.report());
}

/// Runs [`child`] with these variables and none of ours, and gives what it printed.
async fn run_child(variables: &[(&str, &str)]) -> String {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .args(["process::child", "--exact", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("within a minute").expect("it ran");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const KEYS: &str = r#"{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIASERVED","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z","LastUpdated":"2026-01-01T00:00:00Z"}"#;

fn not_found() -> Response<String> {
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

#[tokio::test]
async fn pod_identity_gives_its_token_and_goes_past_the_proxy() {
    let server = Server::start(|head: Parts, _: Bytes| match head.headers.get("authorization") {
        Some(token) if token == "pod-identity-token" && head.uri.path() == "/v1/credentials" => {
            Response::new(KEYS.to_owned())
        }
        _ => not_found(),
    })
    .await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "pod-identity-token").expect("written");
    let output = run_child(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &server.url("/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
    ])
    .await;
    assert!(output.contains("got ASIASERVED from container"), "{output}");
}

#[tokio::test]
async fn imds_is_the_last_and_is_asked_with_a_token() {
    let server = Server::start(|head: Parts, _: Bytes| {
        let with_token =
            head.headers.get("x-aws-ec2-metadata-token").is_some_and(|token| token == "imds-token");
        match (head.method.as_str(), head.uri.path()) {
            ("PUT", "/latest/api/token") => {
                let mut response = Response::new(String::from("imds-token"));
                let ttl = http::HeaderValue::from_static("21600");
                response.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", ttl);
                response
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if with_token => {
                Response::new(String::from("node-role"))
            }
            ("GET", "/latest/meta-data/iam/security-credentials/node-role") if with_token => {
                Response::new(KEYS.to_owned())
            }
            _ => not_found(),
        }
    })
    .await;
    let url = server.url("");
    let endpoint = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    let output = run_child(&[endpoint]).await;
    assert!(output.contains("got ASIASERVED from IMDS"), "{output}");
    assert!(output.contains("environment (AWS_ACCESS_KEY_ID is not set); web identity"), "{output}");
    let output = run_child(&[endpoint, ("AWS_EC2_METADATA_DISABLED", "true")]).await;
    assert!(output.contains("failed: no AWS credentials are configured"), "{output}");
}

#[tokio::test]
async fn sts_is_regional_and_called_through_the_proxy() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let proxy = Server::start(move |head: Parts, _: Bytes| {
        let line = format!("{} {}", head.method, head.uri);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await;
    let directory = tempfile::TempDir::new().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "head.payload.secret-part").expect("written");
    let proxy_url = proxy.url("");
    let irsa = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().expect("UTF-8")),
        ("AWS_REGION", "eu-central-1"),
        ("HTTPS_PROXY", proxy_url.as_str()),
    ];
    let output = run_child(&irsa).await;
    assert!(output.contains("no answer from https://sts.eu-central-1.amazonaws.com"), "{output}");
    assert!(!output.contains("secret-part"), "{output}");
    let output =
        run_child(&[&irsa[..], &[("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_REGION", "us-east-1")]].concat())
            .await;
    assert!(output.contains("no answer from https://sts-fips.us-east-1.amazonaws.com"), "{output}");
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    asked.dedup();
    assert_eq!(
        asked,
        ["CONNECT sts.eu-central-1.amazonaws.com:443", "CONNECT sts-fips.us-east-1.amazonaws.com:443"]
    );
}
