//! moto's server as the store of IAM's entities.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use promferry_bench::process::Process;
use serde_json::Value;
use tempfile::TempDir;

use crate::arn::account_of;
use crate::cloud::{Keys, Role, SessionKeys};
use crate::{Policy, client};

/// Python has to read moto's models first.
const START_LIMIT: Duration = Duration::from_secs(60);

const IAM: Service = Service { name: "iam", version: "2010-05-08" };
const STS: Service = Service { name: "sts", version: "2011-06-15" };

/// The one inline policy of a role or user.
const POLICY_NAME: &str = "permissions";

/// A moto server (PyPI `moto`, 5.2.5) that ends with the last clone of this value. It holds roles, users, their policies and the identity
/// providers, and makes keys; by itself it refuses next to nothing, and its ways differ from AWS' where this crate's tests
/// (`moto_speaks_as_recorded`) say so.
#[derive(Clone, Debug)]
pub struct Moto {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    /// A key of each account: moto takes a call for that of its key.
    account_keys: Mutex<BTreeMap<String, String>>,
    _process: Process,
    _folder: TempDir,
}

struct Service {
    name: &'static str,
    version: &'static str,
}

/// An error that moto answered.
#[derive(Debug, thiserror::Error)]
#[error("moto answered {status} {code} to {action}: {body}")]
struct Refused {
    action: String,
    status: u16,
    code: String,
    body: String,
}

impl Moto {
    /// The Python to start it with: `PROMFERRY_PYTHON`, else the one that scripts/python makes, whether it is there or not.
    pub fn python() -> PathBuf {
        std::env::var_os("PROMFERRY_PYTHON").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/python/bin/python"),
            PathBuf::from,
        )
    }

    /// Starts `python -m moto.server` on a free port of loopback. `None` where there is no such Python, or it has no moto.
    ///
    /// # Panics
    /// When it neither listens nor ends within a minute.
    pub async fn start(python: &Path) -> Option<Self> {
        if !python.is_file() {
            return None;
        }
        let folder = tempfile::tempdir().ok()?;
        let log = folder.path().join("moto.log");
        let arguments = ["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"];
        let mut process = Process::start(python, arguments, &log).ok()?;
        let start = Instant::now();
        let address = loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = address_in(&said) {
                break address;
            }
            if !process.is_running() {
                return None;
            }
            assert!(start.elapsed() < START_LIMIT, "moto does not listen after a minute: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let inner = Inner { address, account_keys: Mutex::default(), _process: process, _folder: folder };
        Some(Self { inner: Arc::new(inner) })
    }

    /// Lets it forget everything. Keys that it gave stay known to the clouds over it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn reset(&self) {
        let request = Request::post("/moto-api/reset").header("host", self.inner.address.to_string());
        let request = request.body(Bytes::new()).expect("a request of plain parts");
        let answer = client::call(self.inner.address, request).await;
        assert!(answer.is_ok_and(|answer| answer.status().is_success()), "moto does not reset itself");
        self.inner.account_keys.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Where it listens: the whole of its API, unguarded.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    pub(crate) async fn put_role(
        &self,
        arn: &str,
        trust: &Policy,
        permissions: Option<&Policy>,
        max_session: Duration,
    ) {
        self.remove_role(arn).await;
        let (path, name) = path_and_name(arn);
        let (trust, max_session) = (with_version(trust), max_session.as_secs().to_string());
        let form = [
            ("RoleName", name),
            ("Path", path.as_str()),
            ("AssumeRolePolicyDocument", &trust),
            ("MaxSessionDuration", &max_session),
        ];
        self.must(IAM, "CreateRole", arn, &form).await;
        if permissions.is_some() {
            self.set_permissions(arn, permissions).await;
        }
    }

    pub(crate) async fn set_trust(&self, arn: &str, trust: &Policy) {
        let trust = with_version(trust);
        let form = [("RoleName", path_and_name(arn).1), ("PolicyDocument", &trust)];
        self.must(IAM, "UpdateAssumeRolePolicy", arn, &form).await;
    }

    pub(crate) async fn set_permissions(&self, arn: &str, permissions: Option<&Policy>) {
        let role = ("RoleName", path_and_name(arn).1);
        match permissions.map(with_version) {
            Some(policy) => {
                let form = [role, ("PolicyName", POLICY_NAME), ("PolicyDocument", policy.as_str())];
                self.must(IAM, "PutRolePolicy", arn, &form).await;
            }
            None => {
                self.must(IAM, "GetRole", arn, &[role]).await;
                self.may(IAM, "DeleteRolePolicy", arn, &[role, ("PolicyName", POLICY_NAME)]).await;
            }
        }
    }

    async fn remove_role(&self, arn: &str) {
        let role = ("RoleName", path_and_name(arn).1);
        self.may(IAM, "DeleteRolePolicy", arn, &[role, ("PolicyName", POLICY_NAME)]).await;
        self.may(IAM, "DeleteRole", arn, &[role]).await;
    }

    pub(crate) async fn put_provider(&self, arn: &str, url: &str, client_ids: &[&str]) {
        self.may(IAM, "DeleteOpenIDConnectProvider", arn, &[("OpenIDConnectProviderArn", arn)]).await;
        let names: Vec<String> =
            (1..=client_ids.len()).map(|number| format!("ClientIDList.member.{number}")).collect();
        // IAM wants one; nobody reads it.
        let thumbprint = "0".repeat(40);
        let mut form = vec![("Url", url), ("ThumbprintList.member.1", thumbprint.as_str())];
        form.extend(names.iter().map(String::as_str).zip(client_ids.iter().copied()));
        self.must(IAM, "CreateOpenIDConnectProvider", arn, &form).await;
    }

    pub(crate) async fn put_user(&self, arn: &str, permissions: &Policy) -> (Keys, String) {
        let (path, name) = path_and_name(arn);
        let user = ("UserName", name);
        let created = match self.may(IAM, "GetUser", arn, &[user]).await {
            Some(there) => there,
            None => self.must(IAM, "CreateUser", arn, &[user, ("Path", path.as_str())]).await,
        };
        let policy = with_version(permissions);
        let form = [user, ("PolicyName", POLICY_NAME), ("PolicyDocument", policy.as_str())];
        self.must(IAM, "PutUserPolicy", arn, &form).await;
        let key = self.must(IAM, "CreateAccessKey", arn, &[user]).await;
        let keys = Keys {
            access_key_id: element(&key, "AccessKeyId").to_owned(),
            secret_access_key: element(&key, "SecretAccessKey").to_owned(),
        };
        (keys, element(&created, "UserId").to_owned())
    }

    pub(crate) async fn role(&self, arn: &str) -> Option<Role> {
        let role = ("RoleName", path_and_name(arn).1);
        let answer = self.may(IAM, "GetRole", arn, &[role]).await?;
        // Found by its name, which says nothing of its path.
        if element(&answer, "Arn") != arn {
            return None;
        }
        let permissions = self.may(IAM, "GetRolePolicy", arn, &[role, ("PolicyName", POLICY_NAME)]).await;
        Some(Role {
            trust: policy(element(&answer, "AssumeRolePolicyDocument")),
            permissions: permissions.map(|answer| policy(element(&answer, "PolicyDocument"))),
            max_session: Duration::from_secs(element(&answer, "MaxSessionDuration").parse().unwrap_or(3_600)),
            role_id: element(&answer, "RoleId").to_owned(),
        })
    }

    pub(crate) async fn client_ids(&self, provider_arn: &str) -> Option<Vec<String>> {
        let form = [("OpenIDConnectProviderArn", provider_arn)];
        let answer = self.may(IAM, "GetOpenIDConnectProvider", provider_arn, &form).await?;
        let list = element(&answer, "ClientIDList");
        Some(
            list.split("<member>").skip(1).filter_map(|id| id.split('<').next()).map(str::to_owned).collect(),
        )
    }

    pub(crate) async fn user_policies(&self, arn: &str) -> Vec<Policy> {
        let form = [("UserName", path_and_name(arn).1), ("PolicyName", POLICY_NAME)];
        let answer = self.may(IAM, "GetUserPolicy", arn, &form).await;
        answer.map(|answer| policy(element(&answer, "PolicyDocument"))).into_iter().collect()
    }

    pub(crate) async fn issue(&self, role_arn: &str, session_name: &str) -> SessionKeys {
        let form = [("RoleArn", role_arn), ("RoleSessionName", session_name)];
        let answer = self.must(STS, "AssumeRole", role_arn, &form).await;
        SessionKeys {
            access_key_id: element(&answer, "AccessKeyId").to_owned(),
            secret_access_key: element(&answer, "SecretAccessKey").to_owned(),
            session_token: element(&answer, "SessionToken").to_owned(),
        }
    }

    /// A call that moto has no reason to refuse.
    async fn must(&self, service: Service, action: &str, arn: &str, form: &[(&str, &str)]) -> String {
        self.call(service, action, arn, form).await.unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// A call about something that may not be there.
    async fn may(&self, service: Service, action: &str, arn: &str, form: &[(&str, &str)]) -> Option<String> {
        match self.call(service, action, arn, form).await {
            Ok(answer) => Some(answer),
            Err(refused) if refused.code == "NoSuchEntity" => None,
            Err(refused) => panic!("{refused}"),
        }
    }

    /// A call in the account of an ARN.
    async fn call(
        &self,
        service: Service,
        action: &str,
        arn: &str,
        form: &[(&str, &str)],
    ) -> Result<String, Refused> {
        let account = account_of(arn);
        let known =
            self.inner.account_keys.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned();
        let key = match known {
            Some(key) => key,
            None => {
                // moto lets anybody assume any role, whether there is one or not: so a key of the account is had.
                let role = format!("arn:aws:iam::{account}:role/any");
                let form = [("RoleArn", role.as_str()), ("RoleSessionName", "stand-in")];
                let answer = self.call_with("AKIAANYBODY", STS, "AssumeRole", &form).await?;
                let key = element(&answer, "AccessKeyId").to_owned();
                let mut keys = self.inner.account_keys.lock().unwrap_or_else(PoisonError::into_inner);
                keys.insert(account.to_owned(), key.clone());
                key
            }
        };
        self.call_with(&key, service, action, form).await
    }

    async fn call_with(
        &self,
        access_key: &str,
        service: Service,
        action: &str,
        form: &[(&str, &str)],
    ) -> Result<String, Refused> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("Action", action), ("Version", service.version)])
            .extend_pairs(form)
            .finish();
        // Which service it is, and whose account, is read from here; the signature is not looked at.
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/20261123/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=0",
            service.name
        );
        let request = Request::post("/")
            .header("host", self.inner.address.to_string())
            .header("authorization", authorization)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(body))
            .expect("a form can be sent");
        let response = client::call(self.inner.address, request)
            .await
            .unwrap_or_else(|error| panic!("moto does not answer {action}: {error}"));
        let (status, body) = (response.status(), String::from_utf8_lossy(response.body()).into_owned());
        if status.is_success() {
            return Ok(body);
        }
        let code = element(&body, "Code").to_owned();
        Err(Refused { action: action.to_owned(), status: status.as_u16(), code, body })
    }
}

/// From the line ` * Running on http://127.0.0.1:PORT`.
fn address_in(log: &str) -> Option<SocketAddr> {
    let rest = log.split_once("Running on http://")?.1;
    // The line is whole: a port is not cut off.
    rest.split_once(['\n', '\x1b'])?.0.trim().parse().ok()
}

/// `/PATH/` and the name of a role or user.
fn path_and_name(arn: &str) -> (String, &str) {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    let path_and_name = resource.split_once('/').map_or("", |(_, rest)| rest);
    match path_and_name.rsplit_once('/') {
        Some((path, name)) => (format!("/{path}/"), name),
        None => (String::from("/"), path_and_name),
    }
}

/// moto takes no trust policy without a version, which IAM does.
fn with_version(policy: &Policy) -> String {
    match serde_json::from_str(policy.as_str()) {
        Ok(Value::Object(mut document)) => {
            document.entry("Version").or_insert_with(|| Value::from("2012-10-17"));
            Value::Object(document).to_string()
        }
        _ => policy.as_str().to_owned(),
    }
}

/// A policy as IAM's answers hold it, percent-encoded.
fn policy(encoded: &str) -> Policy {
    let decoded = form_urlencoded::parse(encoded.as_bytes()).next().map(|(text, _)| text.into_owned());
    Policy::parse(&decoded.unwrap_or_default()).unwrap_or_else(|error| panic!("{error}: {encoded}"))
}

/// The content of the first element of this name; none of those that are read holds escapes.
fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let rest = xml.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    rest.split_once(&format!("</{name}>")).map_or("", |(text, _)| text)
}
