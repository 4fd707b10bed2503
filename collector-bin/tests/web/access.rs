//! `--web.config.file`: TLS, passwords, clients' certificates, and what becomes of changes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promferry_bench::process::free_address;
use promferry_collector::cli::WebArgs;
use promferry_model::PromDuration;
use rcgen::SanType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::authority::{Authority, Identity, dns, uri};
use crate::collector::{Collector, until};
use crate::site::{Client, Site, with_file};

/// `promferry` at the lowest cost of bcrypt.
pub(crate) const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuz.2OD4vzyR4IvVO1eyTgnmhKnXdC8XS";

/// A folder with a web configuration.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as a whole, as volumes of Kubernetes do.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.0.path().join("new"), self.0.path().join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }

    pub(crate) fn identity(&self, identity: &Identity) {
        self.write("web.crt", &identity.cert);
        self.write("web.key", &identity.key);
    }
}

pub(crate) const TLS: &str = "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n";

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_basic_auth() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.identity(&authority.server());
    let file = folder.write(
        "web.yml",
        &format!(
            "{TLS}http_server_config:\n  headers: {{X-Frame-Options: deny, Strict-Transport-Security: max-age=9}}\n\
             basic_auth_users:\n  alice: {HASH}\n"
        ),
    );
    let site = Site::start(with_file(file)).await;
    assert_eq!(site.urls, [format!("https://{}/", site.address())]);
    let trusts = Some(&authority);
    for (user, path, expected) in [
        (Some(("alice", "promferry")), "/metrics", 200),
        (Some(("alice", "promferry")), "/metrics", 200),
        (Some(("alice", "wrong")), "/metrics", 401),
        (Some(("bob", "promferry")), "/metrics", 401),
        (None, "/metrics", 401),
        // Probes too, as in Prometheus.
        (None, "/-/healthy", 401),
    ] {
        let client = Client { trusts, user, ..Client::default() };
        let answer = client.get(site.address(), path).await.unwrap();
        assert_eq!(answer.status, expected, "{user:?} {path}");
        assert_eq!(answer.headers["x-frame-options"], "deny");
        assert_eq!(answer.headers["strict-transport-security"], "max-age=9");
        if expected == 401 {
            assert_eq!(answer.headers["www-authenticate"], "Basic");
            assert_eq!(answer.body, "Unauthorized\n");
        } else {
            assert_eq!(answer.body, "metrics");
        }
    }
    assert!(
        Client { trusts: Some(&Authority::new()), ..Client::default() }
            .get(site.address(), "/")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_http_where_tls_is_spoken_is_told() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.identity(&authority.server());
    let site = Site::start(with_file(folder.write("web.yml", TLS))).await;
    let mut stream = TcpStream::connect(site.address()).await.unwrap();
    stream.write_all(b"GET /-/ready HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert_eq!(answer, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_takes_no_place_for_ever() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.identity(&authority.server());
    let file = folder.write("web.yml", TLS);
    let args =
        WebArgs { read_timeout: PromDuration::from_millis(3000), max_connections: 1, ..with_file(file) };
    let site = Site::start(args).await;
    let mut silent = TcpStream::connect(site.address()).await.unwrap();
    let client = Client { trusts: Some(&authority), ..Client::default() };
    assert_eq!(client.get(site.address(), "/metrics").await.unwrap().status, 200);
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).await.unwrap_or_default(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_server_certificate_is_served_to_the_next_connection() {
    let (folder, first, second) = (Folder::new(), Authority::new(), Authority::new());
    folder.identity(&first.server());
    let site = Site::start(with_file(folder.write("web.yml", TLS))).await;
    let trusting = |authority| Client { trusts: Some(authority), ..Client::default() };
    let address = site.address();
    assert_eq!(trusting(&first).get(address, "/").await.unwrap().status, 200);

    folder.identity(&second.server());
    assert_eq!(trusting(&second).get(address, "/").await.unwrap().status, 200);
    assert!(trusting(&first).get(address, "/").await.is_err());

    // A key without its certificate: what was there goes on.
    let third = first.server();
    folder.write("web.key", &third.key);
    assert_eq!(trusting(&second).get(address, "/").await.unwrap().status, 200);
    folder.write("web.crt", &third.cert);
    until("the pair is whole again", async || trusting(&first).get(address, "/").await.is_ok()).await;
    // It is looked at once a second while it is broken; so is the configuration itself.
    folder.write("web.yml", "tls_server_config: [\n");
    assert_eq!(trusting(&first).get(address, "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_change_while_it_runs_and_do_not_go_away() {
    let folder = Folder::new();
    let users = |users: &str| folder.write("web.yml", &format!("basic_auth_users: {{{users}}}\n"));
    let site = Site::start(with_file(users(&format!("alice: {HASH}")))).await;
    let status = async |user| {
        let client = Client { user: Some((user, "promferry")), ..Client::default() };
        client.get(site.address(), "/").await.unwrap().status
    };
    assert_eq!((status("alice").await, status("bob").await), (200, 401));
    users(&format!("bob: {HASH}"));
    assert_eq!((status("alice").await, status("bob").await), (401, 200));
    // A file that is being written is empty for a moment.
    for broken in ["", "basic_auth_users: {bob: x}\n", "basic_auth_users: [\n"] {
        folder.write("web.yml", broken);
        assert_eq!((status("alice").await, status("bob").await), (401, 200), "{broken}");
    }
    assert_eq!(Client::default().get(site.address(), "/").await.unwrap().status, 401);
    users(&format!("alice: {HASH}"));
    until("alice is back", async || status("alice").await == 200).await;
}

/// To open a pipe that nobody writes to would wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_files_place_holds_nobody_up() {
    let folder = Folder::new();
    let users = format!("basic_auth_users: {{alice: {HASH}}}\n");
    let file = folder.write("web.yml", &users);
    let site = Site::start(with_file(file.clone())).await;
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let refused = Site::try_start(with_file(pipe.clone())).await.err().unwrap().to_string();
    assert_eq!(refused, format!("{}: cannot be read: it is no regular file", pipe.display()));

    std::fs::rename(&pipe, &file).unwrap();
    let client = Client { user: Some(("alice", "promferry")), ..Client::default() };
    assert_eq!(client.get(site.address(), "/").await.unwrap().status, 200);
    assert_eq!(Client::default().get(site.address(), "/").await.unwrap().status, 401);
    folder.write("web.yml", &users.replace("alice", "bob"));
    let bob = Client { user: Some(("bob", "promferry")), ..Client::default() };
    until("it is a file again", async || bob.get(site.address(), "/").await.unwrap().status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_means_nothing() {
    let folder = Folder::new();
    for text in ["", "\n", "---\n", "# nothing\n", "{}\n", "tls_server_config:\nbasic_auth_users:\n"] {
        let site = Site::start(with_file(folder.write("web.yml", text))).await;
        assert_eq!(site.urls, [format!("http://{}/", site.address())]);
        assert_eq!(Client::default().get(site.address(), "/metrics").await.unwrap().status, 200, "{text:?}");
    }
    // So does an empty path.
    let site = Site::start(with_file(PathBuf::new())).await;
    assert_eq!(Client::default().get(site.address(), "/metrics").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_by_type() {
    let (folder, authority, stranger) = (Folder::new(), Authority::new(), Authority::new());
    folder.identity(&authority.server());
    folder.write("ca.crt", &authority.pem());
    let ours = authority.client(vec![dns("scraper.example"), uri("spiffe://a/scraper")]);
    let theirs = stranger.client(vec![dns("scraper.example")]);
    let enters = async |address: SocketAddr, shows: Option<&Identity>| {
        let client = Client { trusts: Some(&authority), shows, ..Client::default() };
        client.get(address, "/").await.is_ok_and(|answer| answer.status == 200)
    };
    // With none, with one of a stranger's, with one of the authority's.
    for (asked, expected) in [
        ("", [true, true, true]),
        ("client_auth_type: NoClientCert", [true, true, true]),
        ("client_auth_type: RequestClientCert", [true, true, true]),
        ("client_auth_type: RequireAnyClientCert", [false, true, true]),
        ("client_auth_type: RequireClientCert", [false, true, true]),
        ("{client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt}", [true, false, true]),
        ("{client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.crt}", [false, false, true]),
        (
            "{client_auth_type: RequireAnyClientCert, client_allowed_sans: [scraper.example]}",
            [false, true, true],
        ),
        (
            "{client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.crt, client_allowed_sans: [other]}",
            [false, false, false],
        ),
        (
            "{client_auth_type: RequestClientCert, client_allowed_sans: [other, 'spiffe://a/scraper']}",
            [false, false, true],
        ),
        ("{client_auth_type: RequestClientCert, min_version: TLS12, max_version: TLS12}", [true, true, true]),
    ] {
        let asked = asked.trim_start_matches('{').trim_end_matches('}');
        let more = if asked.is_empty() { String::new() } else { format!(", {asked}") };
        let text = format!("tls_server_config: {{cert_file: web.crt, key_file: web.key{more}}}\n");
        let site = Site::start(with_file(folder.write("web.yml", &text))).await;
        let address = site.address();
        let found = [
            enters(address, None).await,
            enters(address, Some(&theirs)).await,
            enters(address, Some(&ours)).await,
        ];
        assert_eq!(found, expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_name_is_compared_as_a_text() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.identity(&authority.server());
    let text = "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n  client_auth_type: RequestClientCert\n  \
                client_allowed_sans: [a.example, 10.0.0.1, '::1', 'urn:x:y']\n";
    let site = Site::start(with_file(folder.write("web.yml", text))).await;
    let address = |text: &str| SanType::IpAddress(text.parse().unwrap());
    for (names, expected) in [
        (vec![dns("a.example")], true),
        (vec![dns("b.example"), dns("a.example")], true),
        (vec![dns("*.example")], false),
        (vec![dns("A.example")], false),
        (vec![address("10.0.0.1")], true),
        (vec![address("10.0.0.2")], false),
        (vec![address("::1")], true),
        (vec![uri("urn:x:y")], true),
        (vec![uri("urn:x:z")], false),
        (vec![], false),
    ] {
        let identity = authority.client(names.clone());
        let client = Client { trusts: Some(&authority), shows: Some(&identity), ..Client::default() };
        let entered = client.get(site.address(), "/").await.is_ok();
        assert_eq!(entered, expected, "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_is_refused() {
    let folder = Folder::new();
    let file = folder.write("web.yml", "rate_limit: {burst: 2, interval: 1h}\n");
    let site = Site::start(with_file(file)).await;
    let mut found = Vec::new();
    for _ in 0..3 {
        let answer = Client::default().get(site.address(), "/metrics").await.unwrap();
        found.push((answer.status, answer.body));
    }
    let expected = [(200, "metrics"), (200, "metrics"), (429, "Too Many Requests\n")];
    assert_eq!(found, expected.map(|(status, body)| (status, body.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_versions_suites_and_curves_that_are_named_are_spoken() {
    let (folder, authority) = (Folder::new(), Authority::new());
    folder.identity(&authority.server());
    // The client speaks both versions; what it does not share with the server ends the handshake.
    for (more, is_spoken) in [
        ("min_version: TLS13", true),
        ("max_version: TLS12", true),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256]", true),
        ("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384], max_version: TLS12", true),
        // The certificate's key is of another kind.
        ("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], max_version: TLS12", false),
        ("curve_preferences: [CurveP384, CurveP521]", true),
    ] {
        let text = format!("tls_server_config: {{cert_file: web.crt, key_file: web.key, {more}}}\n");
        let site = Site::start(with_file(folder.write("web.yml", &text))).await;
        let client = Client { trusts: Some(&authority), ..Client::default() };
        assert_eq!(client.get(site.address(), "/").await.is_ok(), is_spoken, "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_start_from_the_files_folder() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let identity = authority.server();
    std::fs::create_dir(folder.path().join("tls")).unwrap();
    folder.write("tls/web.crt", &identity.cert);
    let absolute = folder.write("web.key", &identity.key);
    assert!(absolute.is_absolute() && Path::new("web.key") != absolute);
    let text = format!("tls_server_config: {{cert_file: tls/web.crt, key_file: {}}}\n", absolute.display());
    let site = Site::start(with_file(folder.write("web.yml", &text))).await;
    let client = Client { trusts: Some(&authority), ..Client::default() };
    assert_eq!(client.get(site.address(), "/").await.unwrap().status, 200);

    // In the file itself.
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let text = format!(
        "tls_server_config:\n  cert: |\n{}  key: |\n{}",
        indented(&identity.cert),
        indented(&identity.key)
    );
    let site = Site::start(with_file(folder.write("web.yml", &text))).await;
    assert_eq!(client.get(site.address(), "/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_said_once_a_minute() {
    let folder = Folder::new();
    let file = folder.write("web.yml", &format!("basic_auth_users: {{alice: {HASH}}}\n"));
    let address = free_address().unwrap();
    // The fixture's own address asks for a password too.
    let script = format!("exec \"$@\" --web.listen-address={address} --web.config.file={}", file.display());
    let collector = Collector::start_by(folder.path(), "scrape_configs: []\n", Some(&script));
    let client = Client { user: Some(("alice", "promferry")), ..Client::default() };
    let is_welcome = async || client.get(address, "/-/ready").await.is_ok_and(|answer| answer.status == 200);
    until("it is ready", is_welcome).await;
    folder.write("web.yml", "basic_auth_users: {alice: hunter2}\n");
    for _ in 0..15 {
        assert!(is_welcome().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let log = collector.log();
    let said = "web.yml:1:27: it is no bcrypt hash";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    assert!(log.contains("the pages go on as they were") && !log.contains("hunter2"), "{log}");
}
