//! An OpenID Connect issuer as a cluster's is.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::random;
use crate::server::Server;
use crate::world_time::{WorldTime, unix_seconds};

/// An issuer of identity tokens with an RSA key of its own. Its name is that of a cluster of EKS; its discovery document
/// and its keys are served on loopback, where [`Sts`](crate::Sts) gets them. Clones are the same issuer.
///
/// ```
/// use std::time::Duration;
/// use promferry_aws_stand_in::Issuer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let issuer = Issuer::start_as("https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE").await;
/// assert_eq!(issuer.name(), "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE");
/// assert_eq!(
///     issuer.provider_arn("111122223333"),
///     "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE",
/// );
/// let token =
///     issuer.token("system:serviceaccount:monitoring:promferry", "sts.amazonaws.com", Duration::from_secs(600));
/// assert_eq!(token.split('.').count(), 3);
/// # }
/// ```
#[derive(Clone)]
pub struct Issuer {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    server: Server,
    state: Arc<Mutex<State>>,
}

struct State {
    key: Arc<KeyPair>,
    key_id: String,
    published: Value,
    time: WorldTime,
    tokens: Vec<String>,
}

impl Issuer {
    /// Starts one named `https://oidc.eks.eu-west-1.amazonaws.com/id/…` with an id of its own.
    pub async fn start() -> Self {
        Self::start_as(&format!(
            "https://oidc.eks.eu-west-1.amazonaws.com/id/{}",
            random::hex::<16>().to_uppercase()
        ))
        .await
    }

    /// Starts one that calls itself `url`, which begins with `https://` and does not end in a slash.
    pub async fn start_as(url: &str) -> Self {
        let (key, key_id) = new_key();
        let published = json!({ "keys": [public_key(&key, &key_id)] });
        Self::serve(url, key, key_id, published).await
    }

    /// Publishes the keys of another issuer, such as a Kubernetes API server's `/openid/v1/jwks`, under its name. Tokens
    /// made here are not taken by these keys.
    pub async fn of_keys(url: &str, json_web_key_set: Value) -> Self {
        let (key, key_id) = new_key();
        Self::serve(url, key, key_id, json_web_key_set).await
    }

    async fn serve(url: &str, key: KeyPair, key_id: String, published: Value) -> Self {
        assert!(url.starts_with("https://") && !url.ends_with('/'), "{url:?} is no issuer that IAM takes");
        let time = WorldTime::default();
        let state = State { key: Arc::new(key), key_id, published, time: time.clone(), tokens: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let (served, name) = (Arc::clone(&state), url.to_owned());
        let server = Server::start(time, move |head, _| {
            let path = head.uri.path();
            let body = if path.ends_with("/.well-known/openid-configuration") {
                Some(json!({
                    "issuer": name,
                    "jwks_uri": format!("{name}/keys"),
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }))
            } else if path.ends_with("/keys") {
                Some(locked(&served).published.clone())
            } else {
                None
            };
            let mut response = Response::new(body.as_ref().map(Value::to_string).unwrap_or_default());
            if body.is_none() {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            std::future::ready(Ok(response))
        })
        .await;
        Self { inner: Arc::new(Inner { url: url.to_owned(), server, state }) }
    }

    /// The claim `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The URL without its scheme: what condition keys (`NAME:sub`, `NAME:aud`) and provider ARNs hold.
    pub fn name(&self) -> &str {
        self.inner.url.trim_start_matches("https://")
    }

    /// The ARN that it has as a provider of an account.
    pub fn provider_arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:oidc-provider/{}", self.name())
    }

    /// A token as the API server projects it into a pod, valid from now on for `lifetime` (whole seconds). One that lives
    /// for zero seconds has expired.
    pub fn token(&self, subject: &str, audience: &str, lifetime: Duration) -> String {
        self.token_of(&self.claims(subject, audience, lifetime))
    }

    /// A token of any claims, signed by the key in force.
    pub fn token_of(&self, claims: &Value) -> String {
        let (key, key_id) = {
            let state = self.state();
            (Arc::clone(&state.key), state.key_id.clone())
        };
        self.signed(&key, &key_id, claims)
    }

    /// The claims of [`token`](Self::token), to be changed.
    pub fn claims(&self, subject: &str, audience: &str, lifetime: Duration) -> Value {
        let now = unix_seconds(self.state().time.now());
        let mut names = subject.rsplit(':');
        let (name, namespace) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
        json!({
            "iss": self.url(),
            "sub": subject,
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + lifetime.as_secs(),
            "jti": random::uuid(),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": name, "uid": random::uuid() },
            },
        })
    }

    /// A token that says it is signed by the key in force, and is not.
    pub fn token_by_another_key(&self, subject: &str, audience: &str, lifetime: Duration) -> String {
        let (key, _) = new_key();
        let key_id = self.state().key_id.clone();
        self.signed(&key, &key_id, &self.claims(subject, audience, lifetime))
    }

    /// A token that says that it needs no signature (`"alg": "none"`).
    pub fn token_without_signature(&self, subject: &str, audience: &str, lifetime: Duration) -> String {
        let key_id = self.state().key_id.clone();
        let header = json!({ "alg": "none", "kid": key_id });
        let token = format!("{}.", unsigned(&header, &self.claims(subject, audience, lifetime)));
        self.remembered(token)
    }

    /// Signs with a new key from now on; the old one is not published any more, so that the tokens before are not taken.
    pub fn rotate_key(&self) {
        let (key, key_id) = new_key();
        let mut state = self.state();
        state.published = json!({ "keys": [public_key(&key, &key_id)] });
        (state.key, state.key_id) = (Arc::new(key), key_id);
    }

    /// While down, nobody gets its keys.
    pub fn set_down(&self, down: bool) {
        self.inner.server.set_down(down);
    }

    /// Where the discovery document and the keys are served.
    pub fn address(&self) -> SocketAddr {
        self.inner.server.address()
    }

    pub(crate) fn live_in(&self, time: &WorldTime) {
        self.state().time = time.clone();
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.state().tokens.clone()
    }

    fn signed(&self, key: &KeyPair, key_id: &str, claims: &Value) -> String {
        let text = unsigned(&json!({ "alg": "RS256", "kid": key_id }), claims);
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .expect("an RSA key signs any text");
        self.remembered(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn remembered(&self, token: String) -> String {
        self.state().tokens.push(token.clone());
        token
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.inner.state)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("url", &self.url())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn new_key() -> (KeyPair, String) {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("an RSA key can be made");
    (key, random::hex::<20>())
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A key of a JSON Web Key Set (RFC 7517, RFC 7518 section 6.3).
fn public_key(key: &KeyPair, key_id: &str) -> Value {
    let (modulus, exponent) = modulus_and_exponent(key.public_key().as_ref()).expect("an RSA key in PKCS#1");
    json!({
        "kty": "RSA",
        "use": "sig",
        "alg": "RS256",
        "kid": key_id,
        "n": URL_SAFE_NO_PAD.encode(modulus),
        "e": URL_SAFE_NO_PAD.encode(exponent),
    })
}

/// The two integers of `RSAPublicKey` in DER (RFC 8017, appendix A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let (sequence, _) = element(der, SEQUENCE)?;
    let (modulus, rest) = element(sequence, INTEGER)?;
    let (exponent, _) = element(rest, INTEGER)?;
    Some((without_zeros(modulus), without_zeros(exponent)))
}

fn without_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|&&byte| byte == 0).count();
    &integer[zeros..]
}

/// The content of an element of DER with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&given, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    if given != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
    };
    rest.split_at_checked(length)
}
