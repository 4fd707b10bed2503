//! The file of `--web.config.file` in force: TLS, passwords, headers, limits. It is looked at again for each connection
//! and each request, with the files that it names.

mod client_certificates;
mod passwords;
mod request_rate;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use promferry_config::{ConfigError, Pem, RateLimit, WebConfig};
use promferry_http_client::Secret;
use rustls::ServerConfig;

use self::passwords::Passwords;
use self::request_rate::RequestRate;

/// Who may look at the pages, and by which certificate they know them.
pub(crate) struct Access {
    path: PathBuf,
    state: Mutex<State>,
    passwords: Passwords,
    rate: RequestRate,
}

/// What became of a request before a page was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The page may answer it.
    Welcome,
    /// There is a user, or a password, missing or wrong.
    Unauthorized,
    /// There were too many.
    TooMany,
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebConfigError {
    /// It can't be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something in it, or in a file that it names, is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It asks for neither TLS nor passwords any more, while there is one in force: so does a file that is being written.
    #[error(
        "{}: {missing} gone; what was there stays in force, and the next start does without it", path.display()
    )]
    LessThanBefore {
        /// The file.
        path: PathBuf,
        /// Of what there is less.
        missing: &'static str,
    },
}

struct State {
    texts: Texts,
    in_force: Arc<InForce>,
    /// When the file was last found broken.
    tried: Option<Instant>,
    /// When that was last said.
    said: Option<Instant>,
}

/// What the file says, made ready.
#[derive(Debug, Default)]
struct InForce {
    tls: Option<Arc<ServerConfig>>,
    headers: HeaderMap,
    users: BTreeMap<String, Secret>,
    rate_limit: Option<RateLimit>,
}

/// A broken file is said once in this time,
const SAID_EVERY: Duration = Duration::from_secs(60);
/// and read again once in this.
const TRIED_EVERY: Duration = Duration::from_secs(1);
/// More than any certificate needs.
const MAX_FILE_BYTES: u64 = 4 << 20;

impl Access {
    /// Reads the file and those that it names; says what has no effect.
    pub(crate) fn load(path: &Path) -> Result<Self, WebConfigError> {
        let (config, texts, in_force) = load(path)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let state = State { texts, in_force: Arc::new(in_force), tried: None, said: None };
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(state),
            passwords: Passwords::default(),
            rate: RequestRate::default(),
        })
    }

    /// How TLS is spoken with the next connection, if it is.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.in_force().tls.clone()
    }

    /// Judges a request by its headers; those that its answer gets are returned too.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> (Admission, HeaderMap) {
        let in_force = self.in_force();
        if !self.rate.allows(in_force.rate_limit) {
            return (Admission::TooMany, HeaderMap::new());
        }
        let is_welcome = in_force.users.is_empty()
            || self.passwords.admit(&in_force.users, headers.get(AUTHORIZATION)).await;
        let admission = if is_welcome { Admission::Welcome } else { Admission::Unauthorized };
        (admission, in_force.headers.clone())
    }

    /// What the files say now; what they said before, as long as they can't be used.
    fn in_force(&self) -> Arc<InForce> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.texts.still_hold(&self.path) {
            state.tried = None;
            return Arc::clone(&state.in_force);
        }
        if state.tried.is_some_and(|tried| tried.elapsed() < TRIED_EVERY) {
            return Arc::clone(&state.in_force);
        }
        match load(&self.path).and_then(|loaded| self.no_less(&state.in_force, loaded)) {
            Ok((config, texts, in_force)) => {
                for warning in &config.warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!("{}: what changed is in force", self.path.display());
                *state = State { texts, in_force: Arc::new(in_force), tried: None, said: None };
            }
            Err(error) => {
                state.tried = Some(Instant::now());
                if state.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                    state.said = state.tried;
                    tracing::warn!("{error}; the pages go on as they were");
                }
            }
        }
        Arc::clone(&state.in_force)
    }

    /// Refuses to take protection off while the process runs.
    fn no_less(&self, before: &InForce, loaded: Loaded) -> Result<Loaded, WebConfigError> {
        let after = &loaded.2;
        let missing = match (
            before.tls.is_some() && after.tls.is_none(),
            !before.users.is_empty() && after.users.is_empty(),
        ) {
            (false, false) => return Ok(loaded),
            (true, false) => "TLS is",
            (false, true) => "basic_auth_users are",
            (true, true) => "TLS and basic_auth_users are",
        };
        Err(WebConfigError::LessThanBefore { path: self.path.clone(), missing })
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("path", &self.path).finish_non_exhaustive()
    }
}

type Loaded = (WebConfig, Texts, InForce);

fn load(path: &Path) -> Result<Loaded, WebConfigError> {
    let text = read(path).map_err(|source| WebConfigError::Unreadable { path: path.to_owned(), source })?;
    let config = WebConfig::parse(path, &text)?;
    let mut texts = Texts { config: text.into(), files: BTreeMap::new() };
    let tls = config.tls.as_ref().map(|tls| tls::server_config(&config, tls, &mut texts)).transpose()?;
    for (user, hash) in &config.basic_auth_users {
        passwords::check(hash.expose())
            .map_err(|reason| config.error(&["basic_auth_users", user], reason))?;
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        // Both were checked when the file was read.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let in_force = InForce {
        tls: tls.map(Arc::new),
        headers,
        users: config.basic_auth_users.clone(),
        rate_limit: config.rate_limit,
    };
    Ok((config, texts, in_force))
}

/// What was read: compared as a whole, since certificates may be changed within the resolution of a file's times.
struct Texts {
    config: Secret,
    files: BTreeMap<PathBuf, Secret>,
}

impl Texts {
    /// The PEM of this key of `tls_server_config`, from the file that it names or as it stands there.
    fn pem(&mut self, config: &WebConfig, key: &str, pem: &Pem) -> Result<Secret, ConfigError> {
        match pem {
            Pem::Inline(text) => Ok(text.clone()),
            Pem::File(path) => {
                let text = read(path).map(Secret::from).map_err(|error| {
                    let message = format!("{} cannot be read: {error}", path.display());
                    config.error(&["tls_server_config", &format!("{key}_file")], &message)
                })?;
                self.files.insert(path.clone(), text.clone());
                Ok(text)
            }
        }
    }

    fn still_hold(&self, path: &Path) -> bool {
        let mut files = std::iter::once((path, &self.config))
            .chain(self.files.iter().map(|(path, text)| (path.as_path(), text)));
        files.all(|(path, text)| read(path).is_ok_and(|now| now == text.expose()))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}
