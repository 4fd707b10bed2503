//! The same asked of Prometheus 3.16.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use promferry_bench::peers::Peer;
use promferry_bench::process::{Process, free_address};
use promferry_collector::cli::WebArgs;

use crate::access::{Folder, HASH, TLS};
use crate::authority::Authority;
use crate::collector::until;
use crate::site::{Client, Site, flags, with_file};

/// Prometheus as an agent on a port of its own, in this folder.
fn start(program: &Path, folder: &Path, flags: &[String]) -> (Process, SocketAddr) {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n").unwrap();
    let address = free_address().unwrap();
    let mut arguments = vec![
        "--agent".to_owned(),
        format!("--config.file={}", config.display()),
        format!("--storage.agent.path={}", folder.join("data").display()),
        format!("--web.listen-address={address}"),
    ];
    arguments.extend(flags.iter().cloned());
    (Process::start(program, arguments, &folder.join("log")).unwrap(), address)
}

async fn until_ready(address: SocketAddr, path: &str, client: &Client<'_>) {
    until("Prometheus is ready", async || {
        client.get(address, path).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let answer = Client::default().ask(method, &format!("http://{address}{path}")).await.unwrap();
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_the_same_about_its_lifecycle() {
    let Some(program) = Peer::Prometheus.or_skip("the answers of the lifecycle") else { return };
    for is_enabled in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut their_flags = vec!["--web.route-prefix=/prom".to_owned()];
        if is_enabled {
            their_flags.push("--web.enable-lifecycle".to_owned());
        }
        let (_process, theirs) = start(&program, folder.path(), &their_flags);
        until_ready(theirs, "/prom/-/ready", &Client::default()).await;
        let args = WebArgs { lifecycle: is_enabled, route_prefix: Some("/prom".to_owned()), ..flags() };
        let site = Site::start(args).await;
        let status = async |address| Client::default().get(address, "/").await.unwrap().status;
        // Where it leads to is written otherwise: with the slash that follows at once.
        assert_eq!((status(site.address()).await, status(theirs).await), (302, 302));
        for (method, path) in [
            ("GET", "/prom/-/reload"),
            ("GET", "/prom/-/quit"),
            ("PUT", "/prom/-/reload"),
            ("POST", "/prom/-/reload"),
            ("POST", "/-/reload"),
            ("GET", "/-/ready"),
            ("GET", "/metrics"),
            ("GET", "/nothing"),
            ("GET", "/prom/nothing"),
            ("POST", "/prom/-/quit"),
        ] {
            let (ours, theirs) = (ask(site.address(), method, path).await, ask(theirs, method, path).await);
            assert_eq!(ours, theirs, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_the_same_to_who_may_not_look() {
    let Some(program) = Peer::Prometheus.or_skip("the answers to passwords") else { return };
    let folder = Folder::new();
    let text = format!(
        "http_server_config: {{headers: {{X-Frame-Options: deny}}}}\nbasic_auth_users: {{alice: {HASH}}}\n"
    );
    let file = folder.write("web.yml", &text);
    let (_process, theirs) = start(&program, folder.path(), &[flag(&file)]);
    let alice = || Client { user: Some(("alice", "promferry")), ..Client::default() };
    until_ready(theirs, "/-/ready", &alice()).await;
    let site = Site::start(with_file(file.clone())).await;
    for user in [None, Some(("alice", "promferry")), Some(("alice", "wrong")), Some(("bob", "promferry"))] {
        let client = Client { user, ..Client::default() };
        let (ours, theirs) = (
            client.get(site.address(), "/-/ready").await.unwrap(),
            client.get(theirs, "/-/ready").await.unwrap(),
        );
        assert_eq!(ours.status, theirs.status, "{user:?}");
        for header in ["www-authenticate", "x-frame-options", "content-type"] {
            assert_eq!(ours.headers.get(header), theirs.headers.get(header), "{user:?} {header}");
        }
        if ours.status != 200 {
            assert_eq!(ours.body, theirs.body);
        }
    }
    // Users that go and come do so there too.
    folder.write("web.yml", &text.replace("alice", "bob"));
    let status = async |user, address| {
        let client = Client { user: Some((user, "promferry")), ..Client::default() };
        client.get(address, "/-/ready").await.unwrap().status
    };
    for address in [site.address(), theirs] {
        assert_eq!((status("alice", address).await, status("bob", address).await), (401, 200));
    }
}

fn flag(file: &Path) -> String {
    format!("--web.config.file={}", file.display())
}

/// Whether Prometheus starts with this file.
async fn is_taken_there(program: &Path, folder: &Folder, file: &Path) -> bool {
    let (mut process, address) = start(program, folder.path(), &[flag(file)]);
    loop {
        if !process.is_running() {
            return false;
        }
        // Whatever it answers, it is there: HTTP gets 400 where TLS is spoken.
        if Client::default().get(address, "/-/ready").await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_and_refuses_the_same_files() {
    let Some(program) = Peer::Prometheus.or_skip("the web configurations that are taken") else { return };
    let authority = Authority::new();
    let pair = "cert_file: web.crt, key_file: web.key";
    let tls = |more: &str| format!("tls_server_config: {{{pair}, {more}}}\n");
    let cases = [
        (String::new(), true),
        ("basic_auth_users:\n".to_owned(), true),
        (TLS.to_owned(), true),
        (tls("client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt"), true),
        (tls("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256], curve_preferences: [X25519]"), true),
        (tls("prefer_server_cipher_suites: false, min_version: TLS12, max_version: TLS13"), true),
        ("rate_limit: {burst: 100, interval: 1s}\n".to_owned(), true),
        ("http_server_config: {http2: false, headers: {X-XSS-Protection: '0'}}\n".to_owned(), true),
        ("tls: {}\n".to_owned(), false),
        (tls("cert_fil: x"), false),
        ("tls_server_config: {cert_file: web.crt}\n".to_owned(), false),
        ("tls_server_config: {cert_file: none.crt, key_file: web.key}\n".to_owned(), false),
        ("tls_server_config: {cert_file: web.key, key_file: web.crt}\n".to_owned(), false),
        (tls("client_ca_file: ca.crt"), false),
        (tls("client_auth_type: Sometimes"), false),
        (tls("min_version: TLS14"), false),
        (tls("cipher_suites: [TLS_RSA_WITH_AES_128_GCM_SHA256]"), false),
        (tls("curve_preferences: [P256]"), false),
        ("http_server_config: {headers: {X-Frame-Options: allow}}\n".to_owned(), false),
        ("http_server_config: {headers: {X-Other: a}}\n".to_owned(), false),
        ("basic_auth_users: {alice: secret}\n".to_owned(), false),
        ("rate_limit: {burst: 1, interval: soon}\n".to_owned(), false),
    ];
    let mut started = tokio::task::JoinSet::new();
    let identity = authority.server();
    for (text, expected) in cases {
        let folder = Folder::new();
        folder.identity(&identity);
        folder.write("ca.crt", &authority.pem());
        let file = folder.write("web.yml", &text);
        let ours = Site::try_start(with_file(file.clone())).await;
        assert_eq!(ours.is_ok(), expected, "{text}");
        let program = program.clone();
        started.spawn(async move { (is_taken_there(&program, &folder, &file).await, expected, text) });
        // A few at a time are enough for two cores.
        if started.len() >= 4 {
            let (theirs, expected, text) = started.join_next().await.unwrap().unwrap();
            assert_eq!(theirs, expected, "{text}");
        }
    }
    while let Some(found) = started.join_next().await {
        let (theirs, expected, text) = found.unwrap();
        assert_eq!(theirs, expected, "{text}");
    }
}
