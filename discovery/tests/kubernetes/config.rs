use std::path::Path;

use promferry_discovery::{
    Discovery, DiscoveryConfigs, DiscoveryOptions, KubernetesRole, KubernetesSdConfig, KubernetesSelector,
};
use promferry_http_client::HttpClientConfig;

use crate::support::options;

fn read(yaml: &str) -> Result<KubernetesSdConfig, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

#[test]
fn every_key_has_its_default_and_its_place() {
    for (name, role) in [
        ("node", KubernetesRole::Node),
        ("pod", KubernetesRole::Pod),
        ("service", KubernetesRole::Service),
        ("endpoints", KubernetesRole::Endpoints),
        ("endpointslice", KubernetesRole::EndpointSlice),
        ("ingress", KubernetesRole::Ingress),
    ] {
        let config = read(&format!("role: {name}")).unwrap();
        assert_eq!(config, KubernetesSdConfig::new(role), "{name}");
        assert_eq!((config.role.to_string().as_str(), config.validate()), (name, Ok(())));
    }
    for key in HttpClientConfig::KEYS.iter().chain(KubernetesSdConfig::KEYS) {
        if *key == "role" {
            continue;
        }
        let config = read(&format!("role: pod\n{key}:\n")).unwrap_or_else(|error| panic!("{key}: {error}"));
        let mut zero = KubernetesSdConfig::new(KubernetesRole::Pod);
        match *key {
            "follow_redirects" => zero.http_config.follow_redirects = false,
            "enable_http2" => zero.http_config.enable_http2 = false,
            _ => {}
        }
        assert_eq!(config, zero, "{key}");
    }
    let config = read(
        "
role: endpointslice
api_server: https://10.0.0.1:6443/prefix
namespaces: {own_namespace: false, names: [shop, monitoring]}
selectors:
- {role: pod, label: 'app=web', field: status.phase=Running}
- {role: service}
attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}
authorization: {credentials_file: token}
tls_config: {ca_file: ca.crt}
",
    )
    .unwrap();
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(config.api_server.expose(), "https://10.0.0.1:6443/prefix");
    assert_eq!(config.namespaces.names, ["shop", "monitoring"]);
    assert_eq!(config.selectors[0].role, Some(KubernetesRole::Pod));
    assert_eq!((config.selectors[0].label.as_str(), config.selectors[1].label.as_str()), ("app=web", ""));
    let attached = config.attach_metadata;
    assert!(attached.node && attached.namespace && attached.deployment && attached.job && attached.cronjob);
    assert_eq!(config.http_config.tls_config.ca_file, Path::new("ca.crt"));
}

#[test]
fn what_cannot_be_read_is_refused() {
    for (yaml, reason) in [
        ("{}", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"),
        ("role:", "role missing"),
        ("role: pods", "unknown variant `pods`"),
        ("role: Pod", "unknown variant `Pod`"),
        ("{role: pod, roles: pod}", "unknown field `roles`"),
        ("{role: pod, namespaces: {name: a}}", "unknown field `name`"),
        ("{role: pod, attach_metadata: {pod: true}}", "unknown field `pod`"),
        ("{role: pod, selectors: [{roles: pod}]}", "unknown field `roles`"),
    ] {
        let error = read(yaml).expect_err(yaml);
        assert!(error.contains(reason), "{yaml}: {error}");
    }
}

#[test]
fn broken_rules_are_named_with_their_path() {
    for (yaml, path, message) in [
        ("role: pod, bearer_token: a, basic_auth: {}", "bearer_token", "at most one of"),
        (
            "role: pod, api_server: 'http://a', kubeconfig_file: b",
            "kubeconfig_file",
            "cannot use kubeconfig_file and api_server simultaneously",
        ),
        ("role: pod, kubeconfig_file: b, bearer_token: c", "kubeconfig_file", "custom HTTP client"),
        ("role: pod, follow_redirects: false", "api_server", "please provide the api_server URL explicitly"),
        ("role: pod, tls_config: {ca_file: c}", "api_server", "please provide the api_server URL explicitly"),
        (
            "role: pod, api_server: 'http://a', namespaces: {own_namespace: true}",
            "namespaces.own_namespace",
            "cannot use api_server and namespaces.own_namespace",
        ),
        (
            "role: pod, kubeconfig_file: a, namespaces: {own_namespace: true}",
            "namespaces.own_namespace",
            "cannot use kubeconfig_file and namespaces.own_namespace",
        ),
        ("role: pod, api_server: 'ftp://a'", "api_server", "http or https"),
        ("role: pod, api_server: 'http://'", "api_server", "not a URL"),
        (
            "role: pod, selectors: [{role: pod}, {role: pod, label: a}]",
            "selectors.1.role",
            "two selectors of the role pod",
        ),
        (
            "role: pod, selectors: [{role: service}]",
            "selectors.0.role",
            "the role pod supports only selectors of pod, node",
        ),
        ("role: pod, selectors: [{label: a}]", "selectors.0.role", "supports only"),
        ("role: node, selectors: [{role: pod}]", "selectors.0.role", "selectors of node"),
        ("role: ingress, selectors: [{role: service}]", "selectors.0.role", "selectors of ingress"),
        ("role: service, selectors: [{role: pod}]", "selectors.0.role", "selectors of service"),
        (
            "role: endpoints, selectors: [{role: endpointslice}]",
            "selectors.0.role",
            "pod, service, endpoints",
        ),
        (
            "role: endpointslice, selectors: [{role: endpoints}]",
            "selectors.0.role",
            "pod, service, endpointslice",
        ),
        ("role: pod, selectors: [{role: pod, label: 'a in b'}]", "selectors.0.label", "not a label selector"),
        ("role: pod, selectors: [{role: pod, field: a}]", "selectors.0.field", "not a field selector"),
    ] {
        let configs: DiscoveryConfigs =
            serde_saphyr::from_str(&format!("kubernetes_sd_configs: [{{{yaml}}}]")).unwrap();
        let error = configs.validate().expect_err(yaml);
        assert_eq!(error.path.join("."), format!("kubernetes_sd_configs.0.{path}"), "{yaml}");
        assert!(error.message.contains(message), "{yaml}: {}", error.message);
    }
    for yaml in [
        "{role: pod, api_server: 'localhost:8080'}",
        "{role: pod, tls_config: {}}",
        "{role: pod, follow_redirects: true, enable_http2: true}",
        "{role: pod, namespaces: {own_namespace: true, names: [a]}}",
        "{role: pod, selectors: [{role: pod}, {role: node, label: 'zone in (a, b)'}]}",
    ] {
        assert_eq!(read(yaml).unwrap().validate(), Ok(()), "{yaml}");
    }
}

#[test]
fn paths_are_resolved() {
    let mut configs: DiscoveryConfigs = serde_saphyr::from_str(
        "kubernetes_sd_configs: [{role: pod, api_server: a, bearer_token_file: t}, {role: pod, kubeconfig_file: k}]",
    )
    .unwrap();
    configs.resolve_paths(Path::new("/etc/p"));
    let [first, second] = &configs.kubernetes_sd_configs[..] else { panic!("two configurations") };
    assert_eq!(first.http_config.bearer_token_file, Path::new("/etc/p/t"));
    assert_eq!(first.kubeconfig_file, Path::new(""));
    assert_eq!(second.kubeconfig_file, Path::new("/etc/p/k"));
}

#[tokio::test]
async fn what_is_missing_in_the_surroundings_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut in_pod = options();
    in_pod.kubernetes.service_host = Some("fd00::1".to_owned());
    in_pod.kubernetes.service_port = Some("443".to_owned());
    in_pod.kubernetes.service_account = folder.path().to_owned();
    let apply = |yaml: &str, options: &DiscoveryOptions| {
        let (discovery, _changes) = Discovery::new(options.clone());
        let configs: DiscoveryConfigs =
            serde_saphyr::from_str(&format!("kubernetes_sd_configs: [{{{yaml}}}]")).unwrap();
        let errors = discovery.apply([("job".into(), configs)]);
        errors.first().map(ToString::to_string).unwrap_or_default()
    };
    let refused = |yaml: &str, options: &DiscoveryOptions, reason: &str| {
        let error = apply(yaml, options);
        assert!(error.contains(reason), "{yaml}: {error}");
    };
    refused("role: pod", &options(), "this process does not run in a cluster");
    refused("role: pod", &in_pod, "there is no token of a service account");
    std::fs::write(folder.path().join("token"), "t").unwrap();
    refused("role: pod", &in_pod, "ca.crt");
    std::fs::write(folder.path().join("ca.crt"), include_str!("../mechanisms/authority.pem")).unwrap();
    let own = "role: pod, namespaces: {own_namespace: true}";
    refused(own, &in_pod, "cannot find out the own namespace");
    std::fs::write(folder.path().join("namespace"), "\n").unwrap();
    refused(own, &in_pod, "namespace is empty");
    std::fs::write(folder.path().join("namespace"), "shop").unwrap();
    assert_eq!(apply(own, &in_pod), "");
}

/// `selectors.txt` holds made-up selectors behind two verdicts of `k8s.io/apimachinery` 0.37.1: `labels.Parse` and
/// `fields.ParseSelector` take them or not.
#[test]
fn selectors_are_taken_that_kubernetes_takes() {
    let (mut taken, mut all) = ([0, 0], 0);
    for line in include_str!("data/selectors.txt").lines() {
        let mut parts = line.splitn(3, ' ');
        let verdicts = [parts.next(), parts.next()].map(|verdict| verdict == Some("true"));
        let text = parts.next().unwrap();
        let is_taken = |label: &str, field: &str| {
            let mut config = KubernetesSdConfig::new(KubernetesRole::Pod);
            config.selectors = vec![KubernetesSelector {
                role: Some(KubernetesRole::Pod),
                label: label.to_owned(),
                field: field.to_owned(),
            }];
            config.validate().is_ok()
        };
        assert_eq!([is_taken(text, ""), is_taken("", text)], verdicts, "{text:?}");
        taken = [taken[0] + usize::from(verdicts[0]), taken[1] + usize::from(verdicts[1])];
        all += 1;
    }
    // Enough on both sides to tell.
    assert!(taken.iter().all(|taken| (100..all - 100).contains(taken)), "{taken:?} of {all}");
}
