use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use promferry_discovery::{Discovery, DiscoveryConfigs};

use crate::golden::recorded;
use crate::support::{Consumer, options};

/// What is refused when a mechanism is started with this kubeconfig; empty for nothing.
fn refused(path: &Path, kubeconfig: &str) -> String {
    fs::write(path, kubeconfig).unwrap();
    let (discovery, _changes) = Discovery::new(options());
    let yaml = format!("kubernetes_sd_configs: [{{role: pod, kubeconfig_file: '{}'}}]", path.display());
    let configs: DiscoveryConfigs = serde_saphyr::from_str(&yaml).unwrap();
    let errors = discovery.apply([("job".into(), configs)]);
    let error = errors.first().map(ToString::to_string).unwrap_or_default();
    error.replace(&path.display().to_string(), "FILE")
}

fn kubeconfig(server: &str, cluster: &str, user: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Config
current-context: b
preferences: {{}}
contexts:
- {{name: a, context: {{cluster: none, user: none}}}}
- {{name: b, context: {{cluster: c, user: u, namespace: shop}}}}
clusters:
- {{name: c, cluster: {{server: '{server}', {cluster}}}}}
users:
- {{name: u, user: {{{user}}}}}
"
    )
}

#[tokio::test]
async fn the_server_and_the_user_of_the_current_context_count() {
    let server = recorded().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    // Relative to the kubeconfig.
    fs::write(folder.path().join("t"), "of-a-file").unwrap();
    for (user, header) in [
        ("token: inline", "authorization: Bearer inline\r"),
        ("token: inline, tokenFile: t", "authorization: Bearer of-a-file\r"),
        ("username: u, password: p", "authorization: Basic dTpw\r"),
    ] {
        fs::write(&path, kubeconfig(&format!("{}/", server.url), "", user)).unwrap();
        let yaml = format!("role: pod, kubeconfig_file: '{}'", path.display());
        let mut consumer = Consumer::run(&[("job", yaml)], options());
        consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
        assert_eq!(consumer.status().subject, format!("pod of {}", path.display()));
        let state = server.state();
        let list = state.requests.iter().rfind(|request| request.contains("sendInitialEvents=")).unwrap();
        assert!(list.starts_with("GET /api/v1/pods?watch=true&"), "{list}");
        assert!(list.contains(header), "{list}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_named_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let authority = STANDARD.encode(include_str!("../mechanisms/authority.pem"));
    let url = "https://127.0.0.1:1";
    for (text, reason) in [
        (kubeconfig(url, &format!("certificate-authority-data: {authority}"), "token: t"), ""),
        (kubeconfig(url, "insecure-skip-tls-verify: true, tls-server-name: n", "token: t"), ""),
        (String::new(), "it has no current-context"),
        ("users: hunter2".to_owned(), "not a kubeconfig (line 1, column "),
        ("current-context: x".to_owned(), "it has no context \"x\""),
        (kubeconfig(url, "", "").replace("name: c,", "name: d,"), "it has no cluster \"c\""),
        (kubeconfig(url, "", "").replace("name: u,", "name: d,"), "it has no user \"u\""),
        (kubeconfig("", "", ""), "its cluster has no server"),
        (
            kubeconfig(url, "", "exec: {command: aws, args: [hunter2]}"),
            "its user has exec, which is not supported",
        ),
        (kubeconfig(url, "", "auth-provider: {name: gcp}"), "its user has auth-provider"),
        (kubeconfig(url, "", "token: hunter2, as: admin"), "its user has as, which is not supported"),
        (
            kubeconfig(url, "certificate-authority-data: '%'", ""),
            "its certificate-authority-data is not PEM in base64",
        ),
        (kubeconfig(url, "", "client-key-data: hunter2="), "its client-key-data is not PEM in base64"),
        (kubeconfig(url, "certificate-authority: ca.pem", ""), "ca.pem"),
    ] {
        let error = refused(&path, &text);
        assert!(error.contains(reason) && error.is_empty() == reason.is_empty(), "{text}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
        if !reason.is_empty() && reason != "ca.pem" {
            let start = "job job: cannot start kubernetes discovery: kubeconfig_file FILE: ";
            assert!(error.starts_with(start), "{error}");
        }
    }
}

/// As credentials are replaced: who runs goes on as it was, who begins reads what is there now.
#[tokio::test]
async fn a_mechanism_that_begins_goes_by_what_the_file_says_then() {
    let (before, after) = (recorded().await, recorded().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let job = |role: &str| (role.to_owned(), format!("role: {role}, kubeconfig_file: '{}'", path.display()));
    let configs = |roles: &[&str]| -> Vec<_> {
        let config = |(job, yaml): (String, String)| {
            let yaml = format!("kubernetes_sd_configs: [{{{yaml}}}]");
            (job.into(), serde_saphyr::from_str::<DiscoveryConfigs>(&yaml).unwrap())
        };
        roles.iter().map(|role| config(job(role))).collect()
    };
    fs::write(&path, kubeconfig(&before.url, "", "token: t")).unwrap();
    let (_, pods) = job("pod");
    let mut consumer = Consumer::run(&[("pod", pods)], options());
    consumer.until("the pods", |consumer| consumer.groups.len() == 3).await;
    fs::write(&path, kubeconfig(&after.url, "", "token: t")).unwrap();
    assert!(consumer.discovery.apply(configs(&["pod", "service"])).is_empty());
    consumer.until("the services", |consumer| consumer.groups.len() > 3).await;
    let asked = |path: &str| [&before, &after].map(|server| server.lists(&[path]));
    assert_eq!((asked("/pods"), asked("/services")), ([1, 0], [0, 1]));
}
