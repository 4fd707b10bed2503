//! What is accepted and is told to be likely to go wrong, and where things stand.

use std::io;
use std::path::{Path, PathBuf};

use promferry_config::{Config, ConfigWarning, DiskFiles, Files, NoFiles};

/// Files of which none can be read but those of a list.
struct OnlyThese(Vec<PathBuf>);

impl Files for OnlyThese {
    fn matching(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn check_readable(&self, path: &Path) -> io::Result<()> {
        if self.0.iter().any(|known| known == path) {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

fn read(text: &str, files: &dyn Files) -> Config {
    let config = Config::from_prometheus(Path::new("/etc/p/prometheus.yml"), text, files, &|_: &str| None);
    config.unwrap_or_else(|error| panic!("{error:#}"))
}

fn read_opentelemetry(text: &str, files: &dyn Files) -> Config {
    let config = Config::from_opentelemetry(Path::new("collector.yaml"), text, files, &|_: &str| None);
    config.unwrap_or_else(|error| panic!("{error:#}"))
}

fn faults(config: &Config) -> Vec<String> {
    config.warnings.iter().filter(|warning| warning.is_fault()).map(ToString::to_string).collect()
}

#[test]
fn files_that_cannot_be_read_are_named_wherever_they_stand() {
    let text = "\
scrape_configs:
- job_name: a
  authorization: {credentials_file: secrets/token}
  tls_config: {ca_file: /ca.pem, cert_file: '', key_file: }
  http_headers: {x-key: {files: [one, two]}}
  kubernetes_sd_configs: [{role: pod, api_server: 'https://k', bearer_token_file: sa/token}]
remote_write:
- url: http://a/api/v1/write
  basic_auth: {username: u, password_file: pw}
  oauth2:
";
    let config = read(text, &OnlyThese(vec!["/ca.pem".into(), "/etc/p/one".into()]));
    assert_eq!(
        faults(&config),
        [
            "/etc/p/prometheus.yml:3:37: /etc/p/secrets/token cannot be read: permission denied in \
             scrape_configs[0].authorization.credentials_file",
            "/etc/p/prometheus.yml:5:39: /etc/p/two cannot be read: permission denied in \
             scrape_configs[0].http_headers.x-key.files[1]",
            "/etc/p/prometheus.yml:6:83: /etc/p/sa/token cannot be read: permission denied in \
             scrape_configs[0].kubernetes_sd_configs[0].bearer_token_file",
            "/etc/p/prometheus.yml:9:44: /etc/p/pw cannot be read: permission denied in \
             remote_write[0].basic_auth.password_file",
        ]
    );
    // Whoever has no files knows nothing of them.
    assert_eq!(faults(&read(text, &NoFiles)), [""; 0]);
}

#[test]
fn of_the_collectors_dialect_too() {
    let text = "\
receivers:
  prometheus:
    config:
      scrape_configs:
      - job_name: a
        bearer_token_file: token
        static_configs: [{targets: ['a:1']}]
        relabel_configs:
        - {source_labels: [a], action: keep, regex: x}
exporters:
  prometheusremotewrite:
    endpoint: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write/
    tls: {ca_file: ca.pem}
    auth: {authenticator: sigv4auth}
extensions:
  sigv4auth: {region: eu-west-2}
service:
  extensions: [sigv4auth]
  pipelines: {metrics: {receivers: [prometheus], exporters: [prometheusremotewrite]}}
";
    let config = read_opentelemetry(text, &OnlyThese(Vec::new()));
    let told = faults(&config);
    for expected in [
        "collector.yaml:6:28: token cannot be read: permission denied in \
         receivers.prometheus.config.scrape_configs[0].bearer_token_file",
        "collector.yaml:13:20: ca.pem cannot be read: permission denied in \
         exporters.prometheusremotewrite.tls.ca_file",
        "collector.yaml:12:15: AMP answers 403 (Missing Authentication Token) to a path that ends with a slash: take \
         it away in exporters.prometheusremotewrite.endpoint",
        "collector.yaml:16:23: signs for eu-west-2, and the URL is of eu-west-1: AWS refuses a signature for another \
         region (403) in extensions.sigv4auth.region",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}\n{told:#?}");
    }
    assert_eq!(told.len(), 4, "{told:#?}");
    let place = |place: Option<&promferry_config::Place>| place.map(ToString::to_string);
    assert_eq!(place(config.places.job("a")).as_deref(), Some("collector.yaml:5"));
    assert_eq!(place(config.places.target_rule("a", 0)).as_deref(), Some("collector.yaml:9"));
    assert_eq!(place(config.places.endpoint(0)).as_deref(), Some("collector.yaml:12"));
}

#[test]
fn urls_under_which_nothing_is_taken() {
    const AMP: &str = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1";
    let told = |url: &str, sigv4: &str| {
        let config = read(&format!("remote_write:\n- url: '{url}'\n{sigv4}"), &NoFiles);
        let messages = config.warnings.iter().filter(|warning| warning.is_fault());
        messages.map(|warning| (warning.path().to_owned(), warning.message().to_owned())).collect::<Vec<_>>()
    };
    let table = [
        (format!("{AMP}/api/v1/remote_write"), None),
        (format!("{AMP}/api/v1/remote_write/"), Some("ends with a slash")),
        (AMP.to_owned(), Some("another path than /workspaces/ID/api/v1/remote_write")),
        (format!("{AMP}/api/v1/query"), Some("another path than")),
        (AMP.replace("https", "http") + "/api/v1/remote_write", Some("https alone")),
        (AMP.replace("eu-west-1", "my-region") + "/api/v1/remote_write", Some("\"my-region\" looks like")),
        (AMP.replace("eu-west-1", "REGION") + "/api/v1/remote_write", Some("the region's own name")),
        (AMP.replace("ws-1", "ws-xxxxxxxx") + "/api/v1/remote_write", Some("the workspace's own name")),
        (AMP.replace("ws-1", "WORKSPACE_ID") + "/api/v1/remote_write", Some("\"WORKSPACE_ID\" looks like")),
        ("http://a:9090/api/v1/write".to_owned(), None),
        ("http://a:9090/api/v1/write/".to_owned(), Some("ends with a slash")),
        ("http://a/REGION/api/v1/push//".to_owned(), Some("ends with a slash")),
        ("http://a/".to_owned(), None),
    ];
    for (url, expected) in table {
        match (told(&url, "").as_slice(), expected) {
            ([], None) => {}
            ([(path, message)], Some(expected)) if path == "remote_write[0].url" => {
                assert!(message.contains(expected), "{url}: {message}");
            }
            (told, expected) => panic!("{url}: {told:?} and not {expected:?}"),
        }
    }
    let url = format!("{AMP}/api/v1/remote_write");
    assert_eq!(told(&url, "  sigv4: {region: eu-west-1}\n"), []);
    let mismatch = told(&url, "  sigv4: {region: us-east-1}\n");
    assert_eq!(mismatch.len(), 1, "{mismatch:?}");
    assert_eq!(mismatch[0].0, "remote_write[0].sigv4.region");
    assert!(mismatch[0].1.starts_with("signs for us-east-1, and the URL is of eu-west-1"), "{mismatch:?}");
}

#[test]
fn what_has_no_effect_is_no_fault() {
    let text = "rule_files: [a.yml]\nremote_write:\n- url: \
                https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write\n  \
                sigv4: {role_arn: 'arn:aws:iam::210987654321:role/writer'}\n";
    let config = read(text, &NoFiles);
    assert_eq!((config.warnings.len(), config.warnings.iter().any(ConfigWarning::is_fault)), (2, false));
}

#[test]
fn places_are_those_of_the_file_that_holds_them() {
    let folder = tempfile::tempdir().unwrap();
    let (main, included) = (folder.path().join("p.yml"), folder.path().join("jobs.yml"));
    std::fs::write(
        &main,
        "scrape_config_files: ['jobs.yml']\nscrape_configs:\n- job_name: a\n  relabel_configs:\n  \
         - {action: labeldrop, regex: x}\n  - {action: labelkeep, regex: y}\nremote_write:\n- url: http://a/w\n\
         - url: http://b/w\n",
    )
    .unwrap();
    std::fs::write(&included, "scrape_configs:\n\n- job_name: b\n").unwrap();
    let config = Config::load_prometheus(&main, &DiskFiles, &|_: &str| None).unwrap();
    let (main, included) = (main.display(), included.display());
    let places = [
        (config.places.job("a"), format!("{main}:3")),
        (config.places.target_rule("a", 1), format!("{main}:6")),
        (config.places.job("b"), format!("{included}:3")),
        (config.places.endpoint(1), format!("{main}:9")),
    ];
    for (place, expected) in places {
        assert_eq!(place.map(ToString::to_string), Some(expected));
    }
    assert_eq!(config.places.target_rule("b", 0), None);
    // What is there can be read, and a folder can not.
    assert!(DiskFiles.check_readable(Path::new(&main.to_string())).is_ok());
    assert!(DiskFiles.check_readable(folder.path()).is_err());
}
