//! Two accounts in which everything is right: a cluster's and the one with the workspace.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use promferry_aws_stand_in::{Cloud, Issuer, Keys, Moto, Policy, Sts, Workspaces};

use crate::raw::{Answer, Call, Signer};

pub(crate) const CLUSTER: &str = "111122223333";
pub(crate) const HUB: &str = "444455556666";
pub(crate) const COLLECTOR: &str = "arn:aws:iam::111122223333:role/cluster/collector";
pub(crate) const WRITER: &str = "arn:aws:iam::444455556666:role/hub-writer";
pub(crate) const USER: &str = "arn:aws:iam::111122223333:user/somebody";
pub(crate) const SUBJECT: &str = "system:serviceaccount:monitoring:promferry";
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) issuer: Issuer,
    pub(crate) sts: Sts,
    pub(crate) workspaces: Workspaces,
    pub(crate) user: Keys,
    /// A session of the collector's role.
    pub(crate) session: Signer,
}

impl World {
    pub(crate) async fn over(cloud: Cloud) -> Self {
        let issuer = Issuer::start().await;
        cloud.add_provider(CLUSTER, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(CLUSTER), SUBJECT, AUDIENCE);
        cloud.add_role(COLLECTOR, trust, None, 12 * HOUR).await;
        cloud.add_role(WRITER, Policy::no_trust(), None, 2 * HOUR).await;
        let user = cloud.add_user(USER, Policy::allowing("sts:AssumeRole", WRITER)).await;
        let sts = Sts::start_in(&cloud, "eu-west-1").await;
        let workspaces = Workspaces::start(&cloud, "eu-west-1").await;
        workspaces.add(CLUSTER, "ws-own", None).await;
        workspaces.add(HUB, "ws-hub", None).await;
        let session = Signer {
            access_key_id: String::new(),
            secret_access_key: String::new(),
            session_token: None,
            region: "eu-west-1",
            service: "sts",
            at: SystemTime::now(),
        };
        let mut world = Self { cloud, issuer, sts, workspaces, user, session };
        world.set_right().await;
        world.session = world.web_identity().send().await.session();
        world
    }

    /// Sets everything right that a test may have changed.
    pub(crate) async fn set_right(&self) {
        let trust = Policy::web_identity_trust(&self.issuer.provider_arn(CLUSTER), SUBJECT, AUDIENCE);
        self.cloud.set_trust(COLLECTOR, trust).await;
        let policy = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "arn:aws:iam::444455556666:role/hub-*"},
            {"Effect": "Allow", "Action": "aps:RemoteWrite", "Resource": "arn:aws:aps:*:*:workspace/*"}
        ]}"#;
        self.cloud.set_permissions(COLLECTOR, Some(Policy::parse(policy).unwrap())).await;
        self.cloud.set_trust(WRITER, Self::writer_trust()).await;
        self.cloud.set_permissions(WRITER, Some(Policy::allowing("aps:RemoteWrite", "*"))).await;
        self.workspaces.set_resource_policy("ws-own", None);
        self.workspaces.set_resource_policy("ws-hub", Some(Self::hub_policy()));
        self.workspaces.set_guardrail(None);
        self.workspaces.set_reasons(true);
        self.cloud.set_clock(0);
        self.sts.set_reasons(true);
        self.issuer.set_down(false);
    }

    pub(crate) fn writer_trust() -> Policy {
        let trust = r#"{"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": ["arn:aws:iam::111122223333:role/cluster/collector", "111122223333"]},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "external-7"}}
        }]}"#;
        Policy::parse(trust).unwrap()
    }

    pub(crate) fn hub_policy() -> Policy {
        let policy = r#"{"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:role/cluster/collector"},
            "Action": "aps:RemoteWrite",
            "Resource": "arn:aws:aps:eu-west-1:444455556666:workspace/ws-hub"
        }]}"#;
        Policy::parse(policy).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        self.issuer.token(SUBJECT, AUDIENCE, HOUR)
    }

    pub(crate) fn web_identity(&self) -> Call {
        let form = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", COLLECTOR),
            ("RoleSessionName", "promferry"),
            ("WebIdentityToken", &self.token()),
        ];
        Call::sts(&self.sts.url(), &form, None)
    }

    /// The writer's role by a session of the collector's.
    pub(crate) fn assume_role(&self) -> Call {
        let form = [
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", WRITER),
            ("RoleSessionName", "promferry"),
            ("ExternalId", "external-7"),
        ];
        Call::sts(&self.sts.url(), &form, Some(self.now(&self.session)))
    }

    pub(crate) fn caller_identity(&self) -> Call {
        let form = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
        Call::sts(&self.sts.url(), &form, Some(self.now(&self.session)))
    }

    pub(crate) fn write(&self, workspace: &str) -> Call {
        let signer = Signer { service: "aps", ..self.now(&self.session) };
        Call::write(&self.workspaces.url(workspace), signer)
    }

    pub(crate) fn user(&self) -> Signer {
        Signer {
            access_key_id: self.user.access_key_id.clone(),
            secret_access_key: self.user.secret_access_key.clone(),
            session_token: None,
            ..self.now(&self.session)
        }
    }

    fn now(&self, signer: &Signer) -> Signer {
        Signer { at: self.cloud.now(), ..signer.clone() }
    }
}

/// One check: what is wrong, and how it is refused.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) wrong: Wrong,
    pub(crate) status: u16,
    /// STS' code, or the workspace's `x-amzn-errortype`.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// The one thing that is wrong.
pub(crate) enum Wrong {
    Call(fn(&World, &mut Call)),
    Trust(&'static str, String),
    Permissions(&'static str, Option<&'static str>),
    ResourcePolicy(&'static str, Option<String>),
    World(fn(&World)),
}

pub(crate) fn row(
    name: &'static str,
    wrong: Wrong,
    (status, code): (u16, &'static str),
    message: impl Into<String>,
) -> Row {
    Row { name, wrong, status, code, message: message.into() }
}

/// Sees each row refused, and the same call with that one thing right taken.
pub(crate) async fn check(world: &World, rows: Vec<Row>, call: impl Fn(&World) -> Call) {
    for row in rows {
        let mut wrong = call(world);
        match &row.wrong {
            Wrong::Call(change) => change(world, &mut wrong),
            Wrong::Trust(role, trust) => world.cloud.set_trust(role, Policy::parse(trust).unwrap()).await,
            Wrong::Permissions(role, policy) => {
                let policy = policy.map(|policy| Policy::parse(policy).unwrap());
                world.cloud.set_permissions(role, policy).await;
            }
            Wrong::ResourcePolicy(id, policy) => {
                let policy = policy.as_ref().map(|policy| Policy::parse(policy).unwrap());
                world.workspaces.set_resource_policy(id, policy);
            }
            Wrong::World(change) => change(world),
        }
        let answer = wrong.send().await;
        let (code, message) = refusal(&answer);
        assert_eq!((answer.status, code.as_str()), (row.status, row.code), "{}: {}", row.name, answer.body);
        assert!(message.starts_with(&row.message), "{}: {message:?} is not {:?}", row.name, row.message);
        assert_eq!(answer.header("x-amzn-requestid").len(), 36, "{}: {:?}", row.name, answer.headers);
        world.set_right().await;
        let answer = call(world).send().await;
        assert!((200..300).contains(&answer.status), "not {}: {}", row.name, answer.body);
    }
}

fn refusal(answer: &Answer) -> (String, String) {
    if answer.body.starts_with('<') {
        let message =
            answer.element("Message").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        return (answer.element("Code").to_owned(), message);
    }
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let message = body.get("message").or_else(|| body.get("Message")).and_then(serde_json::Value::as_str);
    (answer.header("x-amzn-errortype").to_owned(), message.unwrap_or_default().to_owned())
}

pub(crate) async fn moto_or_skip(test: &str) -> Option<Moto> {
    let python = python_or_skip(test, "moto")?;
    Some(Moto::start(&python).await.expect("a Python with moto"))
}

/// The Python of the judges, where it has this package.
pub(crate) fn python_or_skip(test: &str, package: &str) -> Option<PathBuf> {
    let python = Moto::python();
    let find = format!("import importlib.util as u, sys; sys.exit(u.find_spec('{package}') is None)");
    let has_it = Command::new(&python).args(["-c", &find]).status().is_ok_and(|status| status.success());
    if !has_it {
        let required = std::env::var_os("PROMFERRY_REQUIRE_JUDGES").is_some_and(|value| value == "1");
        assert!(!required, "{test} needs {package}, which scripts/python did not provide");
        eprintln!("SKIPPED {test}: {} has no {package}, run scripts/python", python.display());
    }
    has_it.then_some(python)
}
