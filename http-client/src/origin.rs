//! What belongs to the origin that a request is for, and to no other that it is redirected to.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::is_reserved_header;
use crate::error::io_reason;
use crate::file::{Stamp, read_text};
use crate::http::secret_value;
use crate::{ConfigError, Error};

/// Put among a request's [extensions](http::Request::extensions) this has a [`Connection`](crate::Connection) ask the
/// server for another host than the one it connects to, as one does behind a gateway or a load balancer: it is the
/// `Host` header and, over TLS, the name that the server is asked for and that its certificate has to carry (unless
/// `tls_config.server_name` says otherwise).
///
/// A redirect to the host as it is named here stays on the connection. Any other leaves it, and with it this name, the
/// [`OriginHeaders`] and all credentials. A proxy for plain `http` gets the URL with the address to connect to, and
/// may set `Host` from that; everything else goes through unseen.
///
/// A [`Client`](crate::Client) refuses such a request: it keeps its connections by their URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedAs(pub Authority);

/// Headers of one request, put among its [extensions](http::Request::extensions): they are sent to the host that it is
/// for and not to another that this one redirects to. They take the place of the configuration's headers of the same
/// name; an `Authorization` among them is the only one that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginHeaders(pub Arc<[OriginHeader]>);

/// A header whose value is never shown.
#[derive(Clone)]
pub struct OriginHeader {
    name: HeaderName,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Fixed(HeaderValue),
    File(Arc<HeaderFile>),
}

struct HeaderFile {
    path: PathBuf,
    folders: Arc<[PathBuf]>,
    cache: Mutex<Option<(Stamp, HeaderValue)>>,
}

impl OriginHeader {
    /// A header with this value.
    ///
    /// # Errors
    /// [`ConfigError`] for what is no header, and for headers that are the client's own: those that `http_headers` may
    /// not set but `Authorization`, and those that speak of the connection.
    pub fn new(name: &str, value: &str) -> Result<Self, ConfigError> {
        let header = settable_name(name)?;
        let fail = || ConfigError::new(&[name], "its value holds a line break or another control character");
        let mut value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| fail())?;
        value.set_sensitive(true);
        Ok(Self { name: header, value: Value::Fixed(value) })
    }

    /// A header whose value is what is in the file, white space around it left out. It is read by the first request
    /// and again when it has changed. The file has to be below one of `folders` wherever symbolic links lead.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and for a path that is not absolute, that has `..` in it, or that is below none of
    /// `folders`.
    pub fn from_file(name: &str, path: &Path, folders: &Arc<[PathBuf]>) -> Result<Self, ConfigError> {
        let header = settable_name(name)?;
        let fail = |message: String| ConfigError::new(&[name], message);
        if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(fail(format!("{} has to be an absolute path without \"..\"", path.display())));
        }
        if !folders.iter().any(|folder| path.starts_with(folder) && path != folder) {
            return Err(fail(format!("{} is in none of the folders that may be read", path.display())));
        }
        let file =
            HeaderFile { path: path.to_owned(), folders: Arc::clone(folders), cache: Mutex::new(None) };
        Ok(Self { name: header, value: Value::File(Arc::new(file)) })
    }

    /// The header's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    fn read(&self) -> Result<HeaderValue, Error> {
        match &self.value {
            Value::Fixed(value) => Ok(value.clone()),
            Value::File(file) => file.read(),
        }
    }
}

impl PartialEq for OriginHeader {
    /// Files are equal when they are the same ones, whatever they hold.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.value, &other.value) {
                (Value::Fixed(a), Value::Fixed(b)) => a == b,
                (Value::File(a), Value::File(b)) => a.path == b.path && a.folders == b.folders,
                _ => false,
            }
    }
}

impl fmt::Debug for OriginHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: <secret>", self.name)
    }
}

/// The key of errors of [`OriginHeader`]s' files.
const FILE_KEY: &str = "a header's file";

impl HeaderFile {
    fn read(&self) -> Result<HeaderValue, Error> {
        let fail = |reason: String| Error::File { key: FILE_KEY, path: self.path.clone(), reason };
        let canonical = |path: &Path| std::fs::canonicalize(path).map_err(|error| fail(io_reason(&error)));
        let path = canonical(&self.path)?;
        let is_inside = |folder: &PathBuf| canonical(folder).is_ok_and(|folder| path.starts_with(folder));
        if !self.folders.iter().any(is_inside) {
            return Err(fail("a symbolic link leads out of the folders that may be read".to_owned()));
        }
        // A pipe would be waited for without end.
        if !std::fs::metadata(&path).is_ok_and(|known| known.is_file()) {
            return Err(fail("it is no regular file".to_owned()));
        }
        let now = Stamp::of(FILE_KEY, &path)?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, value)) = &*cache
            && stamp.still_holds(&now)
        {
            return Ok(value.clone());
        }
        let text = read_text(FILE_KEY, &path)?;
        if text.trim().is_empty() {
            return Err(fail("it is empty".to_owned()));
        }
        let value = secret_value(FILE_KEY, text.trim())?;
        *cache = Some((now, value.clone()));
        Ok(value)
    }
}

/// A request's own way of being served: [`ServedAs`] and [`OriginHeaders`].
pub(crate) struct Origin {
    pub(crate) served_as: Option<Authority>,
    pub(crate) headers: Arc<[OriginHeader]>,
}

impl Origin {
    /// What a request carries, if it carries anything.
    ///
    /// # Errors
    /// [`Error::Request`] for a name with user information.
    pub(crate) fn of(extensions: &http::Extensions) -> Result<Option<Self>, Error> {
        let served_as = extensions.get::<ServedAs>().map(|ServedAs(authority)| authority.clone());
        let headers = extensions.get::<OriginHeaders>().map(|OriginHeaders(headers)| Arc::clone(headers));
        if served_as.as_ref().is_some_and(|authority| authority.as_str().contains('@')) {
            let reason = "the host it is served as may not hold a user name".to_owned();
            return Err(Error::Request { reason });
        }
        Ok((served_as.is_some() || headers.is_some())
            .then(|| Self { served_as, headers: headers.unwrap_or_default() }))
    }

    /// Sets its headers.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read.
    pub(crate) fn dress(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        if let Some(authority) = &self.served_as
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            headers.insert(http::header::HOST, host);
        }
        for header in self.headers.iter() {
            headers.insert(header.name.clone(), header.read()?);
        }
        Ok(())
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|header| header.name == *name)
    }
}

/// Among the [extensions](http::Response::extensions) of an answer with a status of 400 or above: the credentials that
/// were sent, for the body may repeat them.
#[derive(Clone)]
pub struct SentSecrets(Vec<HeaderValue>);

impl SentSecrets {
    /// Those of a request as it is sent: files and tokens may be others by the time of the answer.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.values().filter(|value| value.is_sensitive()).cloned().collect())
    }

    /// Puts them beside an answer that may repeat them.
    pub(crate) fn beside<B>(self, mut response: http::Response<B>) -> http::Response<B> {
        if response.status().is_client_error() || response.status().is_server_error() {
            response.extensions_mut().insert(self);
        }
        response
    }

    /// `text` with `<secret>` in the place of each credential.
    pub fn redact(&self, text: &str) -> String {
        let mut secrets = Vec::new();
        for value in &self.0 {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            // What follows the scheme is the credential.
            if let Some((_, credentials)) = text.split_once(' ') {
                secrets.push(credentials.trim().to_owned());
            }
            secrets.push(text);
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "<secret>"))
    }
}

impl fmt::Debug for SentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SentSecrets({})", self.0.len())
    }
}

/// Headers that speak of the connection or of how the answer is read, beyond those that are reserved for
/// `http_headers`.
const OWN_HEADERS: &[&str] =
    &["accept", "expect", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

fn settable_name(name: &str) -> Result<HeaderName, ConfigError> {
    let fail = |message: &str| ConfigError::new(&[name], message);
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fail("not a header's name"))?;
    let is_own = is_reserved_header(&parsed) || OWN_HEADERS.contains(&parsed.as_str());
    if is_own && parsed != http::header::AUTHORIZATION {
        return Err(fail("setting this header is not allowed, the client sets it itself"));
    }
    Ok(parsed)
}
