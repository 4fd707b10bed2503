use std::path::Path;

use promferry_http_client::{Client, Connection, Error, Http, HttpClientConfig, HttpOptions};
use tower::Service;

use crate::support::*;

/// Indents PEM below a YAML key.
fn pem(key: &str, text: &str) -> String {
    format!("  {key}: |\n{}\n", text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))
}

fn in_dir(yaml: &str, dir: &Path) -> HttpClientConfig {
    let mut config = config(yaml);
    config.resolve_paths(dir);
    config
}

async fn server(tls: ServerTls<'_>) -> Server {
    Server::start_with(Some(tls.build()), |_| ok("in")).await
}

#[tokio::test]
async fn the_servers_certificate_is_checked_against_ca_and_ca_file() {
    let dir = tempfile::tempdir().unwrap();
    let (authority, other, renewed) = (Authority::new(), Authority::named("another"), Authority::new());
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.path().join("other.pem"), other.pem()).unwrap();
    std::fs::write(dir.path().join("renewed.pem"), renewed.pem()).unwrap();
    let identity = authority.server("localhost");
    let server = server(ServerTls::new(&identity)).await;

    let inline = format!("tls_config:\n{}", pem("ca", &authority.pem()));
    for yaml in [inline.as_str(), "tls_config: {ca_file: ca.pem}", "tls_config: {insecure_skip_verify: true}"]
    {
        let http = Http::new(&in_dir(yaml, dir.path()), HttpOptions::default()).unwrap();
        assert_eq!(fetch(&http, &server.https("/")).await.unwrap(), (200, "in".to_owned()), "{yaml}");
    }
    for (yaml, reason) in [
        ("{}", "the server's certificate is signed by an authority that is not trusted"),
        (
            "tls_config: {ca_file: other.pem}",
            "the server's certificate is signed by an authority that is not trusted",
        ),
        (
            "tls_config: {ca_file: renewed.pem}",
            "the server's certificate is not signed by the trusted authority of",
        ),
    ] {
        let http = Http::new(&in_dir(yaml, dir.path()), HttpOptions::default()).unwrap();
        let error = fetch(&http, &server.https("/")).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("tls with localhost failed: {reason}")), "{error}");
        assert!(error.is_tls() && error.is_connect());
    }
    assert_eq!(server.seen().len(), 6, "a request reached the server although its certificate was refused");
}

#[tokio::test]
async fn the_name_is_checked_and_server_name_replaces_it() {
    let authority = Authority::new();
    let identity = authority.server("metrics.internal");
    let server = server(ServerTls::new(&identity)).await;
    let ca = pem("ca", &authority.pem());
    let named = http(&format!("tls_config:\n{ca}  server_name: metrics.internal\n"));
    assert_eq!(fetch(&named, &server.https("/")).await.unwrap().0, 200);
    let error =
        fetch(&http(&format!("tls_config:\n{ca}")), &server.https("/")).await.unwrap_err().to_string();
    assert!(error.contains("localhost") && error.contains("metrics.internal"), "{error}");
}

/// A self-signed certificate that marks itself as an authority: Go accepts it if it is trusted itself.
#[tokio::test]
async fn a_trusted_certificate_may_call_itself_an_authority() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap().pem();
    let identity = Identity { cert: cert.clone(), key: key.serialize_pem() };
    let server = server(ServerTls::new(&identity)).await;
    let trusting = http(&format!("tls_config:\n{}", pem("ca", &cert)));
    assert_eq!(fetch(&trusting, &server.https("/")).await.unwrap().0, 200);
    // Only under its own name, and only if it is the trusted one.
    let by_address = format!("https://{}/", server.address);
    assert!(fetch(&trusting, &by_address).await.unwrap_err().is_tls());
    let other = http(&format!("tls_config:\n{}", pem("ca", &Authority::new().pem())));
    assert!(fetch(&other, &server.https("/")).await.unwrap_err().is_tls());

    let mut expired = params;
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let cert = expired.self_signed(&key).unwrap().pem();
    let identity = Identity { cert: cert.clone(), key: key.serialize_pem() };
    let server = self::server(ServerTls::new(&identity)).await;
    let error =
        fetch(&http(&format!("tls_config:\n{}", pem("ca", &cert))), &server.https("/")).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn the_client_shows_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (identity, client) = (authority.server("localhost"), authority.client("collector"));
    let server = server(ServerTls { clients: Some(&authority), ..ServerTls::new(&identity) }).await;
    std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(dir.path().join("cert.pem"), &client.cert).unwrap();
    std::fs::write(dir.path().join("key.pem"), &client.key).unwrap();
    let inline =
        format!("tls_config:\n  ca_file: ca.pem\n{}{}", pem("cert", &client.cert), pem("key", &client.key));
    for yaml in [inline.as_str(), "tls_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}"] {
        let http = Http::new(&in_dir(yaml, dir.path()), HttpOptions::default()).unwrap();
        assert_eq!(fetch(&http, &server.https("/")).await.unwrap().0, 200);
        assert!(!format!("{:?}", in_dir(yaml, dir.path())).contains("PRIVATE KEY"));
    }
    let anonymous =
        Http::new(&in_dir("tls_config: {ca_file: ca.pem}", dir.path()), HttpOptions::default()).unwrap();
    assert!(fetch(&anonymous, &server.https("/")).await.is_err());
}

#[tokio::test]
async fn tls_files_must_be_usable_at_construction_and_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let config = in_dir("tls_config: {ca_file: ca.pem}", dir.path());
    let new = || Http::new(&config, HttpOptions::default());
    let message = |error: Error| error.to_string().replace(&path.display().to_string(), "FILE");
    assert_eq!(message(new().unwrap_err()), "cannot use ca_file FILE: no such file or directory");
    std::fs::write(&path, "garbage").unwrap();
    assert_eq!(message(new().unwrap_err()), "cannot use ca_file FILE: it holds no certificate in PEM");

    let (old, new_authority) = (Authority::new(), Authority::new());
    std::fs::write(&path, old.pem()).unwrap();
    let http = new().unwrap();
    let identity = old.server("localhost");
    let server = server(ServerTls::new(&identity)).await;
    let mut connection = Connection::new(http.clone());
    let mut client = Client::new(http.clone());
    let peers = || server.seen().iter().map(|seen| seen.peer).collect::<std::collections::HashSet<_>>().len();
    for _ in 0..2 {
        let response = connection.send(get(&server.https("/"))).await.unwrap();
        response.into_body().read_to_end(10).await.unwrap();
        let response = client.call(get(&server.https("/"))).await.unwrap();
        response.into_body().read_to_end(10).await.unwrap();
    }
    assert_eq!(peers(), 2);

    // What a kept connection was made with counts no longer once the file has changed.
    std::fs::write(&path, new_authority.pem()).unwrap();
    assert!(connection.send(get(&server.https("/"))).await.unwrap_err().is_tls());
    assert!(client.call(get(&server.https("/"))).await.unwrap_err().is_tls());
    // A file that goes missing fails requests, and mends itself.
    std::fs::remove_file(&path).unwrap();
    let error = connection.send(get(&server.https("/"))).await.unwrap_err();
    assert_eq!(message(error), "cannot use ca_file FILE: no such file or directory");
    std::fs::write(&path, old.pem()).unwrap();
    assert_eq!(connection.send(get(&server.https("/"))).await.unwrap().status(), 200);
    assert_eq!(client.call(get(&server.https("/"))).await.unwrap().status(), 200);
}

#[tokio::test]
async fn mismatched_and_malformed_client_material_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (one, two) = (authority.client("one"), authority.client("two"));
    for (cert, key, expected) in [
        (
            &one.cert,
            &two.key,
            "cannot use cert_file DIR/cert.pem: the private key does not belong to the certificate",
        ),
        (&one.cert, &one.cert, "cannot use key_file DIR/key.pem: it holds no private key in PEM"),
        (&one.key, &one.key, "cannot use cert_file DIR/cert.pem: it holds no certificate in PEM"),
    ] {
        std::fs::write(dir.path().join("cert.pem"), cert).unwrap();
        std::fs::write(dir.path().join("key.pem"), key).unwrap();
        let config = in_dir("tls_config: {cert_file: cert.pem, key_file: key.pem}", dir.path());
        let error = Http::new(&config, HttpOptions::default()).unwrap_err().to_string();
        assert_eq!(error.replace(&dir.path().display().to_string(), "DIR"), expected);
    }
    let error =
        Http::new(&config("tls_config: {ca: nonsense}"), HttpOptions::default()).unwrap_err().to_string();
    assert_eq!(error, "cannot use tls_config: ca: it holds no certificate in PEM");
}

#[tokio::test]
async fn versions_are_limited() {
    static TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    static TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
    let authority = Authority::new();
    let identity = authority.server("localhost");
    for (versions, option, works) in [
        (TLS12, "min_version: TLS12", true),
        (TLS12, "min_version: TLS13", false),
        // The floor of the implementation is 1.2; a lower one in the configuration is no reason to refuse it.
        (TLS12, "min_version: TLS10", true),
        (TLS13, "min_version: TLS13", true),
        (TLS13, "max_version: TLS12", false),
        (TLS13, "max_version: TLS13", true),
    ] {
        let server = server(ServerTls { versions, ..ServerTls::new(&identity) }).await;
        let http = http(&format!("tls_config:\n{}  {option}\n", pem("ca", &authority.pem())));
        let outcome = fetch(&http, &server.https("/")).await;
        assert_eq!(outcome.is_ok(), works, "{option}: {outcome:?}");
    }
}

#[tokio::test]
async fn many_requests_share_a_connection_of_http2() {
    let authority = Authority::new();
    let server =
        server(ServerTls { alpn: &["h2", "http/1.1"], ..ServerTls::new(&authority.server("localhost")) })
            .await;
    let options = HttpOptions { http2: true, ..HttpOptions::default() };
    let yaml = format!("tls_config:\n{}", pem("ca", &authority.pem()));
    let client = Client::new(Http::new(&config(&yaml), options).unwrap());
    let url = server.https("/");
    client.clone().call(get(&url)).await.unwrap();
    let requests: Vec<_> = (0..64).map(|_| tokio::spawn(client.clone().call(get(&url)))).collect();
    for request in requests {
        let body = request.await.unwrap().unwrap().into_body();
        assert_eq!(&body.read_to_end(10).await.unwrap()[..], b"in");
    }
    let peers: std::collections::BTreeSet<_> = server.seen().iter().map(|seen| seen.peer).collect();
    assert_eq!((server.seen().len(), peers.len()), (65, 1));
}

#[tokio::test]
async fn http2_is_spoken_where_caller_configuration_and_server_agree() {
    let authority = Authority::new();
    let identity = authority.server("localhost");
    let server = server(ServerTls { alpn: &["h2", "http/1.1"], ..ServerTls::new(&identity) }).await;
    for (enable_http2, wanted, version) in [
        ("true", true, http::Version::HTTP_2),
        ("false", true, http::Version::HTTP_11),
        ("true", false, http::Version::HTTP_11),
    ] {
        let yaml = format!("enable_http2: {enable_http2}\ntls_config:\n{}", pem("ca", &authority.pem()));
        let options = HttpOptions { http2: wanted, ..HttpOptions::default() };
        let http = Http::new(&config(&yaml), options).unwrap();
        let mut client = Client::new(http.clone());
        for _ in 0..2 {
            let response = client.call(get(&server.https("/"))).await.unwrap();
            assert_eq!(&response.into_body().read_to_end(10).await.unwrap()[..], b"in");
            assert_eq!(server.last().version, version, "enable_http2 {enable_http2}, wanted {wanted}");
        }
        // A connection of its own stays with 1.1.
        Connection::new(http).send(get(&server.https("/"))).await.unwrap();
        assert_eq!(server.last().version, http::Version::HTTP_11);
    }
    let plain = self::server(ServerTls::new(&identity)).await;
    let options = HttpOptions { http2: true, ..HttpOptions::default() };
    let yaml = format!("tls_config:\n{}", pem("ca", &authority.pem()));
    let http = Http::new(&config(&yaml), options).unwrap();
    assert_eq!(fetch(&http, &plain.https("/")).await.unwrap().0, 200);
}
