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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use promferry_config::{ConfigError, Pem, RateLimit, WebConfig};
use promferry_http_client::Secret;
use rustls::ServerConfig;
use tokio::sync::Semaphore;

use self::passwords::Passwords;
use self::request_rate::RequestRate;

/// Who may look at the pages, and by which certificate they know them.
pub(crate) struct Access {
    files: Arc<Files>,
    /// One look at the files at a time.
    turn: Arc<Semaphore>,
    /// Whether the last look that was waited for had not ended in time.
    is_slow: AtomicBool,
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

/// The file and those that it names.
struct Files {
    path: PathBuf,
    /// Held while they are read, which may take long.
    read: Mutex<Read>,
    in_force: Mutex<Arc<InForce>>,
    /// When it was last said that they can't be used.
    said: Mutex<Option<Instant>>,
}

/// What was read of them.
struct Read {
    texts: Texts,
    /// When they were last found broken.
    tried: Option<Instant>,
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
/// A volume that does not answer holds nobody up for longer.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// More than any certificate needs.
const MAX_FILE_BYTES: u64 = 4 << 20;

impl Access {
    /// Reads the file and those that it names; says what has no effect.
    pub(crate) fn load(path: &Path) -> Result<Self, WebConfigError> {
        let (config, texts, in_force) = load(path)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let files = Files {
            path: path.to_owned(),
            read: Mutex::new(Read { texts, tried: None }),
            in_force: Mutex::new(Arc::new(in_force)),
            said: Mutex::default(),
        };
        Ok(Self {
            files: Arc::new(files),
            turn: Arc::new(Semaphore::new(1)),
            is_slow: AtomicBool::new(false),
            passwords: Passwords::default(),
            rate: RequestRate::default(),
        })
    }

    /// Whether TLS is spoken, as far as was found out by now.
    pub(crate) fn speaks_tls(&self) -> bool {
        self.files.in_force().tls.is_some()
    }

    /// How TLS is spoken with the next connection, if it is.
    pub(crate) async fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.in_force().await.tls.clone()
    }

    /// Judges a request by its headers; those that its answer gets are returned too.
    pub(crate) async fn admit(&self, headers: &HeaderMap) -> (Admission, HeaderMap) {
        let in_force = self.in_force().await;
        if !self.rate.allows(in_force.rate_limit) {
            return (Admission::TooMany, HeaderMap::new());
        }
        let is_welcome = in_force.users.is_empty()
            || self.passwords.admit(&in_force.users, headers.get(AUTHORIZATION)).await;
        let admission = if is_welcome { Admission::Welcome } else { Admission::Unauthorized };
        (admission, in_force.headers.clone())
    }

    /// What the files say now; what they said before, as long as they can't be used or don't answer. They are read on
    /// the blocking pool: scraping and delivery do not wait for them.
    async fn in_force(&self) -> Arc<InForce> {
        let look = async {
            let turn = Arc::clone(&self.turn);
            let turn = match self.is_slow.load(Ordering::Relaxed) {
                // Who waited for it before waited for everybody.
                true => turn.try_acquire_owned().ok()?,
                false => turn.acquire_owned().await.ok()?,
            };
            self.is_slow.store(false, Ordering::Relaxed);
            let files = Arc::clone(&self.files);
            let look = move || {
                // Held until it is done, also when nobody waits any more.
                let _turn = turn;
                files.look();
            };
            tokio::task::spawn_blocking(look).await.ok()
        };
        if tokio::time::timeout(LOOK_LIMIT, look).await.is_err() {
            self.is_slow.store(true, Ordering::Relaxed);
            let path = self.files.path.display();
            self.files.say(format_args!("{path}: it was not read within {LOOK_LIMIT:?}"));
        }
        self.files.in_force()
    }
}

impl Files {
    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts in force what they say now, if that can be used.
    fn look(&self) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.texts.still_hold(&self.path) {
            read.tried = None;
            return;
        }
        if read.tried.is_some_and(|tried| tried.elapsed() < TRIED_EVERY) {
            return;
        }
        match load(&self.path).and_then(|loaded| self.no_less(&self.in_force(), loaded)) {
            Ok((config, texts, in_force)) => {
                for warning in &config.warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!("{}: what changed is in force", self.path.display());
                *read = Read { texts, tried: None };
                *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(in_force);
                *self.said.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Err(error) => {
                read.tried = Some(Instant::now());
                self.say(format_args!("{error}"));
            }
        }
    }

    /// Says why they can't be used, once in a while.
    fn say(&self, reason: fmt::Arguments<'_>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            *said = Some(Instant::now());
            tracing::warn!("{reason}; the pages go on as they were");
        }
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
        f.debug_struct("Access").field("path", &self.files.path).finish_non_exhaustive()
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
    // To open a pipe might wait for ever, and what was in it is gone after the first look.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[expect(clippy::await_holding_lock, reason = "it stands for a volume that hangs")]
    async fn files_that_do_not_answer_hold_up_only_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "http_server_config: {headers: {X-Frame-Options: deny}}\n").unwrap();
        let access = Access::load(&path).unwrap();
        let hanging = access.files.read.lock().unwrap();
        let waited = async |access: &Access| {
            let began = Instant::now();
            let (admission, headers) = access.admit(&HeaderMap::new()).await;
            assert_eq!((admission, headers.len()), (Admission::Welcome, 1));
            began.elapsed()
        };
        let (first, second) = (waited(&access).await, waited(&access).await);
        assert!(first >= LOOK_LIMIT && second < LOOK_LIMIT, "{first:?} {second:?}");
        drop(hanging);
        std::fs::write(&path, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n").unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        while access.admit(&HeaderMap::new()).await.1["x-frame-options"] != "sameorigin" {
            assert!(Instant::now() < end, "what changed is not in force");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
