//! A pod in which the program is asked.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use promferry_aws_stand_in::{
    Access, Caller, Cloud, Decision, Guardrail, Issuer, Policy, ProjectedToken, Sts, Workspaces,
};
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use crate::collector::program;
use crate::iam::{
    ACCOUNT, AUDIENCE, HUB, REGION, ROLE, SERVICE_ACCOUNT, may_assume, may_write, policy, workspace_arn,
};
use crate::pinned::assert_is_in_file;
use crate::secrets::Emitted;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const WORKSPACE: &str = "ws-1";
pub(super) const HUB_ROLE: &str = "arn:aws:iam::444455556666:role/hub/writer";

/// The kinds of failures that a policy ends which can be written. Any other takes more than that, or is not of policies.
const A_POLICY_HELPS: [&str; 8] = [
    "role_trust",
    "caller_policy",
    "caller_policy_or_role_trust",
    "identity_policy",
    "resource_policy",
    "identity_or_resource_policy",
    "permissions_boundary",
    "session_policy",
];

/// A pod with IRSA whose role may write to a workspace of its account; each test takes something away.
pub(super) struct Pod {
    pub(super) cloud: Cloud,
    pub(super) issuer: Issuer,
    pub(super) token: ProjectedToken,
    pub(super) sts: Sts,
    pub(super) workspaces: Workspaces,
    environment: Vec<(String, String)>,
    pub(super) workspace: String,
    /// What stands in `sigv4` beside the region.
    pub(super) sigv4: String,
    /// What stands in the endpoint's entry beside that.
    pub(super) more: String,
    pub(super) folder: TempDir,
}

/// What the program answered.
pub(super) struct Answer {
    pub(super) code: i32,
    pub(super) text: String,
}

/// What the cloud's policies are at a time: a role's trust and permissions, the workspace's own, and one above them.
struct Policies {
    roles: Vec<(&'static str, Policy, Option<Policy>)>,
    of_workspace: Option<Policy>,
    guardrail: Option<Guardrail>,
}

impl Pod {
    pub(super) async fn new() -> Self {
        let cloud = Cloud::memory();
        let issuer = Issuer::start().await;
        cloud.add_provider(ACCOUNT, &issuer, &[AUDIENCE]).await;
        let trust = Policy::web_identity_trust(&issuer.provider_arn(ACCOUNT), SERVICE_ACCOUNT, AUDIENCE);
        cloud
            .add_role(ROLE, trust, Some(policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))])), HOUR)
            .await;
        // What is said is broken into lines, so the path's length has to be the same on every machine.
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let token = issuer.token(SERVICE_ACCOUNT, AUDIENCE, 24 * HOUR);
        let token = ProjectedToken::new(folder.path().join("serviceaccount"), &token);
        let sts = Sts::start(&cloud).await;
        let workspaces = Workspaces::start(&cloud, REGION).await;
        workspaces.add(ACCOUNT, WORKSPACE, None).await;
        let environment = [
            ("AWS_ROLE_ARN", ROLE.to_owned()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().display().to_string()),
            ("AWS_ROLE_SESSION_NAME", "pod-1".to_owned()),
            ("AWS_ENDPOINT_URL_STS", sts.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", "/nonexistent".to_owned()),
        ];
        Self {
            cloud,
            issuer,
            token,
            sts,
            workspaces,
            environment: environment.map(|(name, value)| (name.to_owned(), value)).into(),
            workspace: WORKSPACE.to_owned(),
            sigv4: String::new(),
            more: String::new(),
            folder,
        }
    }

    /// The pod's role goes on to a role of the hub's account, which may write to a workspace there.
    pub(super) async fn of_a_hub(external_id: Option<&str>) -> Self {
        let mut pod = Self::new().await;
        pod.workspaces.add(HUB, "ws-hub", None).await;
        pod.workspace = "ws-hub".to_owned();
        let write = policy(&[may_write(&workspace_arn(HUB, "ws-hub"))]);
        pod.cloud.add_role(HUB_ROLE, Policy::role_trust(ROLE, external_id), Some(write), HOUR).await;
        pod.cloud.set_permissions(ROLE, Some(policy(&[may_assume(HUB_ROLE)]))).await;
        pod.sigv4 = format!(", role_arn: '{HUB_ROLE}'");
        pod
    }

    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.unset(name);
        self.environment.push((name.to_owned(), value.into()));
    }

    pub(super) fn unset(&mut self, name: &str) {
        self.environment.retain(|(set, _)| set != name);
    }

    fn config(&self) -> String {
        format!(
            "global: {{external_labels: {{cluster: test}}}}\nremote_write:\n- name: amp\n  url: {}\n  \
             sigv4: {{region: {REGION}{}}}\n{}",
            self.workspaces.url(&self.workspace),
            self.sigv4,
            self.more,
        )
    }

    /// Runs the program with the pod's variables and no others.
    pub(super) async fn run(&self, flags: &[&str]) -> Answer {
        let file = self.folder.path().join("prometheus.yml");
        std::fs::write(&file, self.config()).unwrap();
        let mut command = Command::new(program());
        command.args(["aws", "whoami"]).args(flags).env_clear().envs(self.environment.iter().cloned());
        if !flags.iter().any(|flag| flag.starts_with("--url")) {
            command.arg(format!("--config.file={}", file.display()));
        }
        // The servers that it calls are in this process.
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let mut emitted = Emitted::default();
        emitted.add("stdout", &out);
        emitted.add("stderr", &err);
        let own = self.environment.iter().filter(|(name, _)| name == "AWS_SECRET_ACCESS_KEY");
        let own = own.map(|(_, secret)| secret.clone());
        emitted.assert_none_of(&self.cloud.secrets().into_iter().chain(own).collect::<Vec<_>>());
        Answer { code: output.status.code().unwrap(), text: out + &err }
    }

    /// Holds what is said, for people and for programs, against the file of this name.
    pub(super) async fn assert_says(&self, name: &str, code: i32, kind: Option<&str>) {
        let said = self.run(&[]).await;
        assert_eq!(said.code, code, "{}", said.text);
        assert_is_in_file(&format!("whoami/{name}"), &self.steady(&said.text));
        let json = self.run(&["--json"]).await;
        assert_eq!(json.code, code, "{}", json.text);
        let json: Value =
            serde_json::from_str(&json.text).unwrap_or_else(|error| panic!("{error}: {}", json.text));
        let endpoint = &json["endpoints"][0];
        assert_eq!(endpoint["failure"]["kind"].as_str(), kind, "{json}");
        let documented = include_str!("../../../../docs/configuration.md");
        for word in [&endpoint["failure"]["kind"], &endpoint["failure"]["reach"]] {
            let word = word.as_str().map(|word| format!("`{word}`")).unwrap_or_default();
            assert!(documented.contains(&word), "docs/configuration.md has no {word}");
        }
        let has_policies = endpoint["failure"]["needed"].as_array().is_some_and(|needed| !needed.is_empty());
        assert_eq!(kind.is_some_and(|kind| A_POLICY_HELPS.contains(&kind)), has_policies, "{json}");
        if has_policies {
            let before = self.policies().await;
            self.follow_until_it_may_write().await;
            self.put_back(before).await;
        }
    }

    /// What is said to be needed is what is needed: each time it is put there, that failure is gone, until the write is
    /// let in. The kinds of these failures.
    pub(super) async fn follow_until_it_may_write(&self) -> Vec<String> {
        let mut kinds = Vec::new();
        loop {
            let said = self.run(&["--json"]).await;
            let json: Value = serde_json::from_str(&said.text).unwrap();
            let failure = &json["endpoints"][0]["failure"];
            if failure.is_null() {
                assert_eq!(said.code, 0, "{json}");
                return kinds;
            }
            let kind = failure["kind"].as_str().unwrap().to_owned();
            assert!(!kinds.contains(&kind), "what was said to be needed does not help: {json}");
            kinds.push(kind);
            let needed = failure["needed"].as_array().unwrap();
            assert!(!needed.is_empty(), "{json}");
            for needed in needed {
                self.give(needed).await;
            }
        }
    }

    async fn policies(&self) -> Policies {
        let mut roles = Vec::new();
        for role in [ROLE, HUB_ROLE] {
            if let Some((trust, permissions)) = self.cloud.policies_of(role).await {
                roles.push((role, trust, permissions));
            }
        }
        Policies {
            roles,
            of_workspace: self.workspaces.resource_policy(&self.workspace),
            guardrail: self.workspaces.guardrail(),
        }
    }

    async fn put_back(&self, policies: Policies) {
        for (role, trust, permissions) in policies.roles {
            self.cloud.set_trust(role, trust).await;
            self.cloud.set_permissions(role, permissions).await;
        }
        self.workspaces.set_resource_policy(&self.workspace, policies.of_workspace);
        self.workspaces.set_guardrail(policies.guardrail);
    }

    /// What is found on the way to an endpoint, with the credentials that there are.
    pub(super) async fn reach(&self, endpoint: &str) -> Value {
        let found = self.ask(endpoint).await;
        assert_eq!(found["may_write"], Value::Null, "{found}");
        found["failure"]["reach"].clone()
    }

    /// What is said of a server that nobody can write to.
    pub(super) async fn ask(&self, endpoint: &str) -> Value {
        let url = format!("--url={endpoint}/workspaces/{WORKSPACE}/api/v1/remote_write");
        let said = self.run(&[&url, "--region=eu-west-1", "--json"]).await;
        assert_eq!(said.code, 1, "{}", said.text);
        let json: Value = serde_json::from_str(&said.text).unwrap();
        json["endpoints"][0].clone()
    }

    /// Does with a policy what is said to do with it.
    pub(super) async fn give(&self, needed: &Value) {
        let policy =
            Policy::parse(&needed["policy"].to_string()).unwrap_or_else(|error| panic!("{error}: {needed}"));
        let place = needed["place"].as_str().unwrap();
        match place.split_once(" of ").unwrap() {
            ("trust policy", role) if self.cloud.policies_of(role).await.is_none() => {
                self.cloud.add_role(role, policy, None, HOUR).await;
            }
            ("trust policy", role) => self.cloud.set_trust(role, policy).await,
            ("a policy", user) if user.contains(":user/") => drop(self.cloud.add_user(user, policy).await),
            ("a policy", role) => self.cloud.set_permissions(role, Some(policy)).await,
            ("resource policy", workspace) => {
                assert_eq!(workspace, self.workspaces.arn(&self.workspace));
                self.workspaces.set_resource_policy(&self.workspace, Some(policy));
            }
            // It is in force whatever it says; one that says this would not refuse.
            ("permissions boundary" | "session policy", role) => {
                let caller = Caller::session(role, "pod-1");
                let write = Access::new(caller, "aps:RemoteWrite", self.workspaces.arn(&self.workspace));
                assert_eq!(policy.evaluate(&write), Decision::Allowed, "{needed}");
                self.workspaces.set_guardrail(None);
            }
            _ => panic!("{place}"),
        }
    }

    /// The text with names in place of what differs from run to run.
    pub(super) fn steady(&self, text: &str) -> String {
        static CHANGES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
            let changes = [
                // What the resolver says of a name that is not there differs from machine to machine.
                (r"(address\s+information:)[^)]*\)", "$1 …)"),
                (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
                (r"localhost:\d+", "localhost:PORT"),
                (r"port(\s+)\d{5}\b", "port${1}PORT"),
                (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
                (r"\bid/[0-9A-F]{32}\b", "id/CLUSTER"),
                (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \((in )?[^)]*?( ago)?\)", "TIME (${1}SPAN$2)"),
                (r"\b\d{10}\b", "SECONDS"),
            ];
            changes.map(|(pattern, name)| (Regex::new(pattern).unwrap(), name)).into()
        });
        let text = text.replace(&self.folder.path().display().to_string(), "/…");
        CHANGES.iter().fold(text, |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
    }
}
