use std::sync::Arc;
use std::time::Duration;

use promferry_model::Labels;

use super::profiles::{OpenedProfiles, ProfilePlan};
use super::running::{Delivering, Reach, Running, deliver_alike, options, rewind};
use super::set::{ProfileLog, Set};
use super::{Endpoint, Inner, RemoteWrite, Sends, StartError, check, insist};
use crate::delivery::Phase;
use crate::options::RemoteWriteConfig;
use crate::spool::{EndpointId, Spool, SpoolError};

/// An endpoint as [`RemoteWrite::apply`] is to make it.
pub enum EndpointChange {
    /// With a transport of its own: it is new, or is reached in another way than until now.
    Anew(Endpoint),
    /// With the transport, and what explains its denials, that the endpoint of this name (or URL, where it has no name)
    /// has already. Connections are kept; the configuration may differ.
    SameTransport(RemoteWriteConfig),
}

impl From<Endpoint> for EndpointChange {
    fn from(endpoint: Endpoint) -> Self {
        Self::Anew(endpoint)
    }
}

impl EndpointChange {
    fn config(&self) -> &RemoteWriteConfig {
        match self {
            Self::Anew(endpoint) => &endpoint.config,
            Self::SameTransport(config) => config,
        }
    }
}

/// What [`RemoteWrite::apply`] changed: endpoints by name, or by URL where they have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// Those that there were not.
    pub added: Vec<String>,
    /// Those that are configured or reached in another way.
    pub changed: Vec<String>,
    /// Those that there are not any more.
    pub removed: Vec<String>,
    /// Whether the external labels are others.
    pub external_labels: bool,
}

impl Applied {
    /// Whether everything is as it was.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// How long scrapes may take that began before a change. What one that takes longer holds for an endpoint whose log is
/// another by then does not reach it.
const LONGEST_SCRAPE: Duration = Duration::from_secs(30);

impl RemoteWrite {
    /// Makes these the external labels and the endpoints, while scrapes and delivery go on.
    ///
    /// - An endpoint whose configuration is as it was and that keeps its transport is not touched: its connections,
    ///   requests in flight, statistics, and what was learnt of its limits stay. The same where only
    ///   `write_relabel_configs`, `send_exemplars`, external labels or the limits that are warned of differ.
    /// - Delivery to any other that was there is handed over: no request begins any more, those that have begun come to
    ///   their end within `remote_timeout`, and a new delivery goes on after what they settled, with statistics of its
    ///   own. A request without an answer by then, or of which a part was to be sent again just then, may be sent
    ///   twice, as over a restart.
    /// - An endpoint that left keeps its backlog and its ledger as one that a restart does not find any more: for
    ///   [`abandoned_after`](crate::spool::SpoolOptions::abandoned_after). If it comes back it goes on where it stopped.
    /// - A new one gets what scrapes bring from then on. A scrape that is under way when an endpoint comes or goes
    ///   reaches it whole or not at all.
    ///
    /// Each scrape is encoded with the labels and rules that there were when it began, whole; those that begin later
    /// have the new ones, and wait to be stored until the earlier ones are: for milliseconds, and at most for 30 s
    /// where one does not end. Series need not be admitted anew, and none of them ends.
    ///
    /// Changes are made one at a time, in the order of calls; dropping the future does not stop one that has begun.
    ///
    /// # Errors
    /// [`StartError`]; then everything is as it was. [`SpoolError::Closed`] after [`RemoteWrite::shutdown`].
    pub async fn apply(
        &self,
        external_labels: Labels,
        endpoints: Vec<EndpointChange>,
    ) -> Result<Applied, StartError> {
        let inner = Arc::clone(&self.0);
        let applying = tokio::spawn(async move { inner.apply(external_labels, endpoints).await });
        match applying.await {
            Ok(applied) => applied,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => Err(SpoolError::Closed.into()),
            },
        }
    }
}

/// An endpoint as it is to be, beside what there is of it.
struct Wanted {
    key: String,
    config: RemoteWriteConfig,
    reach: Reach,
    before: Option<Arc<Running>>,
    /// Whether delivery goes on as it is.
    delivers_on: bool,
}

impl Inner {
    async fn apply(
        self: Arc<Self>,
        external_labels: Labels,
        endpoints: Vec<EndpointChange>,
    ) -> Result<Applied, StartError> {
        let _changing = self.changing.lock().await;
        if *self.phase.borrow() != Phase::Running {
            return Err(SpoolError::Closed.into());
        }
        if matches!(self.sends, Sends::BacklogOnly) {
            return Err(StartError::Draining);
        }
        check(endpoints.iter().map(EndpointChange::config))?;
        let running = self.endpoints();
        let set = self.set();
        let mut applied =
            Applied { external_labels: set.external_labels != external_labels, ..Applied::default() };
        let wanted = wanted(&running, endpoints, &mut applied)?;
        let profiles = wanted.iter().map(|wanted| {
            let before = wanted.before.as_ref().and_then(|before| before.profile.as_ref());
            (&wanted.config, before)
        });
        let plan = ProfilePlan::new(Some(&set), &external_labels, profiles)?;
        for wanted in &wanted {
            insist(&self.spool, || self.spool.check_key(&wanted.key)).await?;
        }
        let opened = plan.open(&self.spool).await?;

        // From here on nothing fails but the spool as a whole.
        let gone: Vec<_> = running
            .into_iter()
            .filter(|endpoint| !wanted.iter().any(|wanted| wanted.key == endpoint.key))
            .collect();
        let handed_over =
            wanted.iter().filter(|wanted| !wanted.delivers_on).filter_map(|w| w.before.as_ref());
        hand_over(&self.spool, gone.iter().chain(handed_over)).await?;
        let next = Set::new(set.generation() + 1, external_labels, opened.logs.clone());
        let attached = self.switch(&set, next, &wanted, &opened, &gone).await?;
        self.start(wanted, opened, attached).await?;
        self.watch_limits();
        Ok(applied)
    }

    /// Makes this the set that scrapes begin with, and lets the endpoints have its logs, so that each of them gets of
    /// every scrape what the set has for it that the scrape began with.
    async fn switch(
        &self,
        set: &Arc<Set>,
        next: Set,
        wanted: &[Wanted],
        opened: &OpenedProfiles,
        gone: &[Arc<Running>],
    ) -> Result<Vec<EndpointId>, SpoolError> {
        let is_same = same(&set.logs, &next.logs);
        let held = (!is_same).then(|| {
            let held = Held { set: Arc::new(next.held()), spool: &self.spool };
            self.replace_set(&held.set);
            held
        });
        if held.is_some() {
            self.wait_until_left(set).await;
        }
        let mut attached = Vec::new();
        for (wanted, known) in wanted.iter().zip(&opened.of_endpoints) {
            let attach = || self.spool.attach(&wanted.key, known.log, options(&wanted.config));
            attached.push(insist(&self.spool, attach).await?);
        }
        for gone in gone {
            insist(&self.spool, || self.spool.detach(gone.id)).await?;
        }
        drop(held);
        for left in set.logs.iter().filter(|left| !opened.logs.iter().any(|known| known.log == left.log)) {
            insist(&self.spool, || self.spool.close_log(left.log)).await?;
        }
        Ok(attached)
    }

    /// Waits until the scrapes that began with this set have ended, but not for ever.
    async fn wait_until_left(&self, set: &Set) {
        let mut phase = self.phase.subscribe();
        let left = async {
            tokio::select! {
                () = set.left() => true,
                _ = phase.wait_for(|phase| *phase == Phase::Stopped) => false,
            }
        };
        if tokio::time::timeout(LONGEST_SCRAPE, left).await != Ok(true) {
            tracing::error!(
                "a scrape that began before the endpoints were changed has not ended yet: what it brings is lost to \
                 those that changed"
            );
        }
    }

    /// Starts delivery where it does not go on by itself.
    async fn start(
        &self,
        wanted: Vec<Wanted>,
        opened: OpenedProfiles,
        attached: Vec<EndpointId>,
    ) -> Result<(), SpoolError> {
        let mut running = Vec::new();
        for ((wanted, profile), id) in wanted.into_iter().zip(opened.of_endpoints).zip(attached) {
            let Wanted { key, config, reach, before, delivers_on } = wanted;
            let before = before.as_ref().map(|before| &before.delivering);
            let delivering = match before.filter(|_| delivers_on) {
                Some(delivering) => Arc::clone(delivering),
                None => {
                    let before = before.map(Arc::as_ref);
                    insist(&self.spool, || Delivering::start(self, &config, &reach, id, before)).await?
                }
            };
            running.push(Arc::new(Running { key, config, reach, id, profile: Some(profile), delivering }));
        }
        let mut endpoints = self.lock_endpoints();
        // The end may have begun meanwhile.
        let phase = *self.phase.borrow();
        running.iter().for_each(|endpoint| endpoint.delivering.enter(phase));
        *endpoints = running;
        Ok(())
    }
}

/// Ends delivery to these endpoints, all at the same time, so that another may go on after it.
async fn hand_over(spool: &Spool, endpoints: impl Iterator<Item = &Arc<Running>>) -> Result<(), SpoolError> {
    let mut ending = tokio::task::JoinSet::new();
    for endpoint in endpoints {
        let (endpoint, spool) = (Arc::clone(endpoint), spool.clone());
        ending.spawn(async move {
            endpoint.delivering.hand_over().await;
            insist(&spool, || rewind(&spool, endpoint.id)).await
        });
    }
    while let Some(ended) = ending.join_next().await {
        ended.unwrap_or(Err(SpoolError::Closed))?;
    }
    Ok(())
}

/// Finds what there is of each endpoint, and notes what is to be changed.
fn wanted(
    running: &[Arc<Running>],
    endpoints: Vec<EndpointChange>,
    applied: &mut Applied,
) -> Result<Vec<Wanted>, StartError> {
    let mut wanted = Vec::new();
    for endpoint in endpoints {
        let key = endpoint.config().key();
        let before = running.iter().find(|known| known.key == key).map(Arc::clone);
        let (config, reach, delivers_on) = match endpoint {
            EndpointChange::Anew(endpoint) => {
                let (config, reach) = Reach::of(endpoint);
                (config, reach, false)
            }
            EndpointChange::SameTransport(config) => {
                let Some(before) = &before else { return Err(StartError::NoTransport(key)) };
                let delivers_on = deliver_alike(&before.config, &config) && !before.delivering.has_ended();
                (config, before.reach.clone(), delivers_on)
            }
        };
        match &before {
            None => applied.added.push(key.clone()),
            Some(before) if !delivers_on || before.config != config => applied.changed.push(key.clone()),
            Some(_) => {}
        }
        wanted.push(Wanted { key, config, reach, before, delivers_on });
    }
    let left = running.iter().filter(|known| !wanted.iter().any(|wanted| wanted.key == known.key));
    applied.removed.extend(left.map(|known| known.key.clone()));
    Ok(wanted)
}

/// Whether these are the same logs in the same order.
fn same(one: &[Arc<ProfileLog>], other: &[Arc<ProfileLog>]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
}

/// A set whose scrapes are held until the endpoints have its logs, or never will.
struct Held<'a> {
    set: Arc<Set>,
    spool: &'a Spool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set.release(self.spool);
    }
}
