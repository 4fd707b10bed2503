//! What a user is told about a configuration that cannot be used. Texts are pinned: they are the product.

use promferry_config::{Config, ConfigError, ErrorKind, NoFiles};

fn refuse(text: &str) -> ConfigError {
    let environment = |_: &str| None;
    match Config::from_prometheus("prometheus.yml".as_ref(), text, &NoFiles, &environment) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error,
    }
}

fn job(lines: &str) -> String {
    format!("scrape_configs:\n  - job_name: api\n{lines}")
}

fn endpoint(lines: &str) -> String {
    format!("remote_write:\n  - url: http://localhost/write\n{lines}")
}

#[test]
fn ten_errors_and_more() {
    use ErrorKind::{DuplicateKey, Syntax, UnknownKey, Unsupported, Value};
    let cases = [
        (
            UnknownKey,
            job("    scrape_intervall: 5s\n"),
            "3:5: unknown key \"scrape_intervall\" in scrape_configs[0] (did you mean \"scrape_interval\"?)",
        ),
        (
            UnknownKey,
            "scrape_config: []\n".to_owned(),
            "1:1: unknown key \"scrape_config\" (did you mean \"scrape_configs\"?)",
        ),
        (
            UnknownKey,
            job("    relabel_configs:\n      - source_label: [a]\n"),
            "4:9: unknown key \"source_label\" in scrape_configs[0].relabel_configs[0] (did you mean \
             \"source_labels\"?)",
        ),
        (
            UnknownKey,
            job("    static_configs:\n      - target: [a:80]\n"),
            "4:9: unknown key \"target\" in scrape_configs[0].static_configs[0] (did you mean \"targets\"?)",
        ),
        (
            UnknownKey,
            job("    static_configs:\n      - hosts: [a:80]\n"),
            "4:9: unknown key \"hosts\" (there are targets, labels) in scrape_configs[0].static_configs[0]",
        ),
        (
            Value,
            job("    sample_limit: many\n"),
            "3:19: expected a whole number, found \"many\" in scrape_configs[0].sample_limit",
        ),
        (
            Value,
            job("    honor_labels: \"yes\"\n"),
            "3:19: expected true or false, found the quoted text \"yes\" in scrape_configs[0].honor_labels",
        ),
        (
            Value,
            job("    relabel_configs:\n      action: keep\n"),
            "4:7: expected a list, found a mapping in scrape_configs[0].relabel_configs",
        ),
        (
            Value,
            job("    static_configs: [{targets: 'a:80'}]\n"),
            "3:32: expected a list, found the quoted text \"a:80\" in \
             scrape_configs[0].static_configs[0].targets",
        ),
        (
            Value,
            job("    scrape_interval: 30q\n"),
            "3:22: not a valid duration string: \"30q\" (write it like 30s, 5m or 1h30m) in \
             scrape_configs[0].scrape_interval",
        ),
        (
            Value,
            "global: {scrape_interval: 15}\n".to_owned(),
            "1:27: not a valid duration string: \"15\" (write it like 30s, 5m or 1h30m) in \
             global.scrape_interval",
        ),
        (
            Value,
            job(
                "    relabel_configs:\n      - source_labels: [a]\n        regex: (b\n        action: keep\n",
            ),
            "5:16: invalid regex \"(b\": missing closing ) in scrape_configs[0].relabel_configs[0].regex",
        ),
        (
            Value,
            job("    metric_relabel_configs:\n      - {action: remove}\n"),
            "4:18: unknown relabel action \"remove\" (there are drop, dropequal, hashmod, keep, keepequal, \
             labeldrop, labelkeep, labelmap, lowercase, replace, uppercase) in \
             scrape_configs[0].metric_relabel_configs[0].action",
        ),
        (
            Value,
            job("  - job_name: api\n"),
            "3:15: the job name \"api\" is already used at prometheus.yml:2 in scrape_configs[1].job_name",
        ),
        (
            Value,
            "scrape_configs:\n  - honor_labels: true\n".to_owned(),
            "2:5: job_name is empty in scrape_configs[0].job_name",
        ),
        (
            Value,
            job("    scrape_timeout: 2m\n"),
            "3:21: scrape timeout 2m is greater than the scrape interval 1m in \
             scrape_configs[0].scrape_timeout",
        ),
        (
            Value,
            job("    static_configs:\n      - targets: [\"http://a/metrics\"]\n"),
            "4:19: \"http://a/metrics\" is not a valid hostname; scheme and path belong to scheme and \
             metrics_path in scrape_configs[0].static_configs[0].targets[0]",
        ),
        (
            Value,
            job("    scrape_protocols: [PrometheusText]\n"),
            "3:24: \"PrometheusText\" is not one of PrometheusProto, OpenMetricsText1.0.0, OpenMetricsText0.0.1, \
             PrometheusText1.0.0, PrometheusText0.0.4 in scrape_configs[0].scrape_protocols[0] (did you mean \
             \"PrometheusText1.0.0\"?)",
        ),
        (
            Value,
            "global:\n  external_labels:\n    \"\": x\n".to_owned(),
            "3:5: \"\" is not a valid label name in global.external_labels",
        ),
        (DuplicateKey, job("    job_name: web\n"), "3:5: the key \"job_name\" was already set in line 2"),
        (
            Unsupported,
            job("    consul_sd_configs: [{server: 'consul:8500'}]\n"),
            "3:5: not supported yet: consul_sd_configs; there are static_configs, file_sd_configs, \
             http_sd_configs, dns_sd_configs, kubernetes_sd_configs in scrape_configs[0]",
        ),
        (
            Value,
            job("    kubernetes_sd_configs: [{role: pods}]\n"),
            "3:36: \"pods\" is not one of node, pod, service, endpoints, endpointslice, ingress in \
             scrape_configs[0].kubernetes_sd_configs[0].role (did you mean \"pod\"?)",
        ),
        (
            UnknownKey,
            job("    kubernetes_sd_configs: [{role: pod, namespace: {names: [a]}}]\n"),
            "3:41: unknown key \"namespace\" in scrape_configs[0].kubernetes_sd_configs[0] (did you mean \
             \"namespaces\"?)",
        ),
        (
            Value,
            job("    kubernetes_sd_configs:\n      - {role: node, selectors: [{role: pod, label: a=b}]}\n"),
            "4:41: the role node supports only selectors of node in \
             scrape_configs[0].kubernetes_sd_configs[0].selectors[0].role",
        ),
        (
            Unsupported,
            endpoint("    azuread: {cloud: AzurePublic}\n"),
            "3:5: not supported yet: signing in to Azure; there are basic_auth, authorization, oauth2 and \
             sigv4 in remote_write[0].azuread",
        ),
        (
            Value,
            "remote_write:\n  - name: amp\n".to_owned(),
            "2:5: remote_write needs a url in remote_write[0].url",
        ),
        (
            Value,
            endpoint("    name: a\n  - {url: http://b/, name: a}\n"),
            "4:28: the name \"a\" is already used by remote_write[0] in remote_write[1].name",
        ),
        (
            Value,
            endpoint("    sigv4: {region: eu-west-1, access_key: AK}\n"),
            "3:12: must be set together with access_key, or neither of them in remote_write[0].sigv4.secret_key",
        ),
        (
            Value,
            endpoint(
                "    sigv4:\n      role_arn: arn:aws:iam::1:role/a\n      roles: [{role_arn: 'arn:aws:iam::2:role/b'}]\n",
            ),
            "4:17: cannot be used together with roles: write it there in remote_write[0].sigv4.role_arn",
        ),
        (
            Value,
            endpoint("    sigv4:\n      roles: [{role_arn: 'arn:aws:iam::2:role/b', session_name: a b}]\n"),
            "4:65: \"a b\" is no session name that STS takes: expected 2 to 64 letters, digits and _ + = , . @ - in \
             remote_write[0].sigv4.roles[0].session_name",
        ),
        (
            UnknownKey,
            endpoint("    sigv4:\n      roles: [{role_arm: 'arn:aws:iam::2:role/b'}]\n"),
            "4:16: unknown key \"role_arm\" in remote_write[0].sigv4.roles[0] (did you mean \"role_arn\"?)",
        ),
        (
            Value,
            "remote_write:\n  - {url: 'http://exämple.org/write', sigv4: {region: eu-west-1}}\n".to_owned(),
            "2:11: sigv4 needs a url like https://aps-workspaces.REGION.amazonaws.com/…: invalid uri character in \
             remote_write[0].url",
        ),
        (
            Value,
            endpoint("    basic_auth: {username: u}\n    sigv4: {region: eu-west-1}\n"),
            "4:5: at most one of basic_auth, authorization, oauth2 and sigv4 can be configured in \
             remote_write[0].sigv4",
        ),
        (
            Value,
            job("    dns_sd_configs: [{names: [a.example], type: A}]\n"),
            "3:22: a port is needed for the type A: only SRV records have one in \
             scrape_configs[0].dns_sd_configs[0].port",
        ),
        (
            Value,
            job("    file_sd_configs: [{files: [targets.txt]}]\n"),
            "3:32: path targets.txt is not valid for file discovery: it must end in .json, .yml or .yaml and \
             may contain one \"*\" after the last \"/\" in scrape_configs[0].file_sd_configs[0].files[0]",
        ),
        (UnknownKey, job("    http_sd_configs: [{url: 'http://h/', refresh: 1m}]\n"), ""),
        (
            Value,
            endpoint("    queue_config: {max_shards: 0}\n"),
            "3:32: max_shards has to be at least 1 in remote_write[0].queue_config.max_shards",
        ),
        (
            Value,
            endpoint("    active_series_limit: 2M\n"),
            "3:26: expected a whole number, found \"2M\" in remote_write[0].active_series_limit",
        ),
        (
            Value,
            endpoint("    samples_per_second_limit: -1\n"),
            "3:31: expected a whole number of at least 0, found -1 in \
             remote_write[0].samples_per_second_limit",
        ),
        (
            Value,
            endpoint("    lasting_limits: {hold_out: 0s}\n"),
            "3:32: has to be longer than 0s in remote_write[0].lasting_limits.hold_out",
        ),
        (
            UnknownKey,
            endpoint("    lasting_limits: {probe_intervall: 1m}\n"),
            "3:22: unknown key \"probe_intervall\" in remote_write[0].lasting_limits (did you mean \
             \"probe_interval\"?)",
        ),
        (
            UnknownKey,
            endpoint("    active_series_limits: 1\n"),
            "3:5: unknown key \"active_series_limits\" in remote_write[0] (did you mean \
             \"active_series_limit\"?)",
        ),
        (Value, endpoint("    queue_config: {sample_age_limit: 55}\n"), ""),
        (
            Value,
            endpoint("    write_relabel_configs: [{action: drop}, {regex: 'a**', action: keep}]\n"),
            "3:53: invalid regex \"a**\": invalid nested repetition operator: ** in \
             remote_write[0].write_relabel_configs[1].regex",
        ),
        (
            Value,
            endpoint("    write_relabel_configs:\n      -\n"),
            "4:8: empty entry in remote_write[0].write_relabel_configs[0]",
        ),
        (Syntax, "global:\n\tscrape_interval: 5s\n".to_owned(), ""),
        (Syntax, "global: {scrape_interval: 5s\n".to_owned(), ""),
        (Syntax, "global: !include x.yml\n".to_owned(), "1:18: the tag !include is not supported"),
        (Syntax, "a: *nothing\n".to_owned(), ""),
        (Value, "- a\n".to_owned(), "1:1: expected a mapping of keys to values, found a list"),
        (
            Value,
            "scrape_config_files: [\"*/jobs.yml\"]\n".to_owned(),
            "1:23: \"*/jobs.yml\" has a * before its last /; only file names may have one in \
             scrape_config_files[0]",
        ),
    ];
    let mut wrong = Vec::new();
    for (kind, text, expected) in cases {
        let error = refuse(&text);
        let told = error.to_string();
        let told = told.strip_prefix("prometheus.yml:").expect("every error names the file");
        if (!expected.is_empty() && told != expected) || error.kind() != kind || error.position().is_none() {
            wrong.push(format!(
                "{text}\n  told:     {told}\n  expected: {expected}\n  kind: {:?}",
                error.kind()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_line_is_shown_with_the_place_marked() {
    let error = refuse("scrape_configs:\n  - job_name: api\n    scrape_interval: 30q  # often\n");
    assert_eq!(error.excerpt(), "  |\n3 |     scrape_interval: 30q  # often\n  |                      ^^^");
    assert_eq!(format!("{error:#}"), format!("{error}\n{}", error.excerpt()));
    assert_eq!(error.path(), "scrape_configs[0].scrape_interval");
    let error = refuse("scrape_configs:\n  - job_name: api\n    jobname: x\n");
    assert_eq!(error.excerpt(), "  |\n3 |     jobname: …\n  |     ^^^^^^^");
    assert_eq!(error.suggestion(), Some("job_name"));
}

#[test]
fn secrets_are_never_shown() {
    for text in [
        job("    basic_auth: {username: u, password: hunter2, passwort: x}\n"),
        job("    basic_auth: {username: u, passwordd: hunter2}\n"),
        job("    basic_auth: {username: u, password: [hunter2]}\n"),
        job("    basic_auth: {username: u, password: {x: hunter2}}\n"),
        job("    basic_auth: {password: hunter2, password_file: f}\n"),
        job("    authorization: {credentials: hunter2, type: basic}\n"),
        job("    bearer_token: hunter2\n    bearer_token: hunter2\n"),
        job("    proxy_url: 'hunter2'\n    proxy_from_environment: true\n"),
        job("    http_headers: {X-Key: {secrets: [\"hunter2\\n\"]}}\n"),
        job("    http_headers: {X-Key: {secrets: hunter2}}\n"),
        job("    tls_config: {key: hunter2, cert: x, ca: y, ca_file: z}\n"),
        job("    relabel_configs: [{target_label: __header_x, replacement: hunter2, actoin: replace}]\n"),
        job("    relabel_configs: [{replacement: hunter2, target_label: __header_x, action: [replace]}]\n"),
        job("    relabel_configs:\n    - target_label: __header_x\n      replacement: hunter2: x\n"),
        job("    relabel_configs:\n    - target_label: __header_x\n      replacement: \"hunter2\n"),
        job("    static_configs: [{targets: [a], labels: {__header_x: hunter2}, tarets: x}]\n"),
        job("    oauth2: {client_id: c, client_secret: hunter2}\n"),
        job("    oauth2: {client_id: c, client_secret: hunter2, token_url: 'hunter2'}\n"),
        job("    basic_auth:\n      password: \"hunter2\n"),
        job("    basic_auth:\n      password: |\n        hunter2\n\tx: y\n"),
        job("    basic_auth: {password: hunter2, x: ]\n"),
        endpoint("    sigv4: {region: 'no region', access_key: a, secret_key: hunter2}\n"),
        endpoint("    sigv4: {secret_key: hunter2}\n"),
        endpoint("    headers: {Host: hunter2}\n"),
        endpoint("    headers: [hunter2]\n"),
        "remote_write: [{url: 'https://u:hunter2@h/', queue_config: 3}]\n".to_owned(),
        "remote_write: [{url: 'https://u:hunter2@h/', queue_config: 3\n".to_owned(),
    ] {
        let error = refuse(&text);
        let shown = format!("{error} {error:#} {error:?}");
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
}

#[test]
fn small_files_cannot_become_huge_ones() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let error = refuse(&bomb);
    assert!(error.message().contains("aliases add more than"), "{error}");
    let deep = format!("a: {}", "[".repeat(100_000));
    assert_eq!(refuse(&deep).kind(), ErrorKind::Syntax);
    let many: String = (0..200_000).map(|key| format!("k{key}: x\n")).collect();
    assert_eq!(refuse(&many).kind(), ErrorKind::UnknownKey);
    let too_many = "- x\n".repeat(1_100_000);
    assert!(refuse(&too_many).message().contains("more than 1000000 values"));
    let own = refuse("a: &a [*a]\n");
    assert_eq!(own.kind(), ErrorKind::Syntax, "{own}");
}

#[test]
fn a_vpc_endpoint_needs_its_region() {
    let read = |host: &str, block: &str, region: Option<&str>| {
        let text = format!(
            "remote_write:\n  - url: https://{host}/workspaces/ws-1/api/v1/remote_write\n    sigv4: {block}\n"
        );
        let environment = |name: &str| region.filter(|_| name == "AWS_REGION").map(str::to_owned);
        Config::from_prometheus("prometheus.yml".as_ref(), &text, &NoFiles, &environment)
    };
    let vpce = "vpce-0a1b-2c3d.aps-workspaces.us-east-1.vpce.amazonaws.com";
    let error = read(vpce, "{role_arn: 'arn:aws:iam::1:role/x'}", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
    assert_eq!(
        error.to_string(),
        format!(
            "prometheus.yml:3:12: cannot tell the AWS region to sign for from the host {vpce:?}: the name of an \
             interface endpoint can't be relied on for it; set sigv4.region and sigv4.service_name (or \
             AWS_REGION in the environment) in remote_write[0]"
        )
    );
    let error = read("amp.example.com", "{region: ''}", Some(" ")).unwrap_err().to_string();
    assert!(
        error.contains("3:21: cannot tell the AWS region") && error.contains("sigv4.service_name"),
        "{error}"
    );
    for (host, block, region) in [
        (vpce, "{region: us-east-1}", None),
        (vpce, "{}", Some("us-east-1")),
        ("amp.example.com", "{region: us-east-1}", None),
        ("aps-workspaces.us-east-1.amazonaws.com", "{}", None),
        // Not signed, as in Prometheus.
        (vpce, "", None),
    ] {
        read(host, block, region).unwrap_or_else(|error| panic!("{error}"));
    }
}
