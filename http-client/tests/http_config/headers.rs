use promferry_http_client::{Connection, Http, HttpOptions};

use crate::support::*;

#[tokio::test]
async fn values_secrets_and_files_are_one_line_each() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), " from file \n").unwrap();
    let mut config = config(
        "http_headers:\n  X-Shard: {values: ['3', four]}\n  x-api-key: {secrets: [hush], files: [key]}\n  Accept: {values: [text/plain]}\n",
    );
    config.resolve_paths(dir.path());
    let http = Http::new(&config, HttpOptions::default()).unwrap();
    let server = Server::start(|_| ok("")).await;
    fetch(&http, &server.url("/")).await.unwrap();
    assert_eq!(server.last().header("x-shard"), "3, four");
    assert_eq!(server.last().header("x-api-key"), "hush, from file");

    // They are added to what the caller sends.
    let mut request = get(&server.url("/"));
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    Connection::new(http.clone()).send(request).await.unwrap();
    assert_eq!(server.last().header("accept"), "application/json, text/plain");

    std::fs::write(dir.path().join("key"), "changed!").unwrap();
    fetch(&http, &server.url("/")).await.unwrap();
    assert_eq!(server.last().header("x-api-key"), "hush, changed!");
    std::fs::remove_file(dir.path().join("key")).unwrap();
    let error = fetch(&http, &server.url("/")).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot use http_headers") && error.contains("key"), "{error}");
    assert!(!format!("{config:?} {http:?}").contains("hush"));
}

#[tokio::test]
async fn the_user_agent_is_the_callers() {
    let server = Server::start(|_| ok("")).await;
    let options = HttpOptions { user_agent: "Test/1".to_owned(), ..HttpOptions::default() };
    let named = Http::new(&config("{}"), options).unwrap();
    fetch(&named, &server.url("/")).await.unwrap();
    assert_eq!(server.last().header("user-agent"), "Test/1");
    fetch(&http("{}"), &server.url("/")).await.unwrap();
    assert!(server.last().header("user-agent").starts_with("Promferry/"));
}
