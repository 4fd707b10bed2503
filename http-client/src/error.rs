use std::error::Error as StdError;
use std::path::PathBuf;

use crate::ConfigError;

/// Why a request got no answer, in words for the user who has to act on it.
///
/// An answer with a status of 400 or above is not an error here. Neither secrets nor the user information of a URL
/// ever appear in the text.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration breaks a rule.
    #[error("invalid http_config: {0}")]
    Config(#[from] ConfigError),
    /// A file of the configuration cannot be read or does not hold what it should.
    #[error("cannot use {key} {}: {reason}", path.display())]
    File {
        /// The configuration's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Inline TLS material of the configuration cannot be used.
    #[error("cannot use tls_config: {reason}")]
    TlsConfig {
        /// What is wrong with it.
        reason: String,
    },
    /// The request itself cannot be sent.
    #[error("cannot send the request: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// The host's name has no address.
    #[error("cannot look up {host}: {reason}")]
    Dns {
        /// The name.
        host: String,
        /// The resolver's answer.
        reason: String,
    },
    /// Nobody accepts connections at the address.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// The operating system's reason, such as "connection refused".
        reason: String,
    },
    /// The TLS handshake failed.
    #[error("tls with {host} failed: {reason}")]
    Tls {
        /// The server's name.
        host: String,
        /// Which check failed.
        reason: String,
    },
    /// The proxy cannot be used or refuses the connection.
    #[error("proxy {proxy}: {reason}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// What it answered.
        reason: String,
    },
    /// No token from the `oauth2` server.
    #[error("cannot get a token from {host}: {reason}")]
    OAuth2 {
        /// The token server.
        host: String,
        /// What went wrong there.
        reason: String,
    },
    /// The answer redirects to something that cannot be followed.
    #[error("cannot follow the redirect from {host}: {reason}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// Why it cannot be followed.
        reason: String,
    },
    /// The server closed the connection before its answer was complete.
    #[error("{host} closed the connection before its answer was complete")]
    Closed {
        /// The server.
        host: String,
    },
    /// A step took longer than it may.
    #[error("{step} {host} took longer than {limit_ms} ms")]
    Timeout {
        /// What was being done: "connecting to", "the tls handshake with".
        step: &'static str,
        /// With whom.
        host: String,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The answer is longer than the caller accepts.
    #[error("the answer of {host} is longer than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The server.
        host: String,
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// Sending or receiving failed, or the answer is not HTTP.
    #[error("talking to {host} failed: {reason}")]
    Exchange {
        /// The server.
        host: String,
        /// What failed.
        reason: String,
    },
}

impl Error {
    /// A step took longer than it may.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// No connection came about (name, address, TLS, proxy or the time limit of one of them): nothing was sent.
    pub fn is_connect(&self) -> bool {
        matches!(
            self,
            Self::Dns { .. }
                | Self::Connect { .. }
                | Self::Tls { .. }
                | Self::Proxy { .. }
                | Self::Timeout { .. }
        )
    }

    /// The configuration, or a file it names, has to be changed first.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::File { .. } | Self::TlsConfig { .. })
    }

    /// The server's or proxy's certificate, or ours, was refused.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// Translates hyper's error about an exchange with `host`.
    pub(crate) fn from_hyper(error: &hyper::Error, host: &str) -> Self {
        let host = host.to_owned();
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_cut_short(error) {
            return Self::Closed { host };
        }
        if head_is_too_large(error) {
            return Self::Exchange { host, reason: "the head of the answer is too large".to_owned() };
        }
        if error.is_parse() {
            return Self::Exchange { host, reason: format!("the answer is not HTTP ({error})") };
        }
        Self::Exchange { host, reason: root_cause(error) }
    }

    /// Finds our own error, or else hyper's, below one of the pooled client.
    pub(crate) fn from_pool(error: &hyper_util::client::legacy::Error, host: &str) -> Self {
        let mut source: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(cause) = source {
            if let Some(own) = cause.downcast_ref::<Self>() {
                return own.clone();
            }
            if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
                return Self::from_hyper(hyper, host);
            }
            source = cause.source();
        }
        Self::Exchange { host: host.to_owned(), reason: root_cause(error) }
    }
}

/// Whether the connection ended in the middle of a body, which hyper reports as an I/O error.
fn is_cut_short(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// hyper has a predicate for this in its server only.
pub(crate) fn head_is_too_large(error: &hyper::Error) -> bool {
    error.is_parse() && error.to_string().starts_with("message head is too large")
}

/// The innermost cause, which is the one that says something: "connection reset by peer".
pub(crate) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if let Some(io) = cause.downcast_ref::<std::io::Error>() {
        return io_reason(io);
    }
    cause.to_string()
}

/// An I/O error without the "(os error 111)" that means nothing to a reader.
pub(crate) fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => error.kind().to_string(),
    }
}
