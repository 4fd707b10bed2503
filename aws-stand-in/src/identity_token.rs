//! The checking side of identity tokens, as STS does it.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use serde::Deserialize;
use serde_json::Value;

use crate::{Issuer, client};

/// A JSON Web Token (RFC 7519) whose signature has not been checked yet.
#[derive(Debug)]
pub(crate) struct IdentityToken<'a> {
    header: Header,
    pub(crate) claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) aud: Vec<String>,
    pub(crate) exp: u64,
    #[serde(default)]
    pub(crate) nbf: u64,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Why a token's signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    /// The issuer did not answer.
    Unreachable,
    /// It has no such key.
    NoSuchKey,
    /// The key did not make this signature, or the algorithm is none that is taken.
    Invalid,
}

impl<'a> IdentityToken<'a> {
    pub(crate) fn parse(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&decoded(header)?).ok()?,
            claims: serde_json::from_slice(&decoded(claims)?).ok()?,
            signed,
            signature: decoded(signature)?,
        })
    }

    /// Checks the signature with the keys that the issuer publishes: RS256 only, whatever the token says.
    pub(crate) async fn check_signature(&self, issuer: &Issuer) -> Result<(), SignatureError> {
        let keys = published_keys(issuer).await.ok_or(SignatureError::Unreachable)?;
        let is_named = |key: &&Value| key.get("kid").and_then(Value::as_str) == self.header.kid.as_deref();
        let key = keys.iter().find(is_named).ok_or(SignatureError::NoSuchKey)?;
        if self.header.alg != "RS256" || key.get("kty").and_then(Value::as_str) != Some("RSA") {
            return Err(SignatureError::Invalid);
        }
        let number = |name: &str| URL_SAFE_NO_PAD.decode(key.get(name)?.as_str()?).ok();
        let (n, e) = number("n").zip(number("e")).ok_or(SignatureError::NoSuchKey)?;
        RsaPublicKeyComponents { n, e }
            .verify(&RSA_PKCS1_2048_8192_SHA256, self.signed.as_bytes(), &self.signature)
            .map_err(|_| SignatureError::Invalid)
    }
}

/// By way of the discovery document, as OpenID Connect has it.
async fn published_keys(issuer: &Issuer) -> Option<Vec<Value>> {
    let discovery = json(issuer, &format!("{}/.well-known/openid-configuration", issuer.url())).await?;
    if discovery.get("issuer")?.as_str()? != issuer.url() {
        return None;
    }
    let keys = json(issuer, discovery.get("jwks_uri")?.as_str()?).await?;
    Some(keys.get("keys")?.as_array()?.clone())
}

/// What the issuer serves at one of its URLs, from loopback.
async fn json(issuer: &Issuer, url: &str) -> Option<Value> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let request = Request::get(format!("/{path}")).header("host", host).body(Bytes::new()).ok()?;
    let response = client::call(issuer.address(), request).await.ok()?;
    response.status().is_success().then(|| serde_json::from_slice(response.body()).ok())?
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
