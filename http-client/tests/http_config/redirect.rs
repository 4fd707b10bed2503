use bytes::Bytes;
use http::{Method, Request};
use promferry_http_client::{Client, Connection, KeepMethod};
use tower::Service;

use crate::support::*;

#[tokio::test]
async fn redirects_are_followed_unless_switched_off() {
    let server = Server::start(|seen| match seen.uri.path() {
        "/start" => redirect(302, "next?x=1#fragment"),
        "/next" => redirect(307, "/dir/a"),
        "/dir/a" => redirect(308, "../end"),
        "/end" => ok("arrived"),
        "/nowhere" => status(301),
        _ => status(404),
    })
    .await;
    assert_eq!(fetch(&http("{}"), &server.url("/start")).await.unwrap(), (200, "arrived".to_owned()));
    assert_eq!(server.seen()[1].uri, "/next?x=1");
    assert_eq!(fetch(&http("follow_redirects: false"), &server.url("/start")).await.unwrap().0, 302);
    // Without a Location there is nothing to follow.
    assert_eq!(fetch(&http("{}"), &server.url("/nowhere")).await.unwrap().0, 301);
}

#[tokio::test]
async fn ten_redirects_and_no_more() {
    let server = Server::start(|seen| {
        let hop: usize = seen.uri.path()[1..].parse().unwrap();
        if hop == 0 { ok("arrived") } else { redirect(302, &format!("/{}", hop - 1)) }
    })
    .await;
    assert_eq!(fetch(&http("{}"), &server.url("/10")).await.unwrap().0, 200);
    let error = fetch(&http("{}"), &server.url("/11")).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot follow the redirect from 127.0.0.1: it is the one after 10 others, probably they go round in circles"
    );
    let other = Server::start(|_| redirect(302, "ftp://example.com/")).await;
    let error = fetch(&http("{}"), &other.url("/")).await.unwrap_err().to_string();
    assert_eq!(error, "cannot follow the redirect from 127.0.0.1: its Location is neither http nor https");
}

#[tokio::test]
async fn a_post_becomes_a_get_or_stays_one() {
    let server = Server::start(|seen| match seen.uri.path() {
        "/302" => redirect(302, "/end"),
        "/307" => redirect(307, "/end"),
        _ => ok(""),
    })
    .await;
    for (path, method, body) in [("/302", Method::GET, ""), ("/307", Method::POST, "body")] {
        let request = || {
            Request::post(server.url(path))
                .header("content-type", "text/x")
                .body(Bytes::from("body"))
                .unwrap()
        };
        Client::new(http("{}")).call(request()).await.unwrap();
        let pooled = server.last();
        Connection::new(http("{}")).send(request()).await.unwrap();
        for seen in [pooled, server.last()] {
            assert_eq!(
                (seen.uri.path(), &seen.method, &seen.body[..]),
                ("/end", &method, body.as_bytes()),
                "{path}"
            );
            assert_eq!(seen.headers.contains_key("content-type"), !body.is_empty());
        }
        // Unless it has to arrive as it is.
        let mut request = request();
        request.extensions_mut().insert(KeepMethod);
        let status = Client::new(http("{}")).call(request).await.unwrap().status();
        assert_eq!(status, if path == "/302" { 302 } else { 200 });
    }
}

/// Credentials go along within a host, never to another one, also not if that one sends the request back.
#[tokio::test]
async fn credentials_are_dropped_across_hosts() {
    let away = Server::start(|seen| {
        // "127.0.0.1" and "localhost" are two hosts to everybody here.
        let back = seen.uri.query().unwrap().strip_prefix("back=").unwrap();
        redirect(302, &format!("http://127.0.0.1:{back}/back"))
    })
    .await;
    let port = away.address.port();
    let home = Server::start(move |seen| match seen.uri.path() {
        "/inside" => redirect(302, "/end"),
        "/outside" => {
            let back = seen.header("host").rsplit_once(':').unwrap().1.to_owned();
            redirect(302, &format!("http://localhost:{port}/?back={back}"))
        }
        _ => ok(""),
    })
    .await;
    for yaml in ["bearer_token: token", "basic_auth: {username: u, password: p}"] {
        let yaml =
            format!("{yaml}\nhttp_headers: {{Cookie: {{secrets: [session]}}, X-Other: {{values: [stays]}}}}");
        let http = http(&yaml);
        fetch(&http, &home.url("/inside")).await.unwrap();
        assert!(!home.last().header("authorization").is_empty());
        assert_eq!(home.last().header("cookie"), "session");

        fetch(&http, &home.url("/outside")).await.unwrap();
        assert_eq!(home.last().uri, "/back");
        for seen in [away.last(), home.last()] {
            for name in ["authorization", "cookie"] {
                assert_eq!(seen.header(name), "", "{name} was sent to {}", seen.header("host"));
            }
            assert_eq!(seen.header("x-other"), "stays");
        }
    }
}

/// A signature is for one host and path; the token beside it is for nobody else.
#[tokio::test]
async fn a_signed_request_goes_where_its_signature_holds_or_nowhere() {
    let away = Server::start(|_| ok("taken")).await;
    let port = away.address.port();
    let home = Server::start(move |seen| match seen.uri.path() {
        "/away" => redirect(307, &format!("http://localhost:{port}/away")),
        "/see-other" => redirect(303, "/see-other"),
        "/path" => redirect(308, "/other"),
        "/again" => redirect(308, "/again"),
        _ => ok("taken"),
    })
    .await;
    let send = async |path: &str| {
        let request = Request::post(home.url(path))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=A/20260101/r/aps/aws4_request")
            .header("x-amz-security-token", "token")
            .body(Bytes::from_static(b"body"))
            .unwrap();
        Client::new(http("{}")).call(request).await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(send("/away").await.unwrap(), 307);
    assert!(away.seen().is_empty());
    assert_eq!(send("/path").await.unwrap(), 308);
    assert_eq!(send("/see-other").await.unwrap(), 303);
    // Same host and path: it is sent on, here in circles.
    assert!(send("/again").await.unwrap_err().to_string().contains("circles"));
}
