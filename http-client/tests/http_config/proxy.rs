use promferry_http_client::{Http, HttpOptions, ProxyEnvironment};

use crate::support::*;

#[tokio::test]
async fn a_proxy_gets_the_whole_url_of_plain_requests() {
    let proxy = Server::start(|_| ok("from the proxy")).await;
    let http = http(&format!("proxy_url: http://us%40er:secret@{}", proxy.address));
    let answer = fetch(&http, "http://app.invalid:9100/metrics?x=1").await.unwrap();
    assert_eq!(answer.1, "from the proxy");
    for seen in proxy.seen() {
        assert_eq!(seen.uri, "http://app.invalid:9100/metrics?x=1");
        assert_eq!(seen.header("host"), "app.invalid:9100");
        // "us@er:secret"
        assert_eq!(seen.header("proxy-authorization"), "Basic dXNAZXI6c2VjcmV0");
    }
    // Without no_proxy, loopback goes through the proxy as well, as in Go.
    fetch(&http, "http://127.0.0.1:1/").await.unwrap();
    assert_eq!(proxy.last().uri, "http://127.0.0.1:1/");
}

#[tokio::test]
async fn a_proxy_tunnels_https() {
    let authority = Authority::new();
    let identity = authority.server("localhost");
    let server = Server::start_with(Some(ServerTls::new(&identity).build()), |_| ok("in")).await;
    let proxy = TunnelProxy::start("200 OK").await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let yaml = |proxy_address: &str| {
        format!(
            "proxy_url: http://user:secret@{proxy_address}\nproxy_connect_header: {{X-Team: [metrics], X-Key: [a, b]}}\ntls_config: {{ca_file: {}}}",
            ca.display()
        )
    };
    let tunnelled = http(&yaml(&proxy.address.to_string()));
    assert_eq!(fetch(&tunnelled, &server.https("/")).await.unwrap(), (200, "in".to_owned()));
    let heads = proxy.heads();
    assert_eq!(heads.len(), 2);
    let target = format!("localhost:{}", server.address.port());
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
        let head = head.to_lowercase();
        for line in [
            &*format!("host: {target}"),
            "x-team: metrics",
            "x-key: a",
            "x-key: b",
            "proxy-authorization: basic dx",
        ] {
            assert!(head.contains(&format!("\r\n{line}")), "{line} is missing in {head}");
        }
    }
    assert_eq!(server.last().header("proxy-authorization"), "");
    assert_eq!(server.last().header("x-team"), "");

    for (answer, reason) in [
        ("407 No", "it wants a user name and password, or refuses those of proxy_url (407)".to_owned()),
        ("403 Forbidden", format!("it refuses the connection to {target} with status 403 Forbidden")),
    ] {
        let refusing = TunnelProxy::start(answer).await;
        let error = fetch(&http(&yaml(&refusing.address.to_string())), &server.https("/")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("proxy {}: {reason}", refusing.address));
    }
    let error = fetch(&http(&yaml("127.0.0.1:1")), &server.https("/")).await.unwrap_err().to_string();
    assert_eq!(error, "proxy 127.0.0.1:1: cannot connect to 127.0.0.1:1: connection refused");
    assert!(!error.contains("secret"));
}

#[tokio::test]
async fn a_proxy_may_itself_speak_tls() {
    let authority = Authority::new();
    let identity = authority.server("localhost");
    let proxy = Server::start_with(Some(ServerTls::new(&identity).build()), |_| ok("from the proxy")).await;
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let yaml = format!("proxy_url: {}\ntls_config: {{ca_file: {}}}", proxy.https("/"), ca.display());
    assert_eq!(fetch(&http(&yaml), "http://app.invalid/").await.unwrap().1, "from the proxy");
    assert_eq!(proxy.last().uri, "http://app.invalid/");
}

#[tokio::test]
async fn no_proxy_and_the_environment_decide_who_is_reached_directly() {
    let proxy = Server::start(|_| ok("proxied")).await;
    let server = Server::start(|_| ok("direct")).await;
    let port = server.address.port();
    let url = format!("http://127.0.0.1:{port}/");
    let proxy_url = format!("http://{}", proxy.address);
    // As in Go, a list of exceptions, even one that names something else, makes loopback direct.
    let http = http(&format!("proxy_url: {proxy_url}\nno_proxy: example.com"));
    assert_eq!(fetch(&http, &url).await.unwrap().1, "direct");
    assert_eq!(fetch(&http, "http://app.invalid/").await.unwrap().1, "proxied");
    let error = fetch(&http, "http://sub.example.com.invalid:1/").await.unwrap();
    assert_eq!(error.1, "proxied");

    let environment = |no_proxy: &str| ProxyEnvironment {
        http_proxy: proxy.address.to_string().into(),
        no_proxy: no_proxy.to_owned(),
        ..ProxyEnvironment::default()
    };
    for (no_proxy, url, expected) in [
        ("", "http://app.invalid/", Ok("proxied")),
        ("app.invalid", "http://app.invalid/", Err("cannot look up app.invalid")),
        (".invalid:81", "http://app.invalid/", Ok("proxied")),
        (".invalid:80", "http://app.invalid/", Err("cannot look up app.invalid")),
        // Only http_proxy is set.
        ("", "https://app.invalid/", Err("cannot look up app.invalid")),
    ] {
        let options =
            HttpOptions { proxy_environment: Some(environment(no_proxy)), ..HttpOptions::default() };
        let http = Http::new(&config("proxy_from_environment: true"), options.clone()).unwrap();
        match (fetch(&http, url).await, expected) {
            (Ok(answer), Ok(expected)) => assert_eq!(answer.1, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().starts_with(expected), "{error}"),
            (outcome, _) => panic!("{no_proxy} {url}: {outcome:?}"),
        }
        // The environment is not looked at unless asked for.
        let http = Http::new(&config("{}"), options).unwrap();
        assert!(fetch(&http, url).await.is_err());
    }
}

#[tokio::test]
async fn a_socks_proxy_carries_both_kinds() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(|_| ok("in")).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = server.address;
    // RFC 1928 with user and password (RFC 1929), for a name.
    let task = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut greeting = [0; 2];
                client.read_exact(&mut greeting).await.unwrap();
                let mut methods = vec![0; greeting[1].into()];
                client.read_exact(&mut methods).await.unwrap();
                assert!(methods.contains(&2));
                client.write_all(&[5, 2]).await.unwrap();
                let mut login = [0; 11];
                client.read_exact(&mut login).await.unwrap();
                assert_eq!(&login, b"\x01\x04user\x04pass");
                client.write_all(&[1, 0]).await.unwrap();
                let mut head = [0; 5];
                client.read_exact(&mut head).await.unwrap();
                assert_eq!(head[3], 3, "the name is left to the proxy");
                let mut name = vec![0; usize::from(head[4]) + 2];
                client.read_exact(&mut name).await.unwrap();
                assert!(name.starts_with(b"app.invalid"));
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                let mut upstream = tokio::net::TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
    let http = http(&format!("proxy_url: socks5://user:pass@{address}"));
    assert_eq!(fetch(&http, "http://app.invalid/x").await.unwrap().1, "in");
    assert_eq!(server.last().uri, "/x");
    assert_eq!(server.last().header("proxy-authorization"), "");
    task.abort();
}
