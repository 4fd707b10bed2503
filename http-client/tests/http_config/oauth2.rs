use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Response;
use promferry_http_client::{Client, Connection, Http, HttpOptions};
use tower::Service;

use crate::support::*;

fn json(status: u16, body: &str) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json;charset=utf-8")
        .body(Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
}

fn form(seen: &Seen) -> Vec<(String, String)> {
    let mut form: Vec<_> = url::form_urlencoded::parse(&seen.body).into_owned().collect();
    form.sort();
    form
}

/// A token server whose tokens are "token-1", "token-2", …
async fn token_server(expires_in: &'static str) -> (Server, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = issued.clone();
    let server = Server::start(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        json(
            200,
            &format!(
                r#"{{"access_token":"token-{number}","token_type":"bearer","expires_in":{expires_in}}}"#
            ),
        )
    })
    .await;
    (server, issued)
}

#[tokio::test]
async fn a_token_is_got_with_the_clients_credentials_and_reused() {
    let (tokens, issued) = token_server("3600").await;
    let app = Server::start(|_| ok("")).await;
    let http = http(&format!(
        "oauth2:\n  client_id: 'me:too'\n  client_secret: 'hush hush'\n  token_url: {}\n  scopes: [read, write]\n  endpoint_params: {{audience: app, x: y}}\n",
        tokens.url("/token")
    ));
    for _ in 0..3 {
        fetch(&http, &app.url("/")).await.unwrap();
        assert_eq!(app.last().header("authorization"), "Bearer token-1");
    }
    assert_eq!(issued.load(Ordering::SeqCst), 1);
    let request = tokens.last();
    assert_eq!(request.method, "POST");
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
    // RFC 6749 §2.3.1: both are form-encoded first.
    let credentials = format!("Basic {}", BASE64_STANDARD.encode("me%3Atoo:hush+hush"));
    assert_eq!(request.header("authorization"), credentials);
    let expected =
        [("audience", "app"), ("grant_type", "client_credentials"), ("scope", "read write"), ("x", "y")];
    assert_eq!(form(&request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn a_server_that_wants_credentials_in_the_form_gets_them_there() {
    let tokens = Server::start(|seen| {
        let form = form(seen);
        let has = |name: &str, value: &str| form.contains(&(name.to_owned(), value.to_owned()));
        if has("client_id", "me") && has("client_secret", "hush") && seen.header("authorization").is_empty() {
            json(200, r#"{"access_token":"t","expires_in":"1"}"#)
        } else {
            json(401, r#"{"error":"invalid_client","error_description":"who?"}"#)
        }
    })
    .await;
    let app = Server::start(|_| ok("")).await;
    let yaml = |secret: &str| {
        format!("oauth2: {{client_id: me, client_secret: {secret}, token_url: '{}'}}", tokens.url("/"))
    };
    let right = http(&yaml("hush"));
    fetch(&right, &app.url("/")).await.unwrap();
    assert_eq!(app.last().header("authorization"), "Bearer t");
    // Once tried, then known: the token expires at once, each request gets a new one.
    assert_eq!(tokens.seen().len(), 3);
    let error = fetch(&http(&yaml("wrong-secret")), &app.url("/")).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot get a token from 127.0.0.1: invalid_client: who? (status 401)");
    assert!(!format!("{error:?}").contains("wrong-secret"));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_when_the_secret_changes() {
    let app = Server::start(|_| ok("")).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    for (expires_in, reused) in
        [("11", true), ("10", false), ("0", true), ("null", true), ("99999999999999", true)]
    {
        std::fs::write(&file, "one\n").unwrap();
        let (tokens, issued) = token_server(expires_in).await;
        let http = http(&format!(
            "oauth2: {{client_id: me, client_secret_file: '{}', token_url: '{}'}}",
            file.display(),
            tokens.url("/")
        ));
        fetch(&http, &app.url("/")).await.unwrap();
        assert_eq!(issued.load(Ordering::SeqCst), if reused { 1 } else { 2 }, "expires_in {expires_in}");
        std::fs::write(&file, "another").unwrap();
        fetch(&http, &app.url("/")).await.unwrap();
        let credentials = format!("Basic {}", BASE64_STANDARD.encode("me:another"));
        assert_eq!(tokens.last().header("authorization"), credentials);
        assert_eq!(issued.load(Ordering::SeqCst), if reused { 2 } else { 4 }, "expires_in {expires_in}");
    }
}

#[tokio::test]
async fn many_requests_wait_for_one_token() {
    let (tokens, issued) = token_server("3600").await;
    let app = Server::start(|_| ok("")).await;
    let client = Client::new(http(&format!("oauth2: {{client_id: me, token_url: '{}'}}", tokens.url("/"))));
    let requests: Vec<_> = (0..20).map(|_| tokio::spawn(client.clone().call(get(&app.url("/"))))).collect();
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_token_server_has_tls_and_proxy_of_its_own() {
    let authority = Authority::new();
    let identity = authority.server("localhost");
    let tokens =
        Server::start_with(Some(ServerTls::new(&identity).build()), |_| json(200, r#"{"access_token":"t"}"#))
            .await;
    let proxy = TunnelProxy::start("200 OK").await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    let mut config = config(&format!(
        "oauth2:\n  client_id: me\n  token_url: {}\n  tls_config: {{ca_file: ca.pem}}\n  proxy_url: http://{}\n  proxy_connect_header: {{X-Team: [metrics]}}\n",
        tokens.https("/"),
        proxy.address
    ));
    config.resolve_paths(dir.path());
    let http = Http::new(&config, HttpOptions::default()).unwrap();
    let app = Server::start(|_| ok("")).await;
    fetch(&http, &app.url("/")).await.unwrap();
    assert_eq!(app.last().header("authorization"), "Bearer t");
    assert!(proxy.heads()[0].to_lowercase().contains("x-team: metrics"));
}

#[tokio::test]
async fn answers_that_are_no_token_are_errors() {
    let app = Server::start(|_| ok("")).await;
    for (status, body, reason) in [
        (500, "oops", "it answers with status 500 Internal Server Error"),
        (200, "oops", "the answer is neither JSON nor a form"),
        (200, "{}", "the answer holds no access_token"),
        (200, r#"{"error":"temporarily_unavailable"}"#, "temporarily_unavailable (status 200)"),
    ] {
        let tokens = Server::start(move |_| json(status, body)).await;
        let http = http(&format!("oauth2: {{client_id: me, token_url: '{}'}}", tokens.url("/")));
        let error = fetch(&http, &app.url("/")).await.unwrap_err().to_string();
        assert_eq!(error, format!("cannot get a token from 127.0.0.1: {reason}"));
    }
    assert!(app.seen().is_empty());
    let tokens = Server::start(|_| {
        let body = Bytes::from("access_token=plain&token_type=Bearer&expires_in=60");
        Response::builder().header("content-type", "text/plain").body(body).unwrap()
    })
    .await;
    let http = http(&format!("oauth2: {{client_id: me, token_url: '{}'}}", tokens.url("/")));
    fetch(&http, &app.url("/")).await.unwrap();
    assert_eq!(app.last().header("authorization"), "Bearer plain");
}

#[tokio::test]
async fn an_assertion_is_signed() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let (tokens, _) = token_server("3600").await;
    let app = Server::start(|_| ok("")).await;
    let pem = key.serialize_pem().lines().map(|line| format!("    {line}\n")).collect::<String>();
    for (option, algorithm, parameters) in [
        ("RS256", "RS256", &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256),
        ("", "RS256", &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256),
        ("RS512", "RS512", &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA512),
    ] {
        let http = http(&format!(
            "oauth2:\n  client_id: me\n  grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer\n  client_certificate_key_id: key-1\n  signature_algorithm: '{option}'\n  scopes: [a, b]\n  claims: {{tenant: 7}}\n  token_url: {}\n  client_certificate_key: |\n{pem}",
            tokens.url("/")
        ));
        fetch(&http, &app.url("/")).await.unwrap();
        let form: std::collections::BTreeMap<_, _> = form(&tokens.last()).into_iter().collect();
        assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
        assert_eq!(form["scope"], "a b");
        let (signed, signature) = form["assertion"].rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = aws_lc_rs::signature::UnparsedPublicKey::new(parameters, key.public_key_raw());
        public.verify(signed.as_bytes(), &signature).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let decode = |part| -> serde_json::Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(decode(header), serde_json::json!({"alg": algorithm, "typ": "JWT", "kid": "key-1"}));
        let claims = decode(claims);
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 600);
        for (name, value) in [("iss", "me"), ("sub", "me"), ("aud", &tokens.url("/")), ("scope", "a b")] {
            assert_eq!(claims[name], value);
        }
        assert_eq!(claims["tenant"], 7);
        assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    }
}

#[tokio::test]
async fn another_host_gets_no_token() {
    let (tokens, _) = token_server("3600").await;
    let away = Server::start(|_| ok("")).await;
    let port = away.address.port();
    let app = Server::start(move |_| redirect(302, &format!("http://localhost:{port}/"))).await;
    let http = http(&format!("oauth2: {{client_id: me, token_url: '{}'}}", tokens.url("/")));
    Connection::new(http).send(get(&app.url("/"))).await.unwrap();
    assert_eq!(app.last().header("authorization"), "Bearer token-1");
    assert_eq!(away.last().header("authorization"), "");
}
