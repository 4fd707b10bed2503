//! The roles and policies of `iam/hub/`, evaluated as IAM does, and played with `config/hub-account.yml`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use promferry_aws_stand_in::{
    Access, Caller, Cloud, Decision, Issuer, Missing, Policy, ProjectedToken, Sts, Workspaces, authorize,
};
use promferry_config::{Config, DiskFiles, Endpoint};
use promferry_remote_write::wire::{self, v1};
use promferry_sigv4_auth::{Environment, SigV4Config, SigV4Layer};
use tower::{Layer as _, ServiceExt as _};

const ISSUER: &str = "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const SUBJECT: &str = "system:serviceaccount:monitoring:promferry";
const AUDIENCE: &str = "sts.amazonaws.com";
const ORDERS: &str = "123456789012";
const BILLING: &str = "345678901234";
const STRANGER: &str = "456789012345";
const WRITE: &str = "aps:RemoteWrite";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn policy(name: &str) -> Policy {
    let text = std::fs::read_to_string(folder().join("iam/hub").join(name)).unwrap();
    Policy::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The role of an account's collector.
fn collector(account: &str) -> String {
    format!("arn:aws:iam::{account}:role/promferry")
}

fn session(role_arn: &str) -> Caller {
    Caller::session(role_arn, "promferry-1")
}

/// What the configuration says of the hub and of the account's own workspace.
struct Configured {
    hub: Endpoint,
    own: Endpoint,
    account: String,
}

impl Configured {
    fn load() -> Self {
        let path = folder().join("config/hub-account.yml");
        let config = Config::load_prometheus(&path, &DiskFiles, &|_: &str| None).unwrap();
        let [hub, own] = <[Endpoint; 2]>::try_from(config.remote_write).unwrap();
        Self { hub, own, account: config.global.external_labels.get("account").to_owned() }
    }

    fn role_arn(&self) -> &str {
        sigv4(&self.hub).role_arn.as_deref().unwrap()
    }

    fn hub_account(&self) -> &str {
        self.role_arn().split(':').nth(4).unwrap()
    }

    fn hub_workspace(&self) -> String {
        workspace_arn(&self.hub, self.hub_account())
    }

    fn own_workspace(&self) -> String {
        workspace_arn(&self.own, &self.account)
    }
}

fn sigv4(endpoint: &Endpoint) -> &SigV4Config {
    endpoint.sigv4.as_ref().unwrap()
}

fn workspace_id(endpoint: &Endpoint) -> &str {
    endpoint.write.url.split('/').nth(4).unwrap()
}

fn workspace_arn(endpoint: &Endpoint, account: &str) -> String {
    let region = sigv4(endpoint).region.as_deref().unwrap();
    format!("arn:aws:aps:{region}:{account}:workspace/{}", workspace_id(endpoint))
}

#[test]
fn each_account_becomes_the_writer_with_its_own_external_id() {
    let configured = Configured::load();
    assert_eq!(configured.account, ORDERS);
    let external_id = sigv4(&configured.hub).external_id.as_deref();
    assert_eq!(external_id, Some("orders-prod"));
    let trust = policy("writer-trust.json");
    let other_role = format!("arn:aws:iam::{ORDERS}:role/somebody");
    for (role, external_id, decision) in [
        (&collector(ORDERS), external_id, Decision::Allowed),
        (&collector(BILLING), Some("billing-prod"), Decision::Allowed),
        (&collector(ORDERS), None, Decision::ImplicitDeny),
        (&collector(ORDERS), Some("billing-prod"), Decision::ImplicitDeny),
        (&collector(BILLING), Some("orders-prod"), Decision::ImplicitDeny),
        (&collector(STRANGER), Some("orders-prod"), Decision::ImplicitDeny),
        (&other_role, Some("orders-prod"), Decision::ImplicitDeny),
    ] {
        let mut access = Access::new(session(role), "sts:AssumeRole", configured.role_arn());
        if let Some(external_id) = external_id {
            access = access.with("sts:ExternalId", external_id);
        }
        assert_eq!(trust.evaluate(&access), decision, "{role} {external_id:?}");
        // Both sides have to allow it.
        let both = authorize(&access, &[policy("collector-policy.json")], Some(&trust), true);
        assert_eq!(both.is_ok(), decision == Decision::Allowed, "{role} {external_id:?}");
        assert!(authorize(&access, &[], Some(&trust), true).is_err(), "{role}");
    }
}

#[test]
fn the_writer_writes_and_does_nothing_else() {
    let configured = Configured::load();
    let writer = session(configured.role_arn());
    let may = |action: &str, resource: &str| {
        policy("writer-policy.json").evaluate(&Access::new(writer.clone(), action, resource))
            == Decision::Allowed
    };
    assert!(may(WRITE, &configured.hub_workspace()));
    for action in ["aps:QueryMetrics", "aps:GetSeries", "aps:DeleteWorkspace", "aps:PutRuleGroupsNamespace"] {
        assert!(!may(action, &configured.hub_workspace()), "{action}");
    }
    assert!(!may(WRITE, &configured.own_workspace()));
    assert!(!may(WRITE, &configured.hub_workspace().replace("000001", "000003")));
}

#[test]
fn the_workspaces_policy_lets_in_whom_it_names_and_nobody_else() {
    let configured = Configured::load();
    let (own, resource) = ([policy("collector-policy.json")], policy("workspace-resource-policy.json"));
    let write = |account: &str| Access::new(session(&collector(account)), WRITE, configured.hub_workspace());
    for account in [ORDERS, BILLING] {
        assert_eq!(authorize(&write(account), &own, Some(&resource), false), Ok(()), "{account}");
        let alone = authorize(&write(account), &own, None, false);
        assert_eq!(alone, Err(Missing::ResourcePolicy), "{account}");
        let alone = authorize(&write(account), &[], Some(&resource), false);
        assert_eq!(alone, Err(Missing::IdentityPolicy), "{account}");
    }
    let stranger = authorize(&write(STRANGER), &own, Some(&resource), false);
    assert_eq!(stranger, Err(Missing::ResourcePolicy));
    let query = Access { action: "aps:QueryMetrics".to_owned(), ..write(ORDERS) };
    assert!(authorize(&query, &own, Some(&resource), false).is_err());
    // The account's own workspace needs no policy of its own.
    let own_write = Access::new(session(&collector(ORDERS)), WRITE, configured.own_workspace());
    assert_eq!(authorize(&own_write, &own, None, false), Ok(()));
}

#[test]
fn the_service_account_gets_the_collectors_role() {
    let trust = policy("irsa-trust.json");
    let name = ISSUER.strip_prefix("https://").unwrap();
    let may = |provider: &str, subject: &str, audience: &str| {
        let caller =
            Caller::WebIdentity { provider_arn: format!("arn:aws:iam::{ORDERS}:oidc-provider/{provider}") };
        let access = Access::new(caller, "sts:AssumeRoleWithWebIdentity", collector(ORDERS))
            .with(&format!("{provider}:sub"), subject)
            .with(&format!("{provider}:aud"), audience);
        trust.evaluate(&access) == Decision::Allowed
    };
    assert!(may(name, SUBJECT, AUDIENCE));
    assert!(!may(name, "system:serviceaccount:monitoring:default", AUDIENCE));
    assert!(!may(name, "system:serviceaccount:shop:promferry", AUDIENCE));
    assert!(!may(name, SUBJECT, "https://kubernetes.default.svc"));
    assert!(!may("oidc.eks.eu-west-1.amazonaws.com/id/ANOTHERCLUSTER", SUBJECT, AUDIENCE));
}

/// The whole way of a pod with the configuration as it is, but for where the workspace and STS listen.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_writes_to_the_hub_with_these_policies() {
    let configured = Configured::load();
    let (cloud, issuer) = (Cloud::memory(), Issuer::start_as(ISSUER).await);
    cloud.add_provider(ORDERS, &issuer, &[AUDIENCE]).await;
    let hour = Duration::from_secs(3600);
    let own = policy("collector-policy.json");
    cloud.add_role(&collector(ORDERS), policy("irsa-trust.json"), Some(own), hour).await;
    let may_write = policy("writer-policy.json");
    cloud.add_role(configured.role_arn(), policy("writer-trust.json"), Some(may_write), hour).await;
    let sts = Sts::start(&cloud).await;
    let region = sigv4(&configured.hub).region.as_deref().unwrap();
    let workspaces = Workspaces::start(&cloud, region).await;
    let id = workspace_id(&configured.hub);
    workspaces.add(configured.hub_account(), id, None).await;
    let folder = tempfile::tempdir().unwrap();
    let token = ProjectedToken::new(folder.path(), &issuer.token(SUBJECT, AUDIENCE, hour));
    let environment = Environment::from_pairs([
        ("AWS_ROLE_ARN", collector(ORDERS)),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ]);

    let by_role = sigv4(&configured.hub).clone();
    let directly = SigV4Config { role_arn: None, external_id: None, ..by_role.clone() };
    let url: Uri = workspaces.url(id).parse().unwrap();
    assert_eq!(write(&by_role, &url, &environment).await, StatusCode::NO_CONTENT);
    assert!(write(&directly, &url, &environment).await.is_client_error(), "it is not shared yet");
    workspaces.set_resource_policy(id, Some(policy("workspace-resource-policy.json")));
    assert_eq!(write(&directly, &url, &environment).await, StatusCode::NO_CONTENT);
    assert_eq!(workspaces.stats(id).samples, 2);
}

async fn write(sigv4: &SigV4Config, url: &Uri, environment: &Environment) -> StatusCode {
    let labels = [("__name__", "up"), ("cluster", "orders-prod")];
    let label = |(name, value): (&str, &str)| v1::Label { name: name.into(), value: value.into() };
    let series = v1::TimeSeries {
        labels: labels.map(label).to_vec(),
        samples: vec![v1::Sample { value: 1.0, timestamp: 1_700_000_000_000 }],
        ..Default::default()
    };
    let message = v1::WriteRequest { timeseries: vec![series], ..Default::default() };
    let request = Request::post(url)
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(Bytes::from(wire::encode(&message)))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let client = client.map_request(|request: Request<Bytes>| request.map(Full::new));
    let signing = SigV4Layer::from_config(sigv4, url, environment).unwrap();
    signing.layer(client).oneshot(request).await.unwrap().status()
}
