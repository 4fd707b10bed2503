//! Whose credentials they are, and what is missing where there are none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, Uri};
use promferry_sigv4_auth::verify::KnownKey;
use promferry_sigv4_auth::{
    BaseCredentials, CredentialChain, CredentialsConfig, FailureKind, Reach, RoleStep, Scope, Secret, WhoAmI,
};
use tempfile::TempDir;

use crate::fake_sts::{FakeSts, HUB_ROLE, WEB_ROLE};

const SIGNATURE: &str = "very-secret-signature";

/// A pod with IRSA, and the role that it goes on to.
struct Pod {
    sts: FakeSts,
    directory: TempDir,
}

impl Pod {
    async fn new() -> Self {
        let claims = r#"{"iss":"https://oidc.eks.eu-west-1.amazonaws.com/id/ABC","sub":"system:serviceaccount:monitoring:promferry","aud":["sts.amazonaws.com"],"exp":1795348800}"#;
        let token = format!("head.{}.{SIGNATURE}", URL_SAFE_NO_PAD.encode(claims));
        let pod = Self { sts: FakeSts::start().await, directory: TempDir::new().expect("a directory") };
        std::fs::write(pod.directory.path().join("token"), &token).expect("written");
        pod.sts.state().token = token;
        pod
    }

    async fn who(&self, web_role: &str, roles: Vec<RoleStep>) -> WhoAmI {
        let file = self.directory.path().join("token");
        let environment = self.sts.environment(&[
            ("AWS_ROLE_ARN", web_role),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().expect("UTF-8")),
            ("AWS_ROLE_SESSION_NAME", "pod-1"),
        ]);
        let config = CredentialsConfig { roles, ..CredentialsConfig::default() };
        let who = CredentialChain::new(&config, environment, "eu-west-1").expect("a chain").who_am_i().await;
        let shown = format!("{who:?}");
        for secret in [SIGNATURE, "given-secret-", "given-token-"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        who
    }
}

fn hub(external_id: &str) -> RoleStep {
    RoleStep { external_id: Some(external_id.to_owned()), ..RoleStep::new(HUB_ROLE) }
}

proptest::proptest! {
    /// Whatever answers an endpoint or a proxy on the way gives, they are explained on one line.
    #[test]
    fn any_answer_is_explained(
        body in proptest::prelude::any::<Vec<u8>>(),
        told in r"(User: )?\PC{0,40} not authorized to perform: \PC{0,40}(on resource: )?\PC{0,40}(explicit deny|because no) \PC{0,40}\([0-9TZ]{0,20} [-+] 5",
    ) {
        let endpoint = Uri::from_static("https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write");
        for body in [body.as_slice(), told.as_bytes()] {
            let why = promferry_sigv4_auth::explain_denial(StatusCode::FORBIDDEN, body, &HeaderMap::new(), &endpoint);
            let why = why.expect("a denial");
            proptest::prop_assert!(!why.message.is_empty() && !why.message.contains('\n'), "{:?}", why);
            proptest::prop_assert!(why.message.len() < 20_000);
        }
        let _ = promferry_sigv4_auth::NotAuthorized::parse(&told).crosses_accounts();
    }
}

#[tokio::test]
async fn every_step_is_asked_for_its_identity() {
    let pod = Pod::new().await;
    let who = pod.who(WEB_ROLE, vec![hub("external-7")]).await;
    assert_eq!(who.failure, None);
    let token = who.token.as_ref().expect("a token");
    assert_eq!(token.subject, "system:serviceaccount:monitoring:promferry");
    assert!(token.expires_at.is_some());
    let steps: Vec<_> =
        who.chain.iter().map(|step| (step.provider.as_str(), step.external_id_given)).collect();
    assert_eq!(steps, [("web identity", false), ("assume role", true)]);
    let arns: Vec<_> =
        who.chain.iter().map(|step| step.identity.as_ref().expect("an identity").arn.as_str()).collect();
    assert_eq!(
        arns,
        [
            "arn:aws:sts::222222222222:assumed-role/ASIAGIVEN1/s",
            "arn:aws:sts::222222222222:assumed-role/ASIAGIVEN2/s"
        ]
    );
    assert_eq!(who.principal_arn().as_deref(), Some(HUB_ROLE));
    assert!(who.credentials.is_some_and(|credentials| credentials.expires_at().is_some()));
    let actions: Vec<_> = pod.sts.state().calls.iter().map(|(action, ..)| action.clone()).collect();
    assert_eq!(
        actions,
        ["AssumeRoleWithWebIdentity", "AssumeRole", "GetCallerIdentity", "GetCallerIdentity"]
    );
}

#[tokio::test]
async fn a_trust_that_is_missing_is_written_out() {
    let pod = Pod::new().await;
    let who = pod.who("arn:aws:iam::111111111111:role/other", vec![hub("external-7")]).await;
    let failure = who.failure.expect("refused");
    assert_eq!(failure.kind, FailureKind::RoleTrust);
    assert!(failure.answer.expect("AWS' words").starts_with("AccessDenied: Not authorized"));
    let [needed] = failure.needed.as_slice() else { panic!("{:?}", failure.needed) };
    assert_eq!(needed.place, "trust policy of arn:aws:iam::111111111111:role/other");
    for needle in [
        "arn:aws:iam::111111111111:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC",
        "\"oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub\": \"system:serviceaccount:monitoring:promferry\"",
    ] {
        assert!(needed.json.contains(needle), "{needle} in {}", needed.json);
    }

    // The second role: AWS does not say which side refuses, so there are two to look at.
    let who = pod.who(WEB_ROLE, vec![hub("wrong-id")]).await;
    assert_eq!(who.chain.len(), 1, "the way as far as it led");
    let failure = who.failure.expect("refused");
    assert_eq!(failure.kind, FailureKind::CallerPolicyOrRoleTrust);
    let places: Vec<_> = failure.needed.iter().map(|needed| needed.place.as_str()).collect();
    assert_eq!(places, [format!("a policy of {WEB_ROLE}"), format!("trust policy of {HUB_ROLE}")]);
    assert!(failure.needed[0].json.contains(HUB_ROLE) && failure.needed[1].json.contains(WEB_ROLE));
    assert!(
        failure.needed[1].json.contains("\"sts:ExternalId\": \"wrong-id\""),
        "{}",
        failure.needed[1].json
    );
}

#[tokio::test]
async fn an_sts_that_gives_no_answer_is_looked_for() {
    let pod = Pod::new().await;
    pod.sts.server.set_down(true);
    let failure = pod.who(WEB_ROLE, Vec::new()).await.failure.expect("no answer");
    assert_eq!(failure.kind, FailureKind::Route(Reach::Answers { private: true }), "{}", failure.what);

    let config = CredentialsConfig {
        base: BaseCredentials::Static {
            access_key: String::from("AKID"),
            secret_key: Secret::new("static-secret"),
            session_token: None,
        },
        roles: vec![RoleStep::new(HUB_ROLE)],
        ..CredentialsConfig::default()
    };
    let gone =
        tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    for (url, kind) in [
        (format!("http://{gone}"), FailureKind::Route(Reach::Refused)),
        (String::from("http://sts.eu-west-1.invalid"), FailureKind::Route(Reach::NoSuchName)),
    ] {
        let environment = promferry_sigv4_auth::Environment::from_pairs([("AWS_ENDPOINT_URL_STS", url)]);
        let who = CredentialChain::new(&config, environment, "eu-west-1").expect("a chain").who_am_i().await;
        assert_eq!(who.failure.expect("no way").kind, kind);
        assert!(who.chain[0].identity.is_err());
    }
}

#[tokio::test]
async fn an_endpoints_answer_is_judged_for_this_identity() {
    let pod = Pod::new().await;
    pod.sts.state().keys.insert(String::from("AKIDBASE"), KnownKey::new("base-secret"));
    let who = pod.who(WEB_ROLE, vec![hub("external-7")]).await;
    let endpoint = Uri::from_static(
        "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
    );
    let scope = Scope { region: String::from("eu-west-1"), service: String::from("aps") };
    let judge = |status: u16, body: &str| {
        let status = StatusCode::from_u16(status).expect("a status");
        who.judge(&endpoint, &scope, status, &HeaderMap::new(), body.as_bytes())
    };
    for allowed in [200, 204, 400, 429] {
        assert_eq!(judge(allowed, "anything"), None, "{allowed}");
    }
    for (text, kind) in [
        ("The security token included in the request is expired", FailureKind::Keys),
        ("The security token included in the request is invalid.", FailureKind::Keys),
        (
            "The request signature we calculated does not match the signature you provided.",
            FailureKind::Signature,
        ),
        ("Credential should be scoped to a valid region, not 'us-east-1'.", FailureKind::Signature),
        (
            "Signature expired: 20261122T000000Z is now earlier than 20261122T001000Z (20261122T001500Z - 5 min.)",
            FailureKind::ClockSkew,
        ),
        ("Missing Authentication Token", FailureKind::Endpoint),
    ] {
        let failure = judge(403, &format!(r#"{{"message":"{text}"}}"#)).expect("refused");
        assert_eq!(failure.kind, kind, "{text}");
        assert!(failure.needed.is_empty() && !failure.what.is_empty(), "{failure:?}");
    }
    // The errors that some of AWS' services answer with 400 (API references, "Common Errors").
    for (body, kind) in [
        (
            r#"{"__type":"AccessDeniedException","message":"User: arn:aws:sts::222222222222:assumed-role/hub-writer/pod-1 is not authorized to perform: aps:RemoteWrite"}"#,
            FailureKind::IdentityOrResourcePolicy,
        ),
        (
            r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#,
            FailureKind::Keys,
        ),
        (
            r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#,
            FailureKind::Keys,
        ),
        (r#"{"__type":"RequestExpired","message":"Request has expired."}"#, FailureKind::ClockSkew),
        (
            r#"{"__type":"IncompleteSignatureException","message":"Date must be in ISO-8601 'basic format'."}"#,
            FailureKind::Signature,
        ),
        (
            r#"{"__type":"InvalidSignatureException","message":"Signature expired: 20261122T120000Z is now earlier than 20261122T121500Z (20261122T122000Z - 5 min.)"}"#,
            FailureKind::ClockSkew,
        ),
    ] {
        assert_eq!(judge(400, body).map(|failure| failure.kind), Some(kind), "{body}");
    }
    // What is not known to be of the identity's own account has to be filled in.
    let unknown = judge(403, r#"{"message":"User is not authorized to perform: aps:RemoteWrite"}"#);
    let unknown = unknown.expect("refused");
    let places: Vec<_> = unknown.needed.iter().map(|needed| needed.place.as_str()).collect();
    assert_eq!(
        places,
        [
            format!("a policy of {HUB_ROLE}"),
            String::from("resource policy of arn:aws:aps:eu-west-1:ACCOUNT:workspace/ws-1")
        ]
    );
    // A page that shows the request that it refuses.
    let credentials = who.credentials.as_ref().expect("credentials");
    let token = credentials.session_token().expect("temporary keys").expose();
    for status in [302, 403, 404, 503] {
        let echo = format!("<pre>not taken: {token}</pre>");
        let failure = format!("{:?}", judge(status, &echo).expect("refused"));
        assert!(failure.contains("<secret>") && !failure.contains(token), "{failure}");
    }
    const WORKSPACE: &str = "arn:aws:aps:eu-west-1:333333333333:workspace/ws-1";
    let user = "arn:aws:sts::222222222222:assumed-role/hub-writer/pod-1";
    let refusal = |resource: &str, ending: &str| {
        format!(
            r#"{{"Message":"User: {user} is not authorized to perform: aps:RemoteWrite on resource: {resource}{ending}"}}"#
        )
    };
    let own = "arn:aws:aps:eu-west-1:222222222222:workspace/ws-1";
    let identity = " because no identity-based policy allows the aps:RemoteWrite action";
    let resource = " because no resource-based policy allows the aps:RemoteWrite action";
    let of_identity = format!("a policy of {HUB_ROLE}");
    let of_workspace = format!("resource policy of {WORKSPACE}");
    let cases: [(u16, String, FailureKind, &[&str]); 8] = [
        (403, refusal(own, identity), FailureKind::IdentityPolicy, &[&of_identity]),
        (403, refusal(WORKSPACE, identity), FailureKind::IdentityPolicy, &[&of_identity, &of_workspace]),
        (403, refusal(WORKSPACE, resource), FailureKind::ResourcePolicy, &[&of_workspace]),
        (403, refusal(WORKSPACE, ""), FailureKind::IdentityOrResourcePolicy, &[&of_identity, &of_workspace]),
        (
            403,
            refusal(own, " with an explicit deny in an identity-based policy"),
            FailureKind::ExplicitDeny,
            &[],
        ),
        (404, String::from(r#"{"Message":"Workspace not found"}"#), FailureKind::WorkspaceNotFound, &[]),
        (503, String::from("busy"), FailureKind::Endpoint, &[]),
        (404, String::from("page not found"), FailureKind::Endpoint, &[]),
    ];
    for (status, body, kind, places) in cases {
        let failure = judge(status, &body).expect("refused");
        assert_eq!(failure.kind, kind, "{body}");
        let found: Vec<_> = failure.needed.iter().map(|needed| needed.place.as_str()).collect();
        assert_eq!(found, places, "{body}");
        assert!(failure.answer.is_some(), "{body}");
        for needed in failure.needed {
            assert!(
                needed.json.contains("aps:RemoteWrite") && !needed.json.contains("ACCOUNT"),
                "{}",
                needed.json
            );
        }
    }
}
