use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use promferry_model::SeededRng;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::set::ProfileLog;
use super::{Endpoint, Inner, LAST_ANSWER};
use crate::delivery::{
    Delivery, DescribeBody, EndpointStats, ExplainDenial, Phase, SentAhead, Transport, start_endpoint,
};
use crate::spool::{EndpointId, EndpointOptions, ProtocolChoice, Spool, SpoolError};
use crate::{Lane, RemoteWriteConfig};

/// An endpoint as it is configured, and its delivery.
pub(super) struct Running {
    pub(super) key: String,
    pub(super) config: RemoteWriteConfig,
    pub(super) reach: Reach,
    pub(super) id: EndpointId,
    /// Its profile; `None` if it gets no samples of this run.
    pub(super) profile: Option<Arc<ProfileLog>>,
    pub(super) delivering: Arc<Delivering>,
}

/// How an endpoint is reached: what its [`Endpoint`] has besides the configuration.
#[derive(Clone)]
pub(super) struct Reach {
    transport: Transport,
    explain_denial: Option<ExplainDenial>,
    describe_body: Option<DescribeBody>,
}

/// The task that delivers to an endpoint.
pub(super) struct Delivering {
    pub(super) stats: Arc<EndpointStats>,
    /// What was delivered of the parked queue ahead of its place.
    ahead: SentAhead,
    phase: watch::Sender<Phase>,
    task: Mutex<Option<JoinHandle<()>>>,
    abort: AbortHandle,
    attempt_timeout: Duration,
}

impl Reach {
    pub(super) fn of(endpoint: Endpoint) -> (RemoteWriteConfig, Self) {
        let Endpoint { config, transport, explain_denial, describe_body } = endpoint;
        (config, Self { transport, explain_denial, describe_body })
    }
}

impl Delivering {
    /// Starts delivery to an endpoint; after `before`, where it takes up what that one has left.
    pub(super) fn start(
        inner: &Inner,
        config: &RemoteWriteConfig,
        reach: &Reach,
        id: EndpointId,
        protocol_choice: Option<ProtocolChoice>,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let (phase, phases) = watch::channel(Phase::Running);
        let stats = Arc::new(EndpointStats::default());
        let ahead = before.map(|before| Arc::clone(&before.ahead)).unwrap_or_default();
        let Reach { transport, explain_denial, describe_body } = reach.clone();
        let task = tokio::spawn(start_endpoint(Delivery {
            headers: headers(config, &inner.user_agent),
            config: config.clone(),
            transport,
            explain_denial,
            describe_body,
            spool: inner.spool.clone(),
            id,
            protocol_choice,
            stats: Arc::clone(&stats),
            budget: inner.budget.clone(),
            clock: Arc::clone(&inner.clock),
            rng: Box::new(SeededRng::new(inner.next_seed())),
            context: Arc::clone(&inner.context),
            phase: phases,
            ahead: Arc::clone(&ahead),
            is_late: inner.is_started(),
        }));
        Arc::new(Self {
            stats,
            ahead,
            phase,
            abort: task.abort_handle(),
            task: Mutex::new(Some(task)),
            attempt_timeout: config.remote_timeout.as_std(),
        })
    }

    /// Comes to this phase, unless it is further on already.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let is_later = *current < phase;
            *current = phase.max(*current);
            is_later
        });
    }

    /// Looks for what waits, and sends it without waiting for more.
    pub(super) fn hurry(&self) {
        // The phase stays: to be told of it again is what makes delivery look.
        self.phase.send_modify(|_| {});
    }

    pub(super) fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it has come to its end, or failed.
    pub(super) fn has_ended(&self) -> bool {
        self.abort.is_finished()
    }

    pub(super) fn abort(&self) {
        self.abort.abort();
    }

    /// Ends delivery so that another one can go on after it: requests that were begun come to their end, for which
    /// they have as long as one attempt may take.
    pub(super) async fn hand_over(&self) {
        self.enter(Phase::HandingOver);
        let Some(mut task) = self.take_task() else { return };
        if tokio::time::timeout(self.attempt_timeout, &mut task).await.is_ok() {
            return;
        }
        self.enter(Phase::Stopped);
        // It waits for nothing any more but the spool.
        if tokio::time::timeout(LAST_ANSWER, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
    }
}

/// What the spool has to know of an endpoint.
pub(super) fn options(config: &RemoteWriteConfig) -> EndpointOptions {
    EndpointOptions { sample_age_limit: config.sample_age_limit() }
}

/// Whether delivery does the same under both: they differ at most in what is encoded and in what is warned of.
pub(super) fn deliver_alike(one: &RemoteWriteConfig, other: &RemoteWriteConfig) -> bool {
    let of_delivery = |config: &RemoteWriteConfig| RemoteWriteConfig {
        write_relabel_configs: Vec::new(),
        send_exemplars: false,
        active_series_limit: 0,
        samples_per_second_limit: 0,
        ..config.clone()
    };
    one == other || of_delivery(one) == of_delivery(other)
}

/// Lets what was fetched for an endpoint and not settled be fetched again, by the delivery that follows.
pub(super) async fn rewind(spool: &Spool, id: EndpointId) -> Result<(), SpoolError> {
    for id in [Some(id), spool.parked(id).await?].into_iter().flatten() {
        for lane in Lane::all() {
            spool.rewind(id, lane).await?;
        }
    }
    Ok(())
}

/// Configured headers and the user agent; names were validated, and a value that is no header value is left
/// out as a server could not read it either.
fn headers(config: &RemoteWriteConfig, user_agent: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    if let Ok(value) = HeaderValue::from_str(user_agent) {
        headers.insert(http::header::USER_AGENT, value);
    }
    headers
}
