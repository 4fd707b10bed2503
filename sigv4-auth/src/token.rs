//! What of a web identity token a role's trust policy looks at.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// The claims of a web identity token that decide whether AWS takes it. They are signed, not secret; the token
/// itself is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenFacts {
    /// The file that it was read from.
    pub file: PathBuf,
    /// `iss`: the URL of who issued it, an EKS cluster's OIDC provider.
    pub issuer: String,
    /// `sub`: whose it is, for a pod `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// `aud`: whom it is for.
    pub audience: Vec<String>,
    /// `exp`: when it ends.
    pub expires_at: Option<SystemTime>,
}

impl TokenFacts {
    /// What the file's token says now; `None` if it cannot be read or holds none.
    pub fn read(file: &Path) -> Option<Self> {
        Self::of(std::fs::read_to_string(file).ok()?.trim(), file)
    }

    pub(crate) fn of(token: &str, file: &Path) -> Option<Self> {
        let payload = token.split('.').nth(1)?;
        let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let claims: Claims = serde_json::from_slice(&json).ok()?;
        Some(Self {
            file: file.to_owned(),
            issuer: claims.iss,
            subject: claims.sub,
            audience: match claims.aud {
                Audience::One(audience) => vec![audience],
                Audience::Many(audiences) => audiences,
            },
            expires_at: claims.exp.and_then(|seconds| {
                SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
            }),
        })
    }

    /// The issuer as IAM names the identity provider and the keys of conditions: without `https://`.
    pub fn issuer_name(&self) -> &str {
        self.issuer.trim_start_matches("https://").trim_end_matches('/')
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_a_token() {
        let encode = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let token = |json: &str| format!("{}.{}.signature", encode("{}"), encode(json));
        let facts = |token: &str| TokenFacts::of(token, Path::new("/token"));
        let whole = facts(&token(
            r#"{"iss":"https://oidc.example/","sub":"system:serviceaccount:a:b","aud":["sts.amazonaws.com"],"exp":1795348800,"x":1}"#,
        ))
        .expect("claims");
        assert_eq!(whole.subject, "system:serviceaccount:a:b");
        assert_eq!(whole.issuer_name(), "oidc.example");
        assert_eq!(whole.audience, ["sts.amazonaws.com"]);
        assert_eq!(whole.expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_348_800)));
        assert_eq!(facts(&token(r#"{"aud":"one"}"#)).expect("claims").audience, ["one"]);
        for broken in ["", "a", "a.b.c", "..", &token("[1]"), &token(r#"{"exp":1e300}"#)] {
            let facts = facts(broken).unwrap_or_default();
            assert_eq!((facts.subject.as_str(), facts.expires_at), ("", None), "{broken}");
        }
    }
}
