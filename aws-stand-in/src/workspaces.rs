//! Workspaces of Amazon Managed Service for Prometheus.

mod refusal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use promferry_bench::ledger::{Judgement, Received, Stats};
use promferry_bench::sink::Sink;
use promferry_bench::wire::{Protocol, each_series};
use promferry_sigv4_auth::Scope;

use crate::access::{Access, Missing, authorize};
use crate::cloud::Identity;
use crate::fault::{Fault, Faults, echo};
use crate::server::{Closed, Server};
use crate::workspaces::refusal::Refusal;
use crate::{Cloud, Policy, client, random};

const ACTION: &str = "aps:RemoteWrite";

/// AMP's endpoint of a region, on loopback, with any number of workspaces. What is let through goes on to a
/// [`Sink`] for each workspace, whose answer and faults are passed back. It ends when this is dropped.
#[derive(Debug)]
pub struct Workspaces {
    server: Server,
    shared: Arc<Shared>,
}

/// A request that came, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// This machine's time when it came.
    pub at: SystemTime,
    /// The workspace that its path names; empty where it names none.
    pub workspace: String,
    /// Whose signature it has, where that was right.
    pub caller_arn: Option<String>,
    /// The account in which the caller's chain of roles began.
    pub origin_account: Option<String>,
    /// The status of the answer; `None` where the connection was closed without one.
    pub status: Option<StatusCode>,
    /// The text of a refusal.
    pub message: Option<String>,
}

/// Labels of a series, `__name__` too.
pub type Labels = BTreeMap<String, String>;

/// A policy of the organisation or of the network, which workspaces answer for as if it were in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guardrail {
    /// A permissions boundary that does not allow writing.
    PermissionsBoundary,
    /// A session policy that does not allow writing.
    SessionPolicy,
    /// A service control policy that does not allow writing.
    ServiceControlPolicy,
    /// A service control policy that denies it.
    ServiceControlPolicyDeny,
    /// The policy of the interface endpoint does not allow it.
    EndpointPolicy,
    /// The policy of the interface endpoint denies it.
    EndpointPolicyDeny,
}

#[derive(Debug)]
struct Shared {
    cloud: Cloud,
    region: String,
    faults: Faults,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    workspaces: BTreeMap<String, Workspace>,
    requests: Vec<Write>,
    guardrail: Option<Guardrail>,
    reasons: bool,
}

#[derive(Debug, Clone)]
struct Workspace {
    account: String,
    resource_policy: Option<Policy>,
    sink: Arc<Sink>,
    writers: Arc<Mutex<BTreeMap<Labels, BTreeSet<String>>>>,
}

impl Workspaces {
    /// Starts the endpoint of a region without workspaces.
    pub async fn start(cloud: &Cloud, region: &str) -> Self {
        let state =
            State { workspaces: BTreeMap::new(), requests: Vec::new(), guardrail: None, reasons: true };
        let shared = Arc::new(Shared {
            cloud: cloud.clone(),
            region: region.to_owned(),
            faults: Faults::default(),
            state: Mutex::new(state),
        });
        let answering = Arc::clone(&shared);
        let server = Server::start(cloud.time(), move |head, body| {
            let shared = Arc::clone(&answering);
            async move { shared.answer(head, body).await }
        })
        .await;
        Self { server, shared }
    }

    /// Makes a workspace, or replaces the one of this id with an empty one. Ids look like `ws-…`.
    ///
    /// # Panics
    /// For a resource policy with a statement without `Principal` or `Resource`.
    pub async fn add(&self, account: &str, id: &str, resource_policy: Option<Policy>) {
        check(&resource_policy);
        let sink = Sink::start(Judgement::EachSeries).await.expect("loopback has a free port");
        let workspace = Workspace {
            account: account.to_owned(),
            resource_policy,
            sink: Arc::new(sink),
            writers: Arc::default(),
        };
        self.shared.state().workspaces.insert(id.to_owned(), workspace);
    }

    /// Replaces a workspace's resource policy, which holds from the next request on.
    ///
    /// # Panics
    /// Where there is no such workspace, and for what [`add`](Self::add) does not take.
    pub fn set_resource_policy(&self, id: &str, resource_policy: Option<Policy>) {
        check(&resource_policy);
        let mut state = self.shared.state();
        let workspace = state.workspaces.get_mut(id).unwrap_or_else(|| panic!("there is no workspace {id}"));
        workspace.resource_policy = resource_policy;
    }

    /// A workspace's resource policy.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn resource_policy(&self, id: &str) -> Option<Policy> {
        self.shared.workspace(id).unwrap_or_else(|| panic!("there is no workspace {id}")).resource_policy
    }

    /// The URL of remote write: `http://127.0.0.1:PORT/workspaces/ID/api/v1/remote_write`, of workspaces that are not there
    /// too.
    pub fn url(&self, id: &str) -> String {
        format!("http://{}/workspaces/{id}/api/v1/remote_write", self.server.address())
    }

    /// The ARN of a workspace.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn arn(&self, id: &str) -> String {
        let account =
            self.shared.workspace(id).unwrap_or_else(|| panic!("there is no workspace {id}")).account;
        self.shared.arn(&account, id)
    }

    /// What takes a workspace's requests in: its ledger, its limits and its faults.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn sink(&self, id: &str) -> Arc<Sink> {
        self.shared.workspace(id).unwrap_or_else(|| panic!("there is no workspace {id}")).sink
    }

    /// What a workspace has received, counted.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn stats(&self, id: &str) -> Stats {
        self.sink(id).stats()
    }

    /// What a workspace has received of each target of a farm.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn received(&self, id: &str) -> Received {
        self.sink(id).received()
    }

    /// The requests so far to all workspaces, in order of their answers.
    pub fn requests(&self) -> Vec<Write> {
        self.shared.state().requests.clone()
    }

    /// The accounts that wrote each series of a workspace: those in which the writers' chains of roles began.
    ///
    /// # Panics
    /// Where there is no such workspace.
    pub fn writers_of(&self, id: &str) -> BTreeMap<Labels, BTreeSet<String>> {
        locked(&self.shared.workspace(id).unwrap_or_else(|| panic!("there is no workspace {id}")).writers)
            .clone()
    }

    /// What every request meets from now on; a single workspace's faults are its [`sink`](Self::sink)'s.
    pub fn set_fault(&self, fault: Fault) {
        self.set_faults(&[fault]);
    }

    /// What the requests meet from now on, one after the other and then from the start again.
    pub fn set_faults(&self, faults: &[Fault]) {
        self.shared.faults.set(faults);
        self.server.set_down(!faults.is_empty() && faults.iter().all(|fault| *fault == Fault::Down));
    }

    /// Lets a policy of the organisation or the network be in force for every request, or none.
    pub fn set_guardrail(&self, guardrail: Option<Guardrail>) {
        self.shared.state().guardrail = guardrail;
    }

    /// What was set so.
    pub fn guardrail(&self) -> Option<Guardrail> {
        self.shared.state().guardrail
    }

    /// Whether refusals say which policy did not allow it (`… because no identity-based policy allows …`). It is on at
    /// first.
    pub fn set_reasons(&self, reasons: bool) {
        self.shared.state().reasons = reasons;
    }
}

impl Shared {
    async fn answer(&self, head: Parts, body: Bytes) -> Result<Response<String>, Closed> {
        let mut write = Write {
            at: SystemTime::now(),
            workspace: workspace_of(head.uri.path()).unwrap_or_default().to_owned(),
            caller_arn: None,
            origin_account: None,
            status: None,
            message: None,
        };
        let (fault, _) = self.faults.next();
        let answer = match fault {
            Fault::None => self.write(&head, body, &mut write).await,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                self.write(&head, body, &mut write).await
            }
            Fault::Down => Err(Stopped::Closed),
            Fault::Throttling => Err(Refusal::throttling().into()),
            Fault::RegionDisabled => Err(Refusal::region_disabled().into()),
            Fault::Nonsense => Ok(nonsense()),
            Fault::Echo => Ok(echo(&head, &body)),
        };
        let response = match answer {
            Ok(response) => response,
            Err(Stopped::Refused(refusal)) => {
                write.message = Some(refusal.message.clone());
                refusal.to_response(&random::uuid())
            }
            Err(Stopped::Closed) => {
                self.state().requests.push(write);
                return Err(Closed);
            }
        };
        write.status = Some(response.status());
        self.state().requests.push(write);
        Ok(response)
    }

    async fn write(&self, head: &Parts, body: Bytes, write: &mut Write) -> Result<Response<String>, Stopped> {
        if write.workspace.is_empty() || head.method != Method::POST {
            return Err(Refusal::missing_authentication_token().into());
        }
        let scope = Scope { region: self.region.clone(), service: String::from("aps") };
        let identity = self.cloud.verify(head, &body, scope).map_err(|error| Refusal::signature(&error))?;
        write.caller_arn = Some(identity.caller.arn().to_owned());
        write.origin_account = Some(identity.origin_account.clone());
        let workspace = self.authorized(&identity, &write.workspace).await?;
        let response = forward(&workspace.sink, head, body.clone()).await?;
        if response.status().is_success() {
            add_writer(&workspace, &identity.origin_account, head, &body);
        }
        Ok(response)
    }

    /// The workspace that an identity may write to.
    ///
    /// An account sees its own workspaces and those whose resource policy speaks of it at all; others are not found, once
    /// the caller's own policies allow the action (open-telemetry aws-otel-collector#2155).
    async fn authorized(&self, identity: &Identity, id: &str) -> Result<Workspace, Refusal> {
        let own = self.cloud.identity_policies(identity).await;
        let workspace = self.workspace(id);
        let caller_account = identity.caller.account();
        let is_visible = |workspace: &Workspace| {
            workspace.account == caller_account || workspace.resource_policy.is_some()
        };
        let visible = workspace.filter(is_visible);
        let account = visible.as_ref().map_or(caller_account, |workspace| &workspace.account);
        let resource = self.arn(account, id);
        let access = Access::new(identity.caller.clone(), ACTION, resource)
            .with("aws:RequestedRegion", self.region.as_str());
        let policy = visible.as_ref().and_then(|workspace| workspace.resource_policy.as_ref());
        let (guardrail, reasons) = {
            let state = self.state();
            (state.guardrail, state.reasons)
        };
        if let Some(guardrail) = guardrail {
            return Err(Refusal::guardrail(&access, guardrail, reasons));
        }
        let verdict = authorize(&access, &own, policy, false);
        verdict.map_err(|missing: Missing| Refusal::not_authorized(&access, missing, reasons))?;
        visible.ok_or_else(Refusal::workspace_not_found)
    }

    fn workspace(&self, id: &str) -> Option<Workspace> {
        self.state().workspaces.get(id).cloned()
    }

    fn arn(&self, account: &str, id: &str) -> String {
        format!("arn:aws:aps:{}:{account}:workspace/{id}", self.region)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

/// Why a request is not answered by the workspace.
enum Stopped {
    Refused(Refusal),
    Closed,
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The id in `/workspaces/ID/api/v1/remote_write`, which is the whole path.
fn workspace_of(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/workspaces/")?.strip_suffix("/api/v1/remote_write")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// Hands a request on and its answer back; what the sink does not answer is not answered here either.
async fn forward(sink: &Sink, head: &Parts, body: Bytes) -> Result<Response<String>, Stopped> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static("/api/v1/write");
    let is_kept = |name: &str| {
        !matches!(name, "connection" | "content-length" | "transfer-encoding" | "authorization")
            && !name.starts_with("x-amz-")
    };
    for (name, value) in head.headers.iter().filter(|(name, _)| is_kept(name.as_str())) {
        request.headers_mut().append(name, value.clone());
    }
    let answer = client::call(sink.address(), request).await.map_err(|_| Stopped::Closed)?;
    let (mut head, body) = answer.into_parts();
    for name in ["connection", "content-length", "transfer-encoding", "date"] {
        head.headers.remove(name);
    }
    if let Ok(request_id) = http::HeaderValue::try_from(random::uuid()) {
        head.headers.insert("x-amzn-requestid", request_id);
    }
    Ok(Response::from_parts(head, String::from_utf8_lossy(&body).into_owned()))
}

/// Remembers who wrote each series of a request that the sink has taken in.
fn add_writer(workspace: &Workspace, account: &str, head: &Parts, body: &[u8]) {
    let Ok(message) = snap::raw::Decoder::new().decompress_vec(body) else { return };
    let content_type =
        head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_v2 = content_type.contains("io.prometheus.write.v2.Request");
    let mut writers = locked(&workspace.writers);
    // The sink has taken it in: it reads.
    let _ = each_series(&message, if is_v2 { Protocol::V2 } else { Protocol::V1 }, |series| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let labels = series.labels.iter().map(|(name, value)| (text(name), text(value))).collect();
        writers.entry(labels).or_default().insert(account.to_owned());
    });
}

fn nonsense() -> Response<String> {
    let mut response = Response::new(String::from("<html><body><h1>502 Bad Gateway</h1></body></html>"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/html"));
    response
}

fn check(resource_policy: &Option<Policy>) {
    if let Some(policy) = resource_policy {
        let text = policy.as_str();
        assert!(
            policy.is_of_resource(),
            "a resource policy's statements have a Principal and a Resource: {text}"
        );
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
