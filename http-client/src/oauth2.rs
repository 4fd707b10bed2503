//! Tokens of OAuth 2.0: fetched once for all requests, renewed before they expire.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header};
use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use tower::Service;
use url::Url;
use url::form_urlencoded::{self, Serializer};

use crate::body::Body;
use crate::file::Credential;
use crate::http::secret_value;
use crate::proxy::basic_authorization;
use crate::{Client, ConfigError, Error, Http, HttpOptions, OAuth2, tls};

/// A token is not used in its last seconds (as in `golang.org/x/oauth2`).
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// The whole exchange with the token server.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// How long an assertion is valid (as in Prometheus).
const ASSERTION_LIFETIME: Duration = Duration::from_secs(600);

/// The token for one `oauth2` block.
pub(crate) struct TokenSource {
    config: OAuth2,
    url: Uri,
    host: String,
    credential: Credential,
    client: Client,
    /// Held while a token is fetched, so that all who wait for it share one exchange.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    failure: Option<(Instant, Error)>,
    style: Option<Style>,
}

struct Token {
    header: HeaderValue,
    expires: Option<Instant>,
    /// The secret it was got with: another one means another token.
    secret: std::sync::Arc<str>,
}

/// Where the server wants the client's credentials. Found out by trying: header first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Header,
    Parameters,
}

impl TokenSource {
    pub(crate) fn new(config: &OAuth2, options: &HttpOptions) -> Result<Self, Error> {
        let invalid = || ConfigError::new(&["oauth2", "token_url"], "not a URL");
        let url: Uri = Url::parse(config.token_url.expose())
            .map_err(|_| invalid())?
            .as_str()
            .parse()
            .map_err(|_| invalid())?;
        let credential = if config.grant_type == OAuth2::JWT_BEARER {
            let file = &config.client_certificate_key_file;
            Credential::secret(&config.client_certificate_key, "client_certificate_key_file", file)
        } else {
            Credential::secret(&config.client_secret, "client_secret_file", &config.client_secret_file)
        };
        let http = Http::new(&config.http_config(), options.clone())?;
        Ok(Self {
            host: url.host().unwrap_or_default().to_owned(),
            config: config.clone(),
            url,
            credential,
            client: Client::new(http),
            state: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) async fn authorization(&self) -> Result<HeaderValue, Error> {
        let asked = Instant::now();
        let secret = self.credential.read()?;
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.secret == secret
            && token.expires.is_none_or(|expires| Instant::now() + EXPIRY_MARGIN < expires)
        {
            return Ok(token.header.clone());
        }
        // Those who waited while an attempt failed share its outcome, else they would all repeat it one by one.
        if let Some((at, failure)) = &state.failure
            && *at >= asked
        {
            return Err(failure.clone());
        }
        let fetched = match tokio::time::timeout(FETCH_TIMEOUT, self.fetch(&mut state.style, &secret)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Error::Timeout {
                step: "getting a token from",
                host: self.host.clone(),
                limit_ms: 30_000,
            }),
        };
        match fetched {
            Ok(answer) => {
                let scheme = match answer.token_type.as_deref().unwrap_or_default() {
                    kind if kind.is_empty() || kind.eq_ignore_ascii_case("bearer") => "Bearer",
                    kind if kind.eq_ignore_ascii_case("mac") => "MAC",
                    kind if kind.eq_ignore_ascii_case("basic") => "Basic",
                    kind => kind,
                };
                let header = secret_value("the oauth2 token", &format!("{scheme} {}", answer.access_token))?;
                let expires = answer.expires_in.map(|lifetime| Instant::now() + lifetime);
                state.failure = None;
                state.token = Some(Token { header: header.clone(), expires, secret });
                Ok(header)
            }
            Err(error) => {
                state.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn fetch(&self, style: &mut Option<Style>, secret: &str) -> Result<Answer, Error> {
        if self.config.grant_type == OAuth2::JWT_BEARER {
            let assertion = self.assertion(secret)?;
            let mut form = vec![("grant_type", OAuth2::JWT_BEARER.to_owned()), ("assertion", assertion)];
            self.add_parameters(&mut form);
            return self.exchange(&form, None).await;
        }
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        self.add_parameters(&mut form);
        if let Some(style) = *style {
            return self.exchange_with(style, &form, secret).await;
        }
        let answer = match self.exchange_with(Style::Header, &form, secret).await {
            Ok(answer) => {
                *style = Some(Style::Header);
                return Ok(answer);
            }
            Err(error @ Error::OAuth2 { .. }) => (self.exchange_with(Style::Parameters, &form, secret).await)
                // The first refusal is the one the specification is about.
                .map_err(|_| error)?,
            Err(error) => return Err(error),
        };
        *style = Some(Style::Parameters);
        Ok(answer)
    }

    fn add_parameters<'a>(&'a self, form: &mut Vec<(&'a str, String)>) {
        if !self.config.scopes.is_empty() {
            form.push(("scope", self.config.scopes.join(" ")));
        }
        for (name, value) in &self.config.endpoint_params {
            form.retain(|(set, _)| set != name);
            form.push((name, value.expose().to_owned()));
        }
    }

    async fn exchange_with(
        &self,
        style: Style,
        form: &[(&str, String)],
        secret: &str,
    ) -> Result<Answer, Error> {
        let id = &self.config.client_id;
        match style {
            Style::Header => {
                let escape =
                    |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let header = basic_authorization(&escape(id), &escape(secret))
                    .map_err(|_| self.failure("the client's credentials are too long".to_owned()))?;
                self.exchange(form, Some(header)).await
            }
            Style::Parameters => {
                let mut form = form.to_vec();
                form.push(("client_id", id.clone()));
                if !secret.is_empty() {
                    form.push(("client_secret", secret.to_owned()));
                }
                self.exchange(&form, None).await
            }
        }
    }

    async fn exchange(
        &self,
        form: &[(&str, String)],
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, Error> {
        let body = Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form_type);
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let response = self.client.clone().call(request).await?;
        self.read(response).await
    }

    async fn read(&self, response: Response<Body>) -> Result<Answer, Error> {
        let (parts, body) = response.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let is_form = matches!(content_type, "application/x-www-form-urlencoded" | "text/plain");
        let body = body.read_to_end(MAX_ANSWER_BYTES).await?;
        let answer = if is_form { RawAnswer::from_form(&body) } else { serde_json::from_slice(&body).ok() };
        let status = parts.status;
        let refused =
            answer.as_ref().and_then(|answer| answer.error.as_deref()).filter(|error| !error.is_empty());
        if let Some(error) = refused {
            let description = answer.as_ref().and_then(|answer| answer.error_description.as_deref());
            let detail = description.map(|text| format!(": {text}")).unwrap_or_default();
            return Err(self.failure(format!("{error}{detail} (status {})", status.as_u16())));
        }
        if !status.is_success() {
            return Err(self.failure(format!("it answers with status {status}")));
        }
        let answer =
            answer.ok_or_else(|| self.failure("the answer is neither JSON nor a form".to_owned()))?;
        let access_token = answer
            .access_token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| self.failure("the answer holds no access_token".to_owned()))?;
        let expires_in = answer.expires_in.and_then(|seconds| seconds.seconds()).map(Duration::from_secs);
        Ok(Answer { access_token, token_type: answer.token_type, expires_in })
    }

    /// The signed statement of RFC 7523.
    fn assertion(&self, key: &str) -> Result<String, Error> {
        let config = &self.config;
        let unusable = |reason: &str| self.failure(format!("client_certificate_key {reason}"));
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| unusable("holds no private key in PEM"))?;
        let (algorithm, scheme) = match config.signature_algorithm.as_str() {
            "RS384" => ("RS384", SignatureScheme::RSA_PKCS1_SHA384),
            "RS512" => ("RS512", SignatureScheme::RSA_PKCS1_SHA512),
            _ => ("RS256", SignatureScheme::RSA_PKCS1_SHA256),
        };
        let signer = (tls::provider().key_provider.load_private_key(der).ok())
            .and_then(|key| key.choose_scheme(&[scheme]))
            .ok_or_else(|| unusable("is not an RSA key"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut header = BTreeMap::from([("alg", algorithm), ("typ", "JWT")]);
        if !config.client_certificate_key_id.is_empty() {
            header.insert("kid", &config.client_certificate_key_id);
        }
        let issuer = if config.iss.is_empty() { &config.client_id } else { &config.iss };
        let audience = if config.audience.is_empty() { config.token_url.expose() } else { &config.audience };
        let mut claims = serde_json::Map::new();
        claims.insert("iss".to_owned(), issuer.as_str().into());
        claims.insert("sub".to_owned(), config.client_id.as_str().into());
        claims.insert("jti".to_owned(), random_uuid().into());
        claims.insert("aud".to_owned(), audience.into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), (now + ASSERTION_LIFETIME).as_secs().into());
        if !config.scopes.is_empty() {
            claims.insert("scope".to_owned(), config.scopes.join(" ").into());
        }
        claims.extend(config.claims.clone());
        let encode = |json: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(json);
        let json = |error: serde_json::Error| self.failure(error.to_string());
        let header = encode(serde_json::to_vec(&header).map_err(json)?);
        let claims = encode(serde_json::to_vec(&claims).map_err(json)?);
        let signed = format!("{header}.{claims}");
        let signature = signer.sign(signed.as_bytes()).map_err(|_| unusable("cannot sign"))?;
        Ok(format!("{signed}.{}", encode(signature)))
    }

    fn failure(&self, reason: String) -> Error {
        Error::OAuth2 { host: self.host.clone(), reason }
    }
}

/// A version 4 UUID (RFC 9562 §5.4).
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    // A generator that fails leaves zeros: the assertion is still valid, only its id is not unique.
    let _ = tls::provider().secure_random.fill(&mut bytes);
    let mut value = u128::from_be_bytes(bytes);
    value = value & !(0xf << 76) | 0x4 << 76;
    value = value & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{value:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

struct Answer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Duration>,
}

/// RFC 6749 §5.1 and §5.2 in one.
#[derive(Deserialize)]
struct RawAnswer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    error: Option<String>,
    error_description: Option<String>,
}

impl RawAnswer {
    fn from_form(body: &[u8]) -> Option<Self> {
        let mut fields: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        Some(Self {
            access_token: fields.remove("access_token"),
            token_type: fields.remove("token_type"),
            expires_in: fields.remove("expires_in").map(Seconds::Text),
            error: fields.remove("error"),
            error_description: fields.remove("error_description"),
        })
    }
}

/// Some servers (PayPal's was the first) send the number as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

impl Seconds {
    /// `None` for a token that does not expire, which is what 0 stands for.
    fn seconds(&self) -> Option<u64> {
        let seconds = match self {
            Self::Number(number) => *number,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        // A float-to-integer cast saturates; years are enough to be safe to add to a clock.
        Some((seconds as u64).min(u64::from(u32::MAX))).filter(|seconds| *seconds > 0)
    }
}
