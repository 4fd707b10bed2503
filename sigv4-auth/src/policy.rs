//! Policies and trust statements as JSON, ready to be pasted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::TokenFacts;
use crate::authorization::account_of;

/// The policy that lets an identity write to one workspace, or to any with `*`.
pub fn remote_write_policy(workspace_arn: &str) -> String {
    Statement { resource: Some(workspace_arn), ..Statement::allowing(&["aps:RemoteWrite"]) }.json()
}

/// The policy that lets an identity assume a role. `with_tags`: for credentials that carry session tags on, as those
/// of EKS Pod Identity do.
pub fn assume_role_policy(role_arn: &str, with_tags: bool) -> String {
    Statement { resource: Some(role_arn), ..Statement::allowing(assume_role_actions(with_tags)) }.json()
}

/// The trust policy of a role that `principal_arn` may assume. `with_tags` as for [`assume_role_policy`].
pub fn role_trust(principal_arn: &str, external_id: Option<&str>, with_tags: bool) -> String {
    let condition =
        external_id.map(|id| BTreeMap::from([(String::from("sts:ExternalId"), id)])).unwrap_or_default();
    Statement {
        principal: Some(("AWS", principal_arn)),
        condition,
        ..Statement::allowing(assume_role_actions(with_tags))
    }
    .json()
}

/// The trust policy of a role that the bearer of such a token may assume: its `sub` and `aud` as they are.
pub fn web_identity_trust(provider_arn: &str, token: &TokenFacts) -> String {
    let issuer = token.issuer_name();
    let condition = BTreeMap::from([
        (format!("{issuer}:aud"), token.audience.first().map_or("sts.amazonaws.com", String::as_str)),
        (format!("{issuer}:sub"), token.subject.as_str()),
    ]);
    Statement {
        principal: Some(("Federated", provider_arn)),
        condition,
        ..Statement::allowing(&["sts:AssumeRoleWithWebIdentity"])
    }
    .json()
}

/// The resource policy of a workspace that `principal_arn`, of any account, may write to.
pub fn workspace_resource_policy(principal_arn: &str, workspace_arn: &str) -> String {
    Statement {
        principal: Some(("AWS", principal_arn)),
        resource: Some(workspace_arn),
        ..Statement::allowing(&["aps:RemoteWrite"])
    }
    .json()
}

/// The ARN of the IAM identity provider for `issuer` that a role needs in its own account.
pub(crate) fn provider_arn(role_arn: &str, issuer_name: &str) -> String {
    let account = account_of(role_arn).unwrap_or("ACCOUNT");
    format!("arn:{}:iam::{account}:oidc-provider/{issuer_name}", partition(role_arn))
}

/// The ARN of a workspace as far as it is known.
pub(crate) fn workspace_arn(region: &str, account: Option<&str>, id: &str) -> String {
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:aps:{region}:{}:workspace/{id}", account.unwrap_or("ACCOUNT"))
}

fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).filter(|partition| !partition.is_empty()).unwrap_or("aws")
}

fn assume_role_actions(with_tags: bool) -> &'static [&'static str] {
    if with_tags { &["sts:AssumeRole", "sts:TagSession"] } else { &["sts:AssumeRole"] }
}

/// One `Allow`; its JSON is a whole policy document.
struct Statement<'a> {
    principal: Option<(&'static str, &'a str)>,
    actions: &'static [&'static str],
    resource: Option<&'a str>,
    /// All of them `StringEquals`.
    condition: BTreeMap<String, &'a str>,
}

impl Statement<'_> {
    fn allowing(actions: &'static [&'static str]) -> Self {
        Self { principal: None, actions, resource: None, condition: BTreeMap::new() }
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Document<'a> {
            version: &'a str,
            statement: [Allow<'a>; 1],
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Allow<'a> {
            effect: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            principal: Option<BTreeMap<&'a str, &'a str>>,
            action: OneOrMany<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            resource: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            condition: Option<BTreeMap<&'a str, &'a BTreeMap<String, &'a str>>>,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum OneOrMany<'a> {
            One(&'a str),
            Many(&'a [&'a str]),
        }
        let allow = Allow {
            effect: "Allow",
            principal: self.principal.map(|principal| BTreeMap::from([principal])),
            action: match self.actions {
                [action] => OneOrMany::One(action),
                actions => OneOrMany::Many(actions),
            },
            resource: self.resource,
            condition: (!self.condition.is_empty())
                .then(|| BTreeMap::from([("StringEquals", &self.condition)])),
        };
        let document = Document { version: "2012-10-17", statement: [allow] };
        // Texts in maps with keys of text: nothing that could fail.
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = "arn:aws:aps:eu-west-1:222222222222:workspace/ws-1";
    const COLLECTOR: &str = "arn:aws:iam::111111111111:role/collector";

    fn compact(json: &str) -> String {
        serde_json::from_str::<serde_json::Value>(json).expect(json).to_string()
    }

    #[test]
    fn documents_are_what_iam_takes() {
        assert_eq!(
            remote_write_policy(WORKSPACE),
            "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\n      \"Effect\": \"Allow\",\n      \
             \"Action\": \"aps:RemoteWrite\",\n      \"Resource\": \"arn:aws:aps:eu-west-1:222222222222:workspace/ws-1\"\n    \
             }\n  ]\n}"
        );
        let cases = [
            (
                assume_role_policy(COLLECTOR, true),
                r#"{"Action":["sts:AssumeRole","sts:TagSession"],"Effect":"Allow","Resource":"arn:aws:iam::111111111111:role/collector"}"#,
            ),
            (
                role_trust(COLLECTOR, Some("e-1\"x"), false),
                r#"{"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"e-1\"x"}},"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/collector"}}"#,
            ),
            (
                role_trust(COLLECTOR, None, true),
                r#"{"Action":["sts:AssumeRole","sts:TagSession"],"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/collector"}}"#,
            ),
            (
                workspace_resource_policy(COLLECTOR, WORKSPACE),
                r#"{"Action":"aps:RemoteWrite","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/collector"},"Resource":"arn:aws:aps:eu-west-1:222222222222:workspace/ws-1"}"#,
            ),
        ];
        for (json, statement) in cases {
            assert_eq!(compact(&json), format!(r#"{{"Statement":[{statement}],"Version":"2012-10-17"}}"#));
        }
    }

    #[test]
    fn web_identity_trusts_the_token_that_there_is() {
        let token = TokenFacts {
            file: "/token".into(),
            issuer: String::from("https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"),
            subject: String::from("system:serviceaccount:monitoring:promferry"),
            audience: vec![String::from("sts.amazonaws.com")],
            expires_at: None,
        };
        let provider = provider_arn(COLLECTOR, token.issuer_name());
        assert_eq!(
            provider,
            "arn:aws:iam::111111111111:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"
        );
        assert_eq!(
            compact(&web_identity_trust(&provider, &token)),
            r#"{"Statement":[{"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"oidc.eks.eu-west-1.amazonaws.com/id/ABC:aud":"sts.amazonaws.com","oidc.eks.eu-west-1.amazonaws.com/id/ABC:sub":"system:serviceaccount:monitoring:promferry"}},"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111111111111:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"}}],"Version":"2012-10-17"}"#
        );
    }

    #[test]
    fn partitions_are_kept() {
        assert_eq!(
            workspace_arn("cn-north-1", None, "ws-1"),
            "arn:aws-cn:aps:cn-north-1:ACCOUNT:workspace/ws-1"
        );
        assert_eq!(
            provider_arn("arn:aws-us-gov:iam::1:role/r", "oidc.example"),
            "arn:aws-us-gov:iam::1:oidc-provider/oidc.example"
        );
    }
}
