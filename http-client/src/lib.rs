//! Prometheus' `http_config` as one HTTP client: authentication, TLS, proxies, redirects.
//!
//! [`HttpClientConfig`] is the configuration block, with Prometheus' keys, defaults and rules. [`Http`] is that block
//! made ready: credentials and certificates that are read again when their files change, an OAuth 2.0 token that is
//! fetched once for all, one TLS configuration for all that ask for the same. Requests go out through
//!
//! - [`Client`], a pooled `tower::Service` for few hosts and many requests (remote write, service discovery), or
//! - [`Connection`], one kept-alive connection with small buffers for one scrape loop: thousands of them fit into the
//!   memory that a general pool takes for hundreds.
//!
//! It is not a general HTTP client: bodies of requests are in memory, nothing is decompressed, no cookie is kept, and
//! no time limit is put on a request as a whole, because callers have limits of their own. TLS is rustls with aws-lc,
//! version 1.2 or 1.3; the provider is passed explicitly, so nothing has to be installed for the process.
//!
//! # Example
//!
//! ```
//! use promferry_http_client::{Connection, Http, HttpClientConfig, HttpOptions};
//! # use std::io::{Read, Write};
//! # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = server.local_addr()?;
//! # std::thread::spawn(move || {
//! #     let (mut stream, _) = server.accept().unwrap();
//! #     let mut request = [0; 4096];
//! #     let length = stream.read(&mut request).unwrap();
//! #     assert!(String::from_utf8_lossy(&request[..length]).contains("authorization: Basic dXNlcjpwYXNz"));
//! #     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nup 1\n").unwrap();
//! # });
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! // As it comes from a YAML or JSON file.
//! let config: HttpClientConfig = serde_json::from_str(
//!     r#"{"basic_auth": {"username": "user", "password": "pass"}, "follow_redirects": false}"#,
//! )?;
//! let http = Http::new(&config, HttpOptions::default())?;
//! let mut connection = Connection::new(http);
//!
//! let request = http::Request::get(format!("http://{address}/metrics")).body(bytes::Bytes::new())?;
//! let response = connection.send(request).await?;
//! assert_eq!(response.status(), 200);
//! let page = response.into_body().read_to_end(1_000_000).await?;
//! assert_eq!(&page[..], b"up 1\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod body;
mod client;
mod config;
mod connection;
mod dial;
mod error;
mod file;
mod gather;
mod http;
mod oauth2;
mod origin;
mod proxy;
mod redirect;
mod secret;
mod stream;
mod tls;
mod url_parts;

pub use crate::body::Body;
pub use crate::client::Client;
pub use crate::config::{
    Authorization, BasicAuth, ConfigError, HttpClientConfig, HttpHeader, OAuth2, TlsConfig, TlsVersion,
};
pub use crate::connection::Connection;
pub use crate::error::Error;
pub use crate::http::{Http, HttpOptions};
pub use crate::origin::{OriginHeader, OriginHeaders, SentSecrets, ServedAs};
pub use crate::proxy::ProxyEnvironment;
pub use crate::redirect::KeepMethod;
pub use crate::secret::Secret;
pub use crate::url_parts::UrlParts;
