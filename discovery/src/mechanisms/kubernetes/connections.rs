//! What the collections of one API server share: connections, the number of lists at a time, and whether it streams
//! lists.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promferry_http_client::Client;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::api_server::{ApiServer, KubernetesOptions};

/// Collections that share the connection of HTTP/2. API servers allow a hundred streams on one and more, and a request
/// that has to wait for one would wait for a watch to end.
const MAX_SHARING: usize = 64;

/// Lists at a time: each costs the server, and us, most of what we ever take.
const MAX_LISTS: usize = 2;

/// How long it is remembered that lists are not streamed. Servers are brought up to date.
const WITHOUT_STREAMS: Duration = Duration::from_secs(3600);

/// An API server that is asked.
pub(super) struct Server {
    api: ApiServer,
    pub(super) options: KubernetesOptions,
    pub(super) lists: Arc<Semaphore>,
    /// Each with those who share it, and one more.
    clients: Mutex<Vec<(Client, Arc<()>)>>,
    without_streams_until: Mutex<Option<Instant>>,
}

/// A part in a connection.
pub(super) struct Lease {
    client: Client,
    _share: Arc<()>,
}

impl Server {
    pub(super) fn new(api: ApiServer, options: KubernetesOptions) -> Self {
        Self {
            api,
            options,
            lists: Arc::new(Semaphore::new(MAX_LISTS)),
            clients: Mutex::default(),
            without_streams_until: Mutex::default(),
        }
    }

    /// Paths are appended to it.
    pub(super) fn url(&self) -> &str {
        &self.api.url
    }

    /// The same for a reader.
    pub(super) fn shown_url(&self) -> &str {
        &self.api.shown_url
    }

    pub(super) fn lease(&self) -> Lease {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |(_, share): &&(Client, Arc<()>)| Arc::strong_count(share) <= MAX_SHARING;
        if let Some((client, share)) = clients.iter().find(has_room) {
            return Lease { client: client.clone(), _share: share.clone() };
        }
        let (client, share) = (Client::new(self.api.http.clone()), Arc::new(()));
        clients.push((client.clone(), share.clone()));
        Lease { client, _share: share }
    }

    /// Whether lists may be asked for as streams.
    pub(super) fn may_stream(&self) -> bool {
        let until = *self.without_streams_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_none_or(|until| until <= Instant::now())
    }

    pub(super) fn refuses_streams(&self) {
        let until = Instant::now() + WITHOUT_STREAMS;
        *self.without_streams_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

impl Lease {
    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.api.shown_url).finish_non_exhaustive()
    }
}
