//! Files that can't be used: at start each ends the process with 2 and a line that says where. Texts are pinned: they are
//! the product.

use std::path::Path;

use crate::authority::Authority;
use crate::collector::output;
use crate::site::{Site, with_file};

async fn refused(folder: &Path, text: &str) -> String {
    let file = folder.join("web.yml");
    std::fs::write(&file, text).unwrap();
    let error = match Site::try_start(with_file(file)).await {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    };
    error.replace(&format!("{}/", folder.display()), "")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_says_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let (server, stranger) = (authority.server(), other.server());
    for (name, text) in [("web.crt", &server.cert), ("web.key", &server.key), ("other.key", &stranger.key)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("empty"), "").unwrap();
    for (text, expected) in [
        (
            "tls_server_config: {cert_file: none.crt, key_file: web.key}\n",
            "web.yml:1:32: none.crt cannot be read: No such file or directory (os error 2) in \
             tls_server_config.cert_file",
        ),
        (
            "tls_server_config:\n  cert_file: empty\n  key_file: web.key\n",
            "web.yml:2:14: empty: it holds no certificate in PEM in tls_server_config.cert_file",
        ),
        (
            "tls_server_config:\n  cert_file: web.crt\n  key_file: web.crt\n",
            "web.yml:3:13: web.crt: it holds no private key in PEM in tls_server_config.key_file",
        ),
        (
            "tls_server_config:\n  cert_file: web.crt\n  key_file: other.key\n",
            "web.yml:3:13: other.key: the private key does not belong to the certificate in \
             tls_server_config.key_file",
        ),
        (
            "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n  client_auth_type: \
             RequireAndVerifyClientCert\n  client_ca: none\n",
            "web.yml:5:14: it holds no certificate in PEM in tls_server_config.client_ca",
        ),
        (
            "basic_auth_users:\n  alice: secret\n",
            "web.yml:2:10: it is no bcrypt hash, such as `htpasswd -nBC 10 user` makes in basic_auth_users.alice",
        ),
        (
            "basic_auth_users:\n  alice: $2b$31$abcdefghijklmnopqrstuuz.2OD4vzyR4IvVO1eyTgnmhKnXdC8XS\n",
            "web.yml:2:10: the cost of a bcrypt hash can be 4 to 18 here: with more, each password takes a minute to \
             compare in basic_auth_users.alice",
        ),
        (
            "basic_auth_user: {}\n",
            "web.yml:1:1: unknown key \"basic_auth_user\" (did you mean \"basic_auth_users\"?)",
        ),
    ] {
        assert_eq!(refused(folder.path(), text).await, expected, "{text}");
    }
    let missing = Site::try_start(with_file(folder.path().join("none.yml"))).await;
    let error = missing.err().unwrap().to_string();
    assert!(error.ends_with("none.yml: cannot be read: No such file or directory (os error 2)"), "{error}");
}

#[test]
fn the_process_does_not_start_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(&config, "scrape_configs: []\n").unwrap();
    let file = folder.path().join("web.yml");
    std::fs::write(&file, "basic_auth_users:\n  alice: hunter2\n").unwrap();
    let (code, _, said) = output(&[
        "run",
        &format!("--config.file={}", config.display()),
        &format!("--storage.agent.path={}", folder.path().join("data").display()),
        "--web.listen-address=127.0.0.1:0",
        &format!("--web.config.file={}", file.display()),
    ]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("web.yml:2:10: it is no bcrypt hash") && !said.contains("hunter2"), "{said}");
}
