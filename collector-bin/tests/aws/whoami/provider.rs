//! Where credentials come from, and what that lacks.

use promferry_aws_stand_in::Policy;
use promferry_bench::port::HeldPort;
use promferry_http_client::{Client, Http, HttpClientConfig, HttpOptions};
use tower::ServiceExt as _;

use crate::iam::{ACCOUNT, ROLE, may_write, policy, workspace_arn};
use crate::whoami::pod::{HUB_ROLE, Pod, WORKSPACE};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_configured() {
    let mut pod = Pod::new().await;
    pod.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    pod.unset("AWS_ROLE_ARN");
    pod.set("AWS_EXECUTION_ENV", "AWS_EKS_FARGATE");
    pod.unset("AWS_EC2_METADATA_DISABLED");
    pod.assert_says("nothing-is-configured", 1, Some("no_provider")).await;
    assert!(pod.sts.calls().is_empty() && pod.workspaces.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_is_not_there() {
    let mut pod = Pod::new().await;
    pod.sigv4 = ", profile: writer".to_owned();
    pod.assert_says("a-profile-that-is-not-there", 1, Some("provider")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_cant_be_read() {
    let mut pod = Pod::new().await;
    pod.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token");
    pod.assert_says("a-token-file-that-cant-be-read", 1, Some("provider")).await;
}

/// Credentials from an agent on the node, which carry session tags on to the roles that are assumed with them.
#[tokio::test(flavor = "multi_thread")]
async fn pod_identity() {
    let mut pod = Pod::of_a_hub(None).await;
    let session = session(&pod).await;
    let agent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = agent.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = agent.accept().await {
            let session = session.clone();
            tokio::spawn(async move { answer_json(&mut stream, &session).await });
        }
    });
    let token = pod.folder.path().join("eks-pod-identity-token");
    std::fs::write(&token, "pod-identity-token-of-the-agent").unwrap();
    pod.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    pod.unset("AWS_ROLE_ARN");
    pod.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/v1/credentials"));
    pod.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string());
    pod.assert_says("pod-identity", 0, None).await;
    pod.cloud.set_trust(HUB_ROLE, Policy::no_trust()).await;
    pod.assert_says("pod-identity-is-not-trusted", 1, Some("caller_policy_or_role_trust")).await;
    // Its own role, which only STS knows it has.
    pod.workspace = WORKSPACE.to_owned();
    let write = policy(&[may_write(&workspace_arn(ACCOUNT, WORKSPACE))]);
    pod.cloud.set_permissions(ROLE, Some(write)).await;
    pod.sigv4 = format!(", role_arn: '{ROLE}'");
    pod.assert_says("pod-identity-has-the-role-already", 0, None).await;

    serving.abort();
    let closed = HeldPort::any().unwrap();
    pod.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/v1/credentials", closed.address()));
    pod.assert_says("pod-identity-without-its-agent", 1, Some("provider")).await;
}

/// Keys of a session of the pod's role, as the agent has them.
async fn session(pod: &Pod) -> String {
    let token = std::fs::read_to_string(pod.token.path()).unwrap();
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=pod-1&RoleArn={}&WebIdentityToken={token}",
        ROLE.replace(':', "%3A").replace('/', "%2F")
    );
    let request = http::Request::post(pod.sts.url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into())
        .unwrap();
    let http = Http::new(&HttpClientConfig::default(), HttpOptions::default()).unwrap();
    let answer = Client::new(http).oneshot(request).await.unwrap();
    let answer = answer.into_body().read_to_end(1 << 16).await.unwrap();
    let xml = String::from_utf8(answer.to_vec()).unwrap();
    let field = |name: &str| {
        let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {xml}"));
        rest.split_once('<').unwrap().0.to_owned()
    };
    let [key, secret, token, end] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"].map(field);
    format!(
        r#"{{"AccessKeyId":"{key}","SecretAccessKey":"{secret}","Token":"{token}","Expiration":"{end}"}}"#
    )
}

async fn answer_json(stream: &mut tokio::net::TcpStream, json: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut request = [0; 4096];
    let length = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
    assert!(request.contains("authorization: pod-identity-token-of-the-agent"), "{request}");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        json.len()
    );
    stream.write_all((head + json).as_bytes()).await.unwrap();
}
