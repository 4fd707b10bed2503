use std::path::{Path, PathBuf};

use promferry_http_client::HttpClientConfig;

use crate::{Config, Endpoint, Job};

/// A file that a configuration names and that is read while it is in force, not while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub kind: FileKind,
    /// The key that names it, such as `tls_config.ca_file`.
    pub key: String,
    /// Whose key that is: `job api`, `remote_write amp`.
    pub owner: String,
}

/// What is in a file that a configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A password, a token, the value of a header.
    Credential,
    /// A certificate, its key, or those of authorities that are trusted.
    Certificate,
    /// Where a Kubernetes API server is and who to be there.
    Kubeconfig,
}

impl Config {
    /// The files of credentials and certificates that it names, in its own order; one that is named twice is there
    /// twice. Who uses them reads them again when they change: that is no reason to read the configuration again.
    ///
    /// What it was read from is not among them, and neither are files of targets (`file_sd_configs`).
    pub fn files(&self) -> Vec<NamedFile> {
        let of_jobs = self.jobs.iter().flat_map(of_job);
        of_jobs.chain(self.remote_write.iter().flat_map(of_endpoint)).collect()
    }
}

fn of_job(job: &Job) -> Vec<NamedFile> {
    let owner = format!("job {}", job.scrape.job_name);
    let mut files = of_http("", &job.scrape.http, &owner);
    for (index, http_sd) in job.discovery.http_sd_configs.iter().enumerate() {
        files.extend(of_http(&format!("http_sd_configs[{index}]."), &http_sd.http_config, &owner));
    }
    for (index, kubernetes) in job.discovery.kubernetes_sd_configs.iter().enumerate() {
        let within = format!("kubernetes_sd_configs[{index}].");
        if !kubernetes.kubeconfig_file.as_os_str().is_empty() {
            files.push(NamedFile {
                path: kubernetes.kubeconfig_file.clone(),
                kind: FileKind::Kubeconfig,
                key: format!("{within}kubeconfig_file"),
                owner: owner.clone(),
            });
        }
        files.extend(of_http(&within, &kubernetes.http_config, &owner));
    }
    files
}

fn of_endpoint(endpoint: &Endpoint) -> Vec<NamedFile> {
    let owner = format!("remote_write {}", endpoint.write.key());
    let mut files = of_http("", &endpoint.http, &owner);
    let roles = endpoint.sigv4.iter().flat_map(|sigv4| &sigv4.roles);
    files.extend(roles.filter_map(|role| role.web_identity_token_file.as_ref()).map(|path| NamedFile {
        path: path.clone(),
        kind: FileKind::Credential,
        key: "sigv4.web_identity_token_file".to_owned(),
        owner: owner.clone(),
    }));
    files
}

fn of_http(within: &str, http: &HttpClientConfig, owner: &str) -> Vec<NamedFile> {
    let named = |(key, path): (&str, &Path)| NamedFile {
        path: path.to_owned(),
        kind: if key.contains("tls_config") { FileKind::Certificate } else { FileKind::Credential },
        key: format!("{within}{key}"),
        owner: owner.to_owned(),
    };
    http.files().into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoFiles;

    #[test]
    fn every_file_is_named_with_its_key_and_whose_that_is() {
        let text = "
scrape_configs:
- job_name: api
  bearer_token_file: token
  tls_config: {ca_file: ca.pem, cert_file: /etc/tls/tls.crt, key_file: /etc/tls/tls.key}
  http_headers: {X-Key: {files: [key]}}
  http_sd_configs: [{url: 'http://sd/', basic_auth: {username: u, password_file: password}}]
  kubernetes_sd_configs: [{role: pod, kubeconfig_file: kubeconfig}]
- job_name: plain
  file_sd_configs: [{files: [targets.json]}]
remote_write:
- url: http://receiver/write
  name: amp
  oauth2: {client_id: c, client_secret_file: secret, token_url: 'http://t/', tls_config: {ca_file: oca.pem}}
";
        let path = Path::new("/etc/prometheus/prometheus.yml");
        let config = Config::from_prometheus(path, text, &NoFiles, &|_: &str| None).unwrap();
        let files = config.files();
        let shown: Vec<_> = files
            .iter()
            .map(|file| format!("{}: {} {:?} {}", file.owner, file.key, file.kind, file.path.display()))
            .collect();
        assert_eq!(
            shown,
            [
                "job api: bearer_token_file Credential /etc/prometheus/token",
                "job api: tls_config.ca_file Certificate /etc/prometheus/ca.pem",
                "job api: tls_config.cert_file Certificate /etc/tls/tls.crt",
                "job api: tls_config.key_file Certificate /etc/tls/tls.key",
                "job api: http_headers Credential /etc/prometheus/key",
                "job api: http_sd_configs[0].basic_auth.password_file Credential /etc/prometheus/password",
                "job api: kubernetes_sd_configs[0].kubeconfig_file Kubeconfig /etc/prometheus/kubeconfig",
                "remote_write amp: oauth2.client_secret_file Credential /etc/prometheus/secret",
                "remote_write amp: oauth2.tls_config.ca_file Certificate /etc/prometheus/oca.pem",
            ]
        );
    }
}
