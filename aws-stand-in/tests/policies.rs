//! The language of policies: what is understood, what decides, what is an error.

use promferry_aws_stand_in::{Access, Caller, Decision, Missing, Policy, PolicyError, authorize};

const ROLE: &str = "arn:aws:iam::111122223333:role/team/writer";

fn access() -> Access {
    Access::new(
        Caller::session(ROLE, "s-1"),
        "aps:RemoteWrite",
        "arn:aws:aps:eu-west-1:111122223333:workspace/ws-1",
    )
    .with("issuer:sub", "system:serviceaccount:a:b")
    .with("issuer:aud", "sts.amazonaws.com")
    .with("many", "one")
    .with("many", "two")
}

fn statement(more: &str) -> Policy {
    let text = format!(r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", {more}}}]}}"#);
    Policy::parse(&text).unwrap_or_else(|error| panic!("{more}: {error}"))
}

#[test]
fn elements_decide() {
    for (more, allowed) in [
        (r#""Action": "*", "Resource": "*""#, true),
        (r#""Action": ["aps:Query", "APS:remotewrite"], "Resource": "*""#, true),
        (r#""Action": "aps:Remote?rite", "Resource": "*""#, true),
        (r#""Action": "aps:Get*", "Resource": "*""#, false),
        (r#""Action": "aps:*", "Resource": "arn:aws:aps:*:111122223333:workspace/ws-1""#, true),
        (r#""Action": "aps:*", "Resource": ["arn:aws:aps:eu-west-1:111122223333:workspace/ws-2"]"#, false),
        (r#""Action": "aps:*", "Resource": "arn:aws:aps:eu-west-1:111122223333:workspace/WS-1""#, false),
    ] {
        let expected = if allowed { Decision::Allowed } else { Decision::ImplicitDeny };
        assert_eq!(statement(more).evaluate(&access()), expected, "{more}");
    }
}

#[test]
fn conditions_decide() {
    for (condition, met) in [
        (r#""StringEquals": {"issuer:sub": "system:serviceaccount:a:b"}"#, true),
        (r#""StringEquals": {"Issuer:SUB": ["other", "system:serviceaccount:a:b"]}"#, true),
        (r#""StringEquals": {"issuer:sub": "system:serviceaccount:a:*"}"#, false),
        (r#""StringEquals": {"issuer:sub": "system:serviceaccount:a:b", "issuer:aud": "other"}"#, false),
        (r#""StringEquals": {"nobody:sub": "x"}"#, false),
        (r#""StringLike": {"issuer:sub": "system:serviceaccount:a:*"}"#, true),
        (r#""StringLike": {"issuer:sub": "system:serviceaccount:b:*"}"#, false),
        (r#""StringNotEquals": {"issuer:sub": "x"}"#, true),
        (r#""StringNotEquals": {"issuer:sub": ["x", "system:serviceaccount:a:b"]}"#, false),
        (r#""StringNotEquals": {"nobody:sub": "x"}"#, true),
        (r#""StringEquals": {"many": "one"}"#, false),
        (r#""ForAnyValue:StringEquals": {"many": ["two", "three"]}"#, true),
        (r#""ForAnyValue:StringEquals": {"many": "three"}"#, false),
        (r#""ForAnyValue:StringNotEquals": {"nobody": "x"}"#, false),
        (r#""ForAnyValue:StringLike": {"many": "t*"}"#, true),
        (r#""Bool": {"aws:SecureTransport": true}"#, true),
        (r#""Bool": {"aws:SecureTransport": "false"}"#, false),
        (r#""ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/team/*"}"#, true),
        (r#""ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::111122223333:role/team/writer"}"#, true),
        (r#""ArnLike": {"aws:PrincipalArn": "arn:*:role/team/writer"}"#, false),
        (r#""StringEquals": {"aws:PrincipalAccount": "111122223333"}"#, true),
    ] {
        let policy = statement(&format!(r#""Action": "*", "Resource": "*", "Condition": {{{condition}}}"#));
        let expected = if met { Decision::Allowed } else { Decision::ImplicitDeny };
        assert_eq!(policy.evaluate(&access()), expected, "{condition}");
    }
}

#[test]
fn principals_decide() {
    for (principal, named) in [
        (r#""*""#, true),
        (r#"{"AWS": "*"}"#, true),
        (r#"{"AWS": "111122223333"}"#, true),
        (r#"{"AWS": "arn:aws:iam::111122223333:root"}"#, true),
        (r#"{"AWS": ["444455556666", "arn:aws:iam::111122223333:role/team/writer"]}"#, true),
        (r#"{"AWS": "arn:aws:sts::111122223333:assumed-role/writer/s-1"}"#, true),
        (r#"{"AWS": "arn:aws:sts::111122223333:assumed-role/writer/s-2"}"#, false),
        (r#"{"AWS": "arn:aws:iam::111122223333:role/writer"}"#, false),
        (r#"{"AWS": "444455556666"}"#, false),
        (r#"{"Federated": "arn:aws:iam::111122223333:oidc-provider/issuer"}"#, false),
        (r#"{"Service": "ec2.amazonaws.com"}"#, false),
    ] {
        let policy = statement(&format!(r#""Action": "*", "Principal": {principal}"#));
        let expected = if named { Decision::Allowed } else { Decision::ImplicitDeny };
        assert_eq!(policy.evaluate(&access()), expected, "{principal}");
    }
}

#[test]
fn a_denial_wins_in_any_order() {
    for text in [
        r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "aps:*", "Resource": "*"}]}"#,
        r#"{"Statement": [{"Effect": "Deny", "Action": "aps:*", "Resource": "*"}, {"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#,
    ] {
        assert_eq!(Policy::parse(text).unwrap().evaluate(&access()), Decision::ExplicitDeny, "{text}");
    }
}

#[test]
fn both_sides_have_to_agree() {
    let allow = [Policy::allowing("aps:RemoteWrite", "*")];
    let naming = |principal: &str, effect: &str| {
        let text = serde_json::json!({ "Statement": {
            "Effect": effect, "Principal": { "AWS": principal }, "Action": "aps:*", "Resource": "*",
        }});
        Policy::parse(&text.to_string()).unwrap()
    };
    let (role, account, denying) =
        (naming(ROLE, "Allow"), naming("111122223333", "Allow"), naming("111122223333", "Deny"));
    let elsewhere =
        Access { resource: String::from("arn:aws:aps:eu-west-1:444455556666:workspace/ws-1"), ..access() };
    for (access, identity, resource, needs, expected) in [
        (access(), &allow[..], None, false, Ok(())),
        (access(), &[], None, false, Err(Missing::IdentityPolicy)),
        (access(), &[], Some(&role), false, Ok(())),
        (access(), &[], Some(&account), false, Err(Missing::IdentityPolicy)),
        (access(), &allow, Some(&account), true, Ok(())),
        (access(), &allow, None, true, Err(Missing::ResourcePolicy)),
        (access(), &allow, Some(&denying), false, Err(Missing::ResourceDeny)),
        (elsewhere.clone(), &allow, None, false, Err(Missing::ResourcePolicy)),
        (elsewhere.clone(), &[], Some(&role), false, Err(Missing::IdentityPolicy)),
        (elsewhere, &allow, Some(&account), false, Ok(())),
    ] {
        let verdict = authorize(&access, identity, resource, needs);
        assert_eq!(verdict, expected, "{} {resource:?}", access.resource);
    }
}

#[test]
fn what_is_not_understood_is_an_error() {
    for (text, says) in [
        ("", "EOF"),
        ("[]", "invalid length"),
        (r#"{"Version": "2020-01-01", "Statement": []}"#, "2020-01-01"),
        (r#"{"Statement": []}"#, "a policy needs one"),
        (
            r#"{"Statement": {"Effect": "Allow", "NotAction": "a:b", "Resource": "*"}}"#,
            "unknown field `NotAction`",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "NotPrincipal": "*"}}"#,
            "unknown field `NotPrincipal`",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "NotResource": "*"}}"#,
            "unknown field `NotResource`",
        ),
        (
            r#"{"Statement": {"Effect": "allow", "Action": "a:b", "Resource": "*"}}"#,
            "unknown variant `allow`",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "RemoteWrite", "Resource": "*"}}"#,
            "names no service",
        ),
        (r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Principal": "me"}}"#, "neither"),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Principal": {"AWS": "arn:aws:iam::111122223333:role/*"}}}"#,
            "is no principal",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Principal": {"CanonicalUser": "x"}}}"#,
            "CanonicalUser",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"StringMatches": {"a": "b"}}}}"#,
            "StringMatches",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"StringEqualsIfExists": {"a": "b"}}}}"#,
            "IfExists",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"ForAllValues:StringEquals": {"a": "b"}}}}"#,
            "ForAllValues",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"StringEquals": {"a": []}}}}"#,
            "no value",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Action": "c:d", "Resource": "*"}}"#,
            "duplicate field `Action`",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {"Bool": {"a": true}, "Bool": {"b": true}}}}"#,
            "the key \"Bool\" comes twice",
        ),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Principal": {"AWS": "*", "AWS": "111122223333"}}}"#,
            "the key \"AWS\" comes twice",
        ),
        (r#"{"Statement": {"Effect": "Allow", "Action": 7, "Resource": "*"}}"#, "invalid type"),
        (
            r#"{"Statement": {"Effect": "Allow", "Action": "a:b", "Resource": "arn:aws:s3:::${aws:username}"}}"#,
            "variables",
        ),
    ] {
        let error = Policy::parse(text).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(error.to_string().contains(says), "{text}: {error}");
        if let PolicyError::Statement { statement, .. } = error {
            assert_eq!(statement, 1);
        }
    }
}

proptest::proptest! {
    /// A star is any text, a question mark one letter, everything else itself: as a regular expression says it.
    #[test]
    fn patterns_are_what_regular_expressions_say(pattern in "[ab/:*?]{0,9}", text in "[ab/:]{0,9}") {
        let expression: String = pattern
            .chars()
            .map(|letter| match letter {
                '*' => String::from(".*"),
                '?' => String::from("."),
                letter => regex::escape(&letter.to_string()),
            })
            .collect();
        let expected = regex::Regex::new(&format!("^(?s:{expression})$")).unwrap().is_match(&text);
        let access = Access::new(Caller::user("arn:aws:iam::111122223333:user/u"), "aps:RemoteWrite", text);
        let decision = Policy::allowing("aps:RemoteWrite", &pattern).evaluate(&access);
        proptest::prop_assert_eq!(decision == Decision::Allowed, expected);
    }
}
