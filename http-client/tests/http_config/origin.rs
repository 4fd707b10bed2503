//! Requests that are served as another host than the one they connect to, with headers for it alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use promferry_http_client::{
    Client, Connection, Error, Http, OriginHeader, OriginHeaders, SentSecrets, ServedAs,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::Service;

use crate::support::*;

fn served_as(url: &str, host: &str) -> Request<Bytes> {
    let mut request = get(url);
    request.extensions_mut().insert(ServedAs(host.parse().unwrap()));
    request
}

fn with_headers(mut request: Request<Bytes>, headers: &[(&str, &str)]) -> Request<Bytes> {
    let headers = headers.iter().map(|(name, value)| OriginHeader::new(name, value).unwrap()).collect();
    request.extensions_mut().insert(OriginHeaders(headers));
    request
}

async fn send(http: &Http, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
    let (head, body) = Connection::new(http.clone()).send(request).await?.into_parts();
    Ok(Response::from_parts(head, body.read_to_end(1 << 20).await?))
}

/// A server with a certificate for each of these names, and none for any other.
async fn server_of(names: &[&str], authority: &Authority) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut resolver = rustls::server::ResolvesServerCertUsingSni::new();
    for name in names {
        let identity = authority.server(name);
        let chain = vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
        let key = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
        resolver.add(name, key).unwrap();
    }
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Server::start_with(Some(tls), |_| ok("in")).await
}

#[tokio::test]
async fn host_and_server_name_are_those_it_is_served_as() {
    let authority = Authority::new();
    let server = server_of(&["one.test", "two.test"], &authority).await;
    let ca = authority.pem().lines().map(|line| format!("    {line}\n")).collect::<String>();
    let trusting = http(&format!("tls_config:\n  ca: |\n{ca}"));
    let mut connection = Connection::new(trusting.clone());
    for (host, sent) in
        [("one.test", "one.test"), ("two.test:8443", "two.test:8443"), ("one.test", "one.test")]
    {
        let response = connection.send(served_as(&server.https("/metrics"), host)).await.unwrap();
        assert_eq!(response.into_body().read_to_end(10).await.unwrap(), "in");
        assert_eq!((server.last().header("host"), server.last().uri.path()), (sent.to_owned(), "/metrics"));
    }
    // A connection belongs to the name it was made for.
    let peers: Vec<_> = server.seen().iter().map(|seen| seen.peer).collect();
    assert_ne!(peers[0], peers[1]);
    let again = connection.send(served_as(&server.https("/"), "one.test")).await.unwrap();
    again.into_body().read_to_end(10).await.unwrap();
    assert_eq!(server.last().peer, peers[2]);

    // The certificate has to be that of the name.
    assert!(
        send(&trusting, get(&server.https("/")))
            .await
            .unwrap_err()
            .to_string()
            .contains("tls with localhost")
    );
    let error = send(&trusting, served_as(&server.https("/"), "three.test")).await.unwrap_err().to_string();
    assert!(error.contains("tls with three.test"), "{error}");
    let named = http(&format!("tls_config:\n  server_name: two.test\n  ca: |\n{ca}"));
    send(&named, served_as(&server.https("/"), "three.test")).await.unwrap();
    assert_eq!(server.last().header("host"), "three.test");
}

#[tokio::test]
async fn headers_take_the_place_of_those_that_are_configured() {
    let server = Server::start(|_| ok("")).await;
    let http = http(
        "authorization: {credentials: jobs}\nhttp_headers: {X-Key: {values: [jobs]}, X-Team: {values: [a]}}",
    );
    let own = [("x-key", "own"), ("authorization", "Key own"), ("cookie", "a=b")];
    send(&http, with_headers(get(&server.url("/")), &own)).await.unwrap();
    let seen = server.last();
    assert_eq!((seen.header("x-key"), seen.header("x-team")), ("own".to_owned(), "a".to_owned()));
    assert_eq!(
        (seen.header("authorization"), seen.header("cookie")),
        ("Key own".to_owned(), "a=b".to_owned())
    );
    assert_eq!(seen.header("host"), server.address.to_string());
    send(&http, get(&server.url("/"))).await.unwrap();
    assert_eq!(
        (server.last().header("x-key"), server.last().header("authorization")),
        ("jobs".into(), "Bearer jobs".into())
    );
}

#[tokio::test]
async fn a_redirect_to_another_host_leaves_name_headers_and_credentials_behind() {
    let other = Server::start(|_| ok("other")).await;
    let elsewhere = other.url("/there");
    let server = Server::start(move |seen| match seen.uri.path() {
        "/relative" => redirect(302, "end"),
        // As a server does that goes by its Host.
        "/absolute" => redirect(301, "http://app.test:81/end"),
        "/end" => ok("end"),
        "/host" => redirect(302, &elsewhere),
        "/back" => redirect(302, &format!("http://{}/end", seen.header("x-address"))),
        _ => status(404),
    })
    .await;
    let http = http("authorization: {credentials: jobs}\nhttp_headers: {X-Team: {values: [a]}}");
    let headers = [("x-key", "own"), ("x-address", &*server.address.to_string())];
    let request = |path: &str| with_headers(served_as(&server.url(path), "app.test:81"), &headers);
    for path in ["/relative", "/absolute"] {
        assert_eq!(send(&http, request(path)).await.unwrap().body(), "end");
        let seen = server.last();
        assert_eq!(
            (seen.header("host"), seen.header("x-key")),
            ("app.test:81".into(), "own".into()),
            "{path}"
        );
        assert_eq!((seen.uri.path(), seen.header("authorization")), ("/end", "Bearer jobs".into()), "{path}");
    }
    assert_eq!(send(&http, request("/host")).await.unwrap().body(), "other");
    // Also where it leads to the very server, for that is another host of it.
    assert_eq!(send(&http, request("/back")).await.unwrap().body(), "end");
    for (seen, address) in [(other.last(), other.address), (server.last(), server.address)] {
        assert_eq!(seen.header("host"), address.to_string());
        for name in ["x-key", "x-address", "authorization"] {
            assert_eq!(seen.header(name), "", "{name}");
        }
        assert_eq!(seen.header("x-team"), "a");
    }
    // Headers alone are for one host, too.
    let request = with_headers(get(&server.url("/host")), &[("authorization", "Key own"), ("x-key", "own")]);
    send(&http, request).await.unwrap();
    assert_eq!(
        (other.last().header("authorization"), other.last().header("x-key")),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_address_and_tells_the_host() {
    let proxy = Server::start(|_| ok("from the proxy")).await;
    let plain = http(&format!("proxy_url: http://{}", proxy.address));
    send(&plain, served_as("http://gateway.invalid:8080/metrics", "app.test")).await.unwrap();
    assert_eq!(proxy.last().uri, "http://gateway.invalid:8080/metrics");
    assert_eq!(proxy.last().header("host"), "app.test");

    let authority = Authority::new();
    let server = server_of(&["one.test"], &authority).await;
    let tunnel = TunnelProxy::start("200 OK").await;
    let ca = authority.pem().lines().map(|line| format!("    {line}\n")).collect::<String>();
    let tunnelled = http(&format!("proxy_url: http://{}\ntls_config:\n  ca: |\n{ca}", tunnel.address));
    send(&tunnelled, served_as(&server.https("/"), "one.test")).await.unwrap();
    assert!(tunnel.heads()[0].starts_with(&format!("CONNECT localhost:{} ", server.address.port())));
    assert_eq!(server.last().header("host"), "one.test");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let server = Server::start(|_| ok("")).await;
    let request = served_as(&server.url("/"), "app.test");
    let error = Client::new(http("{}")).call(request).await.unwrap_err().to_string();
    assert!(error.contains("a pooled client serves no host other than"), "{error}");
    let error =
        send(&http("{}"), served_as(&server.url("/"), "user@app.test")).await.unwrap_err().to_string();
    assert!(error.contains("may not hold a user name"), "{error}");
    assert!(server.seen().is_empty());
    for name in ["Host", "content-length", "te", "accept", "x-amz-date", "a b", ""] {
        assert!(OriginHeader::new(name, "hush").is_err(), "{name}");
    }
    let error = OriginHeader::new("x-key", "hush\r\nx: y").unwrap_err().to_string();
    assert!(!error.contains("hush"), "{error}");
}

#[tokio::test]
async fn a_headers_file_is_read_below_its_folders_and_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("keys");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(dir.path().join("outside"), "secret").unwrap();
    std::fs::write(folder.join("a"), " first \n").unwrap();
    // As Kubernetes mounts secrets.
    std::fs::create_dir(folder.join("..2026")).unwrap();
    std::fs::write(folder.join("..2026/b"), "mounted").unwrap();
    std::os::unix::fs::symlink("..2026", folder.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/b", folder.join("b")).unwrap();
    std::os::unix::fs::symlink("../outside", folder.join("leak")).unwrap();
    std::fs::write(folder.join("empty"), "\n").unwrap();
    std::fs::write(folder.join("lines"), "one\ntwo").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();

    let server = Server::start(|_| ok("")).await;
    let http = http("{}");
    let folders: Arc<[PathBuf]> = [dir.path().join("none"), folder.clone()].into();
    let header = |name: &str| OriginHeader::from_file("x-key", &folder.join(name), &folders).unwrap();
    let sent = async |header: &OriginHeader| {
        let mut request = get(&server.url("/"));
        request.extensions_mut().insert(OriginHeaders([header.clone()].into()));
        send(&http, request).await.map(|_| server.last().header("x-key")).map_err(|error| error.to_string())
    };
    let kept = header("a");
    assert_eq!(sent(&kept).await, Ok("first".to_owned()));
    std::fs::write(folder.join("a"), "second, longer").unwrap();
    assert_eq!(sent(&kept).await, Ok("second, longer".to_owned()));
    assert_eq!(sent(&header("b")).await, Ok("mounted".to_owned()));
    for (name, reason) in [
        ("leak", "a symbolic link leads out of the folders that may be read"),
        ("empty", "it is empty"),
        ("none", "no such file or directory"),
        ("lines", "line break"),
        ("folder", "it is no regular file"),
    ] {
        let error = sent(&header(name)).await.unwrap_err();
        assert!(error.to_lowercase().contains(reason) && !error.contains("secret"), "{name}: {error}");
    }
    assert!(!format!("{kept:?}").contains("second"));
    assert_eq!((kept == header("a"), kept == header("b")), (true, false));
    for path in
        ["/etc/passwd", "keys/a", &format!("{}/../outside", folder.display()), folder.to_str().unwrap()]
    {
        assert!(OriginHeader::from_file("x-key", Path::new(path), &folders).is_err(), "{path}");
    }
}

#[tokio::test]
async fn an_error_tells_which_credentials_were_sent() {
    let server = Server::start(|_| status(401)).await;
    let http =
        http("basic_auth: {username: us, password: pass}\nhttp_headers: {X-Job: {secrets: [of-the-job]}}");
    let request = with_headers(get(&server.url("/")), &[("x-key", "own key")]);
    let response = send(&http, request).await.unwrap();
    let secrets = response.extensions().get::<SentSecrets>().unwrap();
    assert_eq!(
        secrets.redact("own key, of-the-job; dXM6cGFzcw== is us"),
        "<secret>, <secret>; <secret> is us"
    );
    assert!(!format!("{secrets:?}").contains("own"));
    let well = Server::start(|_| ok("")).await;
    assert!(send(&http, get(&well.url("/"))).await.unwrap().extensions().get::<SentSecrets>().is_none());
}

#[tokio::test]
async fn what_was_sent_is_known_after_its_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "the-old-key").unwrap();
    let key = OriginHeader::from_file("x-key", &file, &[folder.path().to_owned()].into()).unwrap();
    // As when a key is changed on both sides.
    let server = Server::start(move |_| {
        std::fs::write(&file, "another-key").unwrap();
        status(401)
    })
    .await;
    let mut request = get(&server.url("/"));
    request.extensions_mut().insert(OriginHeaders([key].into()));
    let response = send(&http("{}"), request).await.unwrap();
    let secrets = response.extensions().get::<SentSecrets>().unwrap();
    assert_eq!(secrets.redact("no such key: the-old-key"), "no such key: <secret>");
}
