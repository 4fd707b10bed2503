//! Delivery: from the spool to an endpoint, whatever the endpoint answers.

mod age;
mod attempt;
mod backoff;
mod endpoint;
mod latency;
mod limited;
mod metadata;
mod negotiation;
mod notice;
mod outcome;
mod pace;
mod parked;
mod queue;
mod refused;
mod request;
mod search;
mod shards;
mod size;
mod stats;
mod transport;
mod words;

use std::pin::pin;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use promferry_model::{Clock, MemoryBudget, Rng};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use crate::encode::EncodingContext;
use crate::limits::{Limits, LimitsOptions};
use crate::options::RemoteWriteConfig;
use crate::refusal::Secrets;
use crate::spool::{EndpointId, ProtocolChoice, Spool};
use age::SampleAge;
use endpoint::{Ended, EndpointLoop};
use metadata::MetadataSchedule;
use negotiation::Negotiation;
use pace::Pace;
use parked::ParkedLoop;
use request::Sender;
use search::SearchAllowance;
use shards::Shards;
use size::SizeLimit;

pub use latency::DurationHistogram;
pub use outcome::{MAX_RETRY_AFTER, Outcome};
pub(crate) use parked::SentAhead;
pub(crate) use request::Phase;
pub use request::{DescribeBody, ExplainDenial};
pub use stats::{EndpointSnapshot, EndpointStats, FirstSuccess, LastError, RefusalCount};
pub(crate) use transport::describe;
pub use transport::{BrokenAnswer, MAX_ANSWER_BYTES, ReadAnswer, ReadAnswerLayer, Transport, transport};

/// Bytes before compression, and after it, that a request may have: AMP takes less than 1 MB and does not say
/// of what, so that both readings are kept. Towards others a single larger sample is sent nevertheless.
pub const MAX_RAW_BYTES: usize = 999_999;

/// Everything one endpoint's delivery is made of.
pub(crate) struct Delivery {
    pub(crate) config: RemoteWriteConfig,
    pub(crate) headers: HeaderMap,
    pub(crate) transport: Transport,
    pub(crate) explain_denial: Option<ExplainDenial>,
    pub(crate) describe_body: Option<DescribeBody>,
    pub(crate) spool: Spool,
    pub(crate) id: EndpointId,
    /// What an earlier run found out about the endpoint.
    pub(crate) protocol_choice: Option<ProtocolChoice>,
    pub(crate) stats: Arc<EndpointStats>,
    pub(crate) budget: MemoryBudget,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Box<dyn Rng>,
    pub(crate) context: Arc<EncodingContext>,
    pub(crate) phase: watch::Receiver<Phase>,
    /// What the delivery before this one delivered ahead of its place in the parked queue.
    pub(crate) ahead: SentAhead,
    /// Whether series may be active whose first samples were delivered before this one began.
    pub(crate) is_late: bool,
}

/// Delivers until the phase says stop.
pub(crate) async fn start_endpoint(delivery: Delivery) {
    let Delivery { config, phase, .. } = delivery;
    let queue = &config.queue_config;
    let lasting = &config.lasting_limits;
    let age_limit = config.sample_age_limit();
    let max_parked_age = lasting.max_parked_age.as_std();
    let limits = Limits::new(
        LimitsOptions {
            probe_interval: lasting.probe_interval.as_std(),
            max_parked_age: age_limit.map_or(max_parked_age, |limit| limit.min(max_parked_age)),
            hold_out: lasting.hold_out.as_std(),
        },
        Arc::clone(&delivery.clock),
        Arc::clone(&delivery.context),
        delivery.budget.clone(),
        Arc::clone(&delivery.stats.limits),
    );
    if delivery.is_late {
        limits.learn_anew();
    }
    let metadata = config.metadata_config.send.then(|| MetadataSchedule {
        context: delivery.context,
        interval: config.metadata_config.send_interval.as_std(),
        max_entries: config.metadata_config.max_samples_per_send,
    });
    let url_hash = xxh3_64(config.shown_url().as_bytes());
    // Cursors of earlier releases have the hash of the whole URL, passwords included.
    let earlier_hash = xxh3_64(config.url.as_bytes());
    let choice = delivery.protocol_choice.map(|choice| match choice.url_hash {
        hash if hash == earlier_hash => ProtocolChoice { url_hash, ..choice },
        _ => choice,
    });
    let negotiation = Negotiation::new(
        config.protocol(),
        config.protobuf_fallback,
        url_hash,
        choice,
        delivery.clock.now(),
        Arc::clone(&delivery.stats),
    );
    let sender = Sender {
        endpoint: config.key(),
        url: config.url.clone(),
        secrets: Secrets::of(&config.url, &delivery.headers),
        headers: delivery.headers,
        negotiation: negotiation.remember_in(delivery.spool.clone(), delivery.id),
        send_native_histograms: config.send_native_histograms,
        transport: delivery.transport,
        attempt_timeout: config.remote_timeout.as_std(),
        min_backoff: queue.min_backoff.as_std(),
        max_backoff: queue.max_backoff.as_std(),
        sample_age_limit: age_limit.unwrap_or_default(),
        explain_denial: delivery.explain_denial,
        describe_body: delivery.describe_body,
        stats: delivery.stats,
        age: SampleAge::new(Arc::clone(&delivery.clock)),
        clock: delivery.clock,
        rng: Mutex::new(delivery.rng),
        notices: notice::Notices::default(),
        size: SizeLimit::new(config.is_amp(), queue.max_samples_per_send as u64),
        pace: Pace::default(),
        searches: SearchAllowance::default(),
        limits,
        phase: phase.clone(),
    };
    let sender = Arc::new(sender);
    let mut parked = ParkedLoop {
        spool: delivery.spool.clone(),
        id: delivery.id,
        sender: Arc::clone(&sender),
        phase: phase.clone(),
        queue: None,
        ahead: delivery.ahead,
    };
    if !parked.load().await {
        return;
    }
    let endpoint = EndpointLoop {
        arrivals: delivery.spool.arrivals(delivery.id),
        spool: delivery.spool,
        id: delivery.id,
        sender,
        budget: delivery.budget,
        batch_send_deadline: queue.batch_send_deadline.as_std(),
        capacity: queue.capacity.max(queue.max_samples_per_send) as u64,
        shards: Shards::new(queue.min_shards, queue.max_shards),
        started: tokio::time::Instant::now(),
        phase,
        metadata,
    };
    let mut parked = pin!(parked.run());
    let mut endpoint = pin!(endpoint.run());
    let mut is_parked_done = false;
    let ended = loop {
        tokio::select! {
            ended = &mut endpoint => break ended,
            () = &mut parked, if !is_parked_done => is_parked_done = true,
        }
    };
    // Its requests come to their end, too. Otherwise it never keeps delivery from ending.
    if ended == Ended::HandedOver && !is_parked_done {
        parked.await;
    }
}
