use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::support::*;

fn basic(text: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(text))
}

async fn guarded(expected: &str) -> Server {
    let expected = expected.to_owned();
    Server::start(move |seen| if seen.header("authorization") == expected { ok("in") } else { status(401) })
        .await
}

#[tokio::test]
async fn inline_credentials_reach_the_server() {
    for (yaml, header) in [
        ("basic_auth: {username: user, password: pass}", basic("user:pass")),
        ("basic_auth: {username: user}", basic("user:")),
        ("basic_auth: {password: pass}", basic(":pass")),
        ("basic_auth: {username: 123, password: ü}", basic("123:ü")),
        ("authorization: {credentials: abc}", "Bearer abc".to_owned()),
        ("authorization: {type: ' Key ', credentials: abc}", "Key abc".to_owned()),
        ("bearer_token: old", "Bearer old".to_owned()),
    ] {
        let server = guarded(&header).await;
        assert_eq!(fetch(&http(yaml), &server.url("/")).await.unwrap(), (200, "in".to_owned()), "{yaml}");
        assert_eq!(fetch(&http("{}"), &server.url("/")).await.unwrap().0, 401, "{yaml}");
    }
}

#[tokio::test]
async fn credentials_in_files_are_read_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (yaml, header) in [
        ("basic_auth: {username_file: one, password: pass}", basic("VALUE:pass")),
        ("basic_auth: {username: user, password_file: one}", basic("user:VALUE")),
        ("authorization: {credentials_file: one}", "Bearer VALUE".to_owned()),
        ("bearer_token_file: one", "Bearer VALUE".to_owned()),
    ] {
        let mut config = config(yaml);
        config.resolve_paths(dir.path());
        let _ = std::fs::remove_file(path("one"));
        // A missing credential does not prevent construction, it fails the request and names the file.
        let http = promferry_http_client::Http::new(&config, Default::default()).unwrap();
        let server = Server::start(|_| ok("")).await;
        let error = fetch(&http, &server.url("/")).await.unwrap_err().to_string();
        assert!(error.contains(&path("one").display().to_string()), "{error}");
        assert!(error.ends_with("no such file or directory"), "{error}");
        assert!(server.seen().is_empty(), "a request went out without its credentials");

        for value in ["first", "second", "3rd"] {
            // As editors and secret mounts do it: another file takes the place. White space around is not part of it.
            std::fs::write(path("new"), format!("\n{value} \n")).unwrap();
            std::fs::rename(path("new"), path("one")).unwrap();
            fetch(&http, &server.url("/")).await.unwrap();
            let expected = match header.strip_prefix("Basic ") {
                Some(coded) => {
                    let plain = String::from_utf8(BASE64_STANDARD.decode(coded).unwrap()).unwrap();
                    basic(&plain.replace("VALUE", value))
                }
                None => header.replace("VALUE", value),
            };
            assert_eq!(server.last().header("authorization"), expected, "{yaml}");
        }
        // In place, same length, within the resolution of the file system's clock.
        std::fs::write(path("one"), "4th").unwrap();
        fetch(&http, &server.url("/")).await.unwrap();
        std::fs::write(path("one"), "5th").unwrap();
        fetch(&http, &server.url("/")).await.unwrap();
        let seen = server.last().header("authorization");
        assert!(
            seen == header.replace("VALUE", "5th") || seen == basic("5th:pass") || seen == basic("user:5th")
        );
    }
}

#[tokio::test]
async fn a_url_with_user_information_authenticates_and_is_stripped() {
    let server = guarded(&basic("us er:p@ss")).await;
    let url = format!("http://us%20er:p%40ss@{}/x", server.address);
    assert_eq!(fetch(&http("{}"), &url).await.unwrap().0, 200);
    assert_eq!(server.last().header("host"), server.address.to_string());
    assert_eq!(server.last().uri, "/x");
    let error = fetch(&http("{}"), "http://user:hunter2@127.0.0.1:1/").await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_request_with_its_own_authorization_keeps_it() {
    let server = guarded("AWS4-HMAC-SHA256 signed").await;
    let mut connection = promferry_http_client::Connection::new(http("bearer_token: token"));
    let mut request = get(&server.url("/"));
    request.headers_mut().insert("authorization", "AWS4-HMAC-SHA256 signed".parse().unwrap());
    assert_eq!(connection.send(request).await.unwrap().status(), 200);
}
