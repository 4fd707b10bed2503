//! The `Authorization` header.

use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::file::Credential;
use crate::http::secret_value;
use crate::oauth2::TokenSource;
use crate::proxy::basic_authorization;
use crate::{Error, HttpClientConfig, HttpOptions};

/// Who a request says it comes from.
pub(crate) enum Authenticator {
    /// Nobody, or whom the URL names.
    None,
    Basic {
        username: Credential,
        password: Credential,
    },
    Scheme {
        scheme: String,
        credentials: Credential,
    },
    OAuth2(Box<TokenSource>),
}

impl Authenticator {
    pub(crate) fn new(config: &HttpClientConfig, options: &HttpOptions) -> Result<Self, Error> {
        if let Some(basic) = &config.basic_auth {
            return Ok(Self::Basic {
                username: Credential::new(&basic.username, "username_file", &basic.username_file),
                password: Credential::secret(&basic.password, "password_file", &basic.password_file),
            });
        }
        if let Some(authorization) = &config.authorization {
            let scheme = authorization.scheme.trim();
            return Ok(Self::Scheme {
                scheme: if scheme.is_empty() { "Bearer" } else { scheme }.to_owned(),
                credentials: Credential::secret(
                    &authorization.credentials,
                    "credentials_file",
                    &authorization.credentials_file,
                ),
            });
        }
        if let Some(oauth2) = &config.oauth2 {
            return Ok(Self::OAuth2(Box::new(TokenSource::new(oauth2, options)?)));
        }
        let bearer = Credential::secret(&config.bearer_token, "bearer_token_file", &config.bearer_token_file);
        Ok(match bearer {
            Credential::None => Self::None,
            credentials => Self::Scheme { scheme: "Bearer".to_owned(), credentials },
        })
    }

    pub(crate) async fn authorization(&self, uri: &Uri) -> Result<Option<HeaderValue>, Error> {
        match self {
            Self::None => Ok(from_user_information(uri)),
            Self::Basic { username, password } => basic_authorization(&username.read()?, &password.read()?)
                .map(Some)
                .map_err(|_| Error::Request { reason: "basic_auth is too long for a header".to_owned() }),
            Self::Scheme { scheme, credentials } => {
                secret_value("authorization", &format!("{scheme} {}", credentials.read()?)).map(Some)
            }
            Self::OAuth2(source) => source.authorization().await.map(Some),
        }
    }
}

/// The "user:password@" of a URL, which Go's client sends as basic authentication too.
fn from_user_information(uri: &Uri) -> Option<HeaderValue> {
    let (user, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    basic_authorization(&decode(name), &decode(password)).ok()
}
