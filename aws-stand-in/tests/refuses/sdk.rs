//! AWS' own SDKs read what is answered here: the one for Rust, and botocore.

use std::process::Command;

use promferry_aws_stand_in::{Cloud, ProjectedToken};
use promferry_sigv4_auth::{
    CredentialChain, CredentialError, CredentialSource as _, CredentialsConfig, Environment, RoleStep,
};

use crate::world::{AUDIENCE, COLLECTOR, HOUR, SUBJECT, WRITER, World, python_or_skip};

#[tokio::test]
async fn the_sdk_for_rust_comes_through_a_chain() {
    let world = World::over(Cloud::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    let token = ProjectedToken::new(folder.path().join("token"), &world.token());
    let path = token.path().display().to_string();
    let url = world.sts.url();
    let environment = Environment::from_pairs([
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ROLE_ARN", COLLECTOR),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path.as_str()),
    ]);
    let chain = |external_id: &str| {
        let step = RoleStep { external_id: Some(external_id.to_owned()), ..RoleStep::new(WRITER) };
        let config = CredentialsConfig { roles: vec![step], ..CredentialsConfig::default() };
        CredentialChain::new(&config, environment.clone(), "eu-west-1").unwrap()
    };

    let right = chain("external-7");
    let credentials = right.credentials().await.unwrap();
    let identity = right.caller_identity(&credentials).await.unwrap();
    assert!(identity.arn.starts_with("arn:aws:sts::444455556666:assumed-role/hub-writer/"), "{identity:?}");
    let calls = world.sts.calls();
    let [.., web_identity, assume_role, _] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(
        (web_identity.action.as_str(), assume_role.action.as_str()),
        ("AssumeRoleWithWebIdentity", "AssumeRole")
    );
    assert_eq!(assume_role.external_id.as_deref(), Some("external-7"));

    let refused = chain("external-8").credentials().await.unwrap_err();
    let CredentialError::Refused { code, message, .. } = refused else { panic!("{refused}") };
    assert_eq!(code, "AccessDenied");
    assert!(message.contains("no role trust policy allows the sts:AssumeRole action"), "{message}");

    token.write(&world.issuer.token(SUBJECT, AUDIENCE, std::time::Duration::ZERO));
    let refused = chain("external-7").credentials().await.unwrap_err();
    assert!(
        matches!(&refused, CredentialError::Refused { code, .. } if code == "ExpiredTokenException"),
        "{refused}"
    );
    token.write(&world.issuer.token(SUBJECT, AUDIENCE, HOUR));
    chain("external-7").credentials().await.unwrap();
}

const BOTOCORE: &str = r#"
import json, os, sys
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

url, token, collector, writer = (sys.argv[1], os.environ["TOKEN"], sys.argv[2], sys.argv[3])

def sts(keys=None):
    session = botocore.session.get_session()
    if keys:
        session.set_credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
    config = Config(retries={"total_max_attempts": 1})
    return session.create_client("sts", region_name="eu-west-1", endpoint_url=url, config=config)

def said(call, **parameters):
    try:
        return call(**parameters)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        answer = error.response
        return [answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Type"], answer["Error"]["Code"], answer["Error"]["Message"]]

web = dict(RoleArn=collector, RoleSessionName="botocore", WebIdentityToken=token)
given = sts().assume_role_with_web_identity(**web)
client = sts(given["Credentials"])
role = dict(RoleArn=writer, RoleSessionName="botocore")
print(json.dumps([
    given["AssumedRoleUser"]["Arn"],
    given["SubjectFromWebIdentityToken"],
    given["Credentials"]["Expiration"].isoformat(),
    client.get_caller_identity()["Arn"],
    said(client.assume_role, ExternalId="external-7", **role),
    said(client.assume_role, ExternalId="external-8", **role),
    said(client.assume_role, ExternalId="external-7", DurationSeconds=7200, **role),
    said(sts().assume_role_with_web_identity, **{**web, "WebIdentityToken": "no.jwt.at.all"}),
]))
"#;

#[tokio::test]
async fn botocore_reads_the_answers() {
    let Some(python) = python_or_skip("botocore_reads_the_answers", "botocore") else { return };
    let world = World::over(Cloud::memory()).await;
    let (url, token) = (world.sts.url(), world.token());
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python)
            .args(["-c", BOTOCORE, &url, COLLECTOR, WRITER])
            .env("TOKEN", token)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let arn = "arn:aws:sts::111122223333:assumed-role/collector/botocore";
    assert_eq!(
        (answers[0].as_str(), answers[1].as_str(), answers[3].as_str()),
        (Some(arn), Some(SUBJECT), Some(arn))
    );
    let expiration = answers[2].as_str().unwrap();
    assert!(
        expiration.ends_with("+00:00") && !expiration.contains('.'),
        "AWS gives whole seconds: {expiration}"
    );
    assert_eq!(answers[4], 200);
    for (answer, status, code, message) in [
        (&answers[5], 403, "AccessDenied", "no role trust policy allows the sts:AssumeRole action"),
        (&answers[6], 400, "ValidationError", "1 hour session limit for roles assumed by role chaining"),
        (&answers[7], 400, "InvalidIdentityToken", "is not a valid JWT"),
    ] {
        assert_eq!((&answer[0], &answer[1], &answer[2]), (&status.into(), &"Sender".into(), &code.into()));
        assert!(answer[3].as_str().unwrap().contains(message), "{answer}");
    }
}
