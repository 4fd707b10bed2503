//! The policies of a scene's roles and workspaces.

use promferry_aws_stand_in::Policy;

pub(crate) const REGION: &str = "eu-west-1";
/// The account of the cluster.
pub(crate) const ACCOUNT: &str = "111122223333";
/// The account of the observability hub.
pub(crate) const HUB: &str = "444455556666";
/// The role of the pod's service account.
pub(crate) const ROLE: &str = "arn:aws:iam::111122223333:role/collector";
pub(crate) const SERVICE_ACCOUNT: &str = "system:serviceaccount:monitoring:promferry";
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";

/// A policy of these statements, each the inside of a JSON object.
pub(crate) fn policy(statements: &[String]) -> Policy {
    let statements: Vec<_> = statements.iter().map(|statement| format!("{{{statement}}}")).collect();
    let json = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
    Policy::parse(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// A statement that lets an identity write to a workspace.
pub(crate) fn may_write(workspace_arn: &str) -> String {
    format!(r#""Effect":"Allow","Action":"aps:RemoteWrite","Resource":"{workspace_arn}""#)
}

/// A statement that forbids it whatever else is allowed.
pub(crate) fn may_never_write(workspace_arn: &str) -> String {
    format!(r#""Effect":"Deny","Action":"aps:RemoteWrite","Resource":"{workspace_arn}""#)
}

/// A statement that lets an identity assume a role.
pub(crate) fn may_assume(role_arn: &str) -> String {
    format!(r#""Effect":"Allow","Action":"sts:AssumeRole","Resource":"{role_arn}""#)
}

/// A workspace's own policy: an identity may write to it.
pub(crate) fn shared_with(principal: &str, workspace_arn: &str) -> Policy {
    policy(&[format!(
        r#""Effect":"Allow","Action":"aps:RemoteWrite","Principal":{{"AWS":"{principal}"}},"Resource":"{workspace_arn}""#
    )])
}

/// A workspace's own policy: nobody may write to it.
pub(crate) fn never_from_anybody(workspace_arn: &str) -> Policy {
    policy(&[format!(
        r#""Effect":"Deny","Action":"aps:RemoteWrite","Principal":"*","Resource":"{workspace_arn}""#
    )])
}

pub(crate) fn workspace_arn(account: &str, workspace: &str) -> String {
    format!("arn:aws:aps:{REGION}:{account}:workspace/{workspace}")
}
