//! What moto does and does not do: why a front of our own decides, and what its adapter relies on.

use std::net::SocketAddr;

use http::Method;
use promferry_bench::http_call::call;

use crate::world::moto_or_skip;

/// One fact: what is sent, and what comes back.
struct Fact {
    what: &'static str,
    /// `KEY/SERVICE` of the credential scope; nothing for an unsigned call.
    signed_as: Option<(&'static str, &'static str)>,
    form: &'static str,
    status: u16,
    says: &'static str,
}

/// moto 5.2.5. Should one fail after an upgrade, the adapter (`src/moto.rs`) wants another look.
const FACTS: [Fact; 17] = [
    Fact {
        what: "any identity token is taken, for a role that is not there",
        signed_as: None,
        form: "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/none\
               &RoleSessionName=ss&WebIdentityToken=nonsense",
        status: 200,
        says: "<AssumedRoleId>ARO123EXAMPLE123:ss</AssumedRoleId>",
    },
    Fact {
        what: "an unsigned call is one of S3",
        signed_as: None,
        form: "Action=GetCallerIdentity&Version=2011-06-15",
        status: 200,
        says: "ListAllMyBucketsResult",
    },
    Fact {
        what: "anybody assumes any role, with any external id, for any time",
        signed_as: Some(("AKIAANYBODY", "sts")),
        form: "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/none&RoleSessionName=s\
               &ExternalId=any&DurationSeconds=100000",
        status: 200,
        says: "<Arn>arn:aws:sts::111122223333:assumed-role/none/s</Arn>",
    },
    Fact {
        what: "a session's name is too long",
        signed_as: Some(("AKIAANYBODY", "sts")),
        form: "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/none\
               &RoleSessionName=sssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss",
        status: 400,
        says: "failed to satisfy constraint: Member must have length less than or",
    },
    Fact {
        what: "a missing role is an error of its own",
        signed_as: Some(("AKIAANYBODY", "sts")),
        form: "Action=AssumeRole&Version=2011-06-15&RoleSessionName=ss",
        status: 500,
        says: "",
    },
    Fact {
        what: "the account of an unknown key is moto's own",
        signed_as: Some(("AKIAANYBODY", "sts")),
        form: "Action=GetCallerIdentity&Version=2011-06-15",
        status: 200,
        says: "<Account>123456789012</Account>",
    },
    Fact {
        what: "a role is made",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=CreateRole&Version=2010-05-08&RoleName=r&Path=/p/&MaxSessionDuration=7200\
               &AssumeRolePolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D",
        status: 200,
        says: "<Arn>arn:aws:iam::123456789012:role/p/r</Arn>",
    },
    Fact {
        what: "its policy is percent-encoded",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=GetRole&Version=2010-05-08&RoleName=r",
        status: 200,
        says: "<AssumeRolePolicyDocument>%7B%22Version%22%3A%222012-10-17%22",
    },
    Fact {
        what: "its longest session is kept",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=GetRole&Version=2010-05-08&RoleName=r",
        status: 200,
        says: "<MaxSessionDuration>7200</MaxSessionDuration>",
    },
    Fact {
        what: "a trust policy without statements is refused",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=UpdateAssumeRolePolicy&Version=2010-05-08&RoleName=r\
               &PolicyDocument=%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D",
        status: 400,
        says: "<Code>MalformedPolicyDocument</Code>",
    },
    Fact {
        what: "a trust policy without a version is refused, which IAM takes",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=UpdateAssumeRolePolicy&Version=2010-05-08&RoleName=r&PolicyDocument=%7B%22Statement%22%3A%7B\
               %22Effect%22%3A%22Deny%22%2C%22Principal%22%3A%22*%22%2C%22Action%22%3A%22sts%3A*%22%7D%7D",
        status: 400,
        says: "must be version 2012-10-17 or greater",
    },
    Fact {
        what: "a trust policy speaks of assuming roles only, as with IAM",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=UpdateAssumeRolePolicy&Version=2010-05-08&RoleName=r&PolicyDocument=%7B%22Version%22%3A\
               %222012-10-17%22%2C%22Statement%22%3A%7B%22Effect%22%3A%22Deny%22%2C%22Principal%22%3A%22*%22%2C\
               %22Action%22%3A%22*%22%7D%7D",
        status: 400,
        says: "Trust Policy statement actions can only be sts:AssumeRole",
    },
    Fact {
        what: "what is not there is said",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=GetRole&Version=2010-05-08&RoleName=none",
        status: 404,
        says: "<Code>NoSuchEntity</Code>",
    },
    Fact {
        what: "a policy that is not there too",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=GetRolePolicy&Version=2010-05-08&RoleName=r&PolicyName=none",
        status: 404,
        says: "<Code>NoSuchEntity</Code>",
    },
    Fact {
        what: "a provider's URL is not asked",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=CreateOpenIDConnectProvider&Version=2010-05-08&Url=https%3A%2F%2Fissuer.invalid%2Fid%2F1\
               &ThumbprintList.member.1=0000000000000000000000000000000000000000&ClientIDList.member.1=a",
        status: 200,
        says: "arn:aws:iam::123456789012:oidc-provider/issuer.invalid/id/1",
    },
    Fact {
        what: "its audiences are a list",
        signed_as: Some(("AKIAANYBODY", "iam")),
        form: "Action=GetOpenIDConnectProvider&Version=2010-05-08\
               &OpenIDConnectProviderArn=arn:aws:iam::123456789012:oidc-provider/issuer.invalid/id/1",
        status: 200,
        says: "<ClientIDList><member>a</member></ClientIDList>",
    },
    Fact {
        what: "expiries are not whole seconds, as AWS' are",
        signed_as: Some(("AKIAANYBODY", "sts")),
        form: "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/x&RoleSessionName=ss",
        status: 200,
        says: "<Expiration>20",
    },
];

#[tokio::test]
async fn moto_speaks_as_recorded() {
    let Some(moto) = moto_or_skip("moto_speaks_as_recorded").await else { return };
    for fact in FACTS {
        let (status, body) = ask(moto.address(), fact.signed_as, fact.form).await;
        assert_eq!(status, fact.status, "{}: {body}", fact.what);
        assert!(body.contains(fact.says), "{}: {body}", fact.what);
    }
    let role =
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/x&RoleSessionName=ss";
    let (_, body) = ask(moto.address(), Some(("AKIAANYBODY", "sts")), role).await;
    let key = body.split_once("<AccessKeyId>").unwrap().1.split('<').next().unwrap();
    let (_, body) =
        ask(moto.address(), Some((key, "sts")), "Action=GetCallerIdentity&Version=2011-06-15").await;
    assert!(
        body.contains("<Account>111122223333</Account>"),
        "a session's key is one of its account: {body}"
    );
}

async fn ask(address: SocketAddr, signed_as: Option<(&str, &str)>, form: &str) -> (u16, String) {
    let authorization = signed_as.map(|(key, service)| {
        format!(
            "AWS4-HMAC-SHA256 Credential={key}/20261123/eu-west-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
        )
    });
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let (status, body) = call(address, Method::POST, "/", &headers, form.to_owned()).await.unwrap();
    (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}
