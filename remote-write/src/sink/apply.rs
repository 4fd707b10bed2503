use std::sync::Arc;
use std::time::Duration;

use promferry_model::Labels;
use tokio::task::{JoinHandle, JoinSet};

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
const LONGEST_SCRAPE: Duration = Duration::from_secs(10);

impl RemoteWrite {
    /// Makes these the external labels and the endpoints, while scrapes and delivery go on.
    ///
    /// - An endpoint whose configuration is as it was and that keeps its transport is not touched: its connections,
    ///   requests in flight, statistics, and what was learnt of its limits stay. The same where only
    ///   `write_relabel_configs`, `send_exemplars`, external labels or the limits that are warned of differ.
    /// - Delivery to any other that was there is handed over: no request begins any more, those that have begun come to
    ///   their end within `remote_timeout`, and a new delivery goes on after what they settled, with statistics of its
    ///   own. A request without an answer by then, or of which a part was to be sent again just then, may be sent
    ///   twice, as over a restart. No endpoint waits for another's requests; this future does, for all of them.
    /// - An endpoint that left keeps its backlog and its ledger as one that a restart does not find any more: for
    ///   [`abandoned_after`](crate::spool::SpoolOptions::abandoned_after). If it comes back it goes on where it stopped.
    /// - A new one gets what scrapes bring from then on. A scrape that is under way when an endpoint comes or goes
    ///   reaches it whole or not at all.
    ///
    /// Each scrape is encoded with the labels and rules that there were when it began, whole; those that begin later
    /// have the new ones, and wait to be stored until the earlier ones are: for milliseconds, and at most for 10 s
    /// where one does not end. Series need not be admitted anew, and none of them ends.
    ///
    /// Changes are made one at a time, in the order of calls; dropping the future does not stop one that has begun.
    ///
    /// # Errors
    /// [`StartError`]; then everything is as it was. [`SpoolError::Closed`] after [`RemoteWrite::shutdown`], or when
    /// the spool's thread is gone for good: then endpoints may have been changed in part.
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

        // From here on nothing fails but the spool as a whole, and whoever is handed over is started again whatever
        // comes.
        let is_gone = |endpoint: &Running| !wanted.iter().any(|wanted| wanted.key == endpoint.key);
        let gone: Vec<_> = running.iter().filter(|endpoint| is_gone(endpoint)).map(Arc::clone).collect();
        let hand_over =
            |before: &Arc<Running>| tokio::spawn(hand_over(self.spool.clone(), Arc::clone(before)));
        let leaving: Vec<_> = gone.iter().map(hand_over).collect();
        let ending: Vec<_> = wanted
            .iter()
            .map(|wanted| wanted.before.as_ref().filter(|_| !wanted.delivers_on).map(hand_over))
            .collect();
        let next = Set::new(set.generation() + 1, external_labels, opened.logs.clone());
        let mut changing = JoinSet::new();
        let attached = match self.switch(&set, next, &wanted, &opened).await {
            Ok(ids) => ids,
            Err(error) => {
                let ending = ending
                    .into_iter()
                    .zip(&wanted)
                    .filter_map(|(ending, wanted)| Some((Arc::clone(wanted.before.as_ref()?), ending?)));
                for (before, ending) in ending.chain(gone.into_iter().zip(leaving)) {
                    changing.spawn(Arc::clone(&self).start(Successor::as_it_was(before), Some(ending)));
                }
                while changing.join_next().await.is_some() {}
                return Err(error.into());
            }
        };
        for (gone, ending) in gone.into_iter().zip(leaving) {
            changing.spawn(Arc::clone(&self).detach(gone, ending));
        }
        let keys: Vec<_> = wanted.iter().map(|wanted| wanted.key.clone()).collect();
        let successors = wanted.into_iter().zip(opened.of_endpoints).zip(attached);
        for (((wanted, profile), id), ending) in successors.zip(ending) {
            changing.spawn(Arc::clone(&self).start(Successor { wanted, profile: Some(profile), id }, ending));
        }
        while changing.join_next().await.is_some() {}
        self.keep_in_order(&keys);
        for left in set.logs.iter().filter(|left| !opened.logs.iter().any(|known| known.log == left.log)) {
            insist(&self.spool, || self.spool.close_log(left.log)).await?;
        }
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
    ) -> Result<Vec<EndpointId>, SpoolError> {
        let is_same = same(&set.logs, &next.logs) && set.external_labels == next.external_labels;
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
        drop(held);
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

    /// Puts an endpoint in the place of the one of its key, and starts delivery, where it does not go on by itself, as
    /// soon as the one before has ended.
    async fn start(self: Arc<Self>, successor: Successor, ending: Option<JoinHandle<()>>) {
        if let Some(ending) = ending {
            // However it ended.
            let _ = ending.await;
        }
        let Successor { wanted, profile, id } = successor;
        let Wanted { key, config, reach, before, delivers_on } = wanted;
        let before = before.as_ref().map(|before| &before.delivering);
        let delivering = match before.filter(|_| delivers_on) {
            Some(delivering) => Arc::clone(delivering),
            None => {
                // Without an answer it is found out anew.
                let choice = insist(&self.spool, || self.spool.protocol_choice(id)).await.unwrap_or(None);
                Delivering::start(&self, &config, &reach, id, choice, before.map(Arc::as_ref))
            }
        };
        let running = Arc::new(Running { key, config, reach, id, profile, delivering });
        let mut endpoints = self.lock_endpoints();
        // The end may have begun meanwhile.
        running.delivering.enter(*self.phase.borrow());
        match endpoints.iter_mut().find(|known| known.key == running.key) {
            Some(known) => *known = running,
            None => endpoints.push(running),
        }
    }

    /// Ends what an endpoint gets that has left, as soon as its delivery has ended.
    async fn detach(self: Arc<Self>, gone: Arc<Running>, ending: JoinHandle<()>) {
        // However it ended.
        let _ = ending.await;
        if let Err(error) = insist(&self.spool, || self.spool.detach(gone.id)).await {
            tracing::error!(endpoint = gone.key, "samples are kept for an endpoint that has left: {error}");
        }
    }

    /// Keeps these endpoints and no others.
    fn keep_in_order(&self, keys: &[String]) {
        let mut endpoints = self.lock_endpoints();
        let place = |endpoint: &Arc<Running>| keys.iter().position(|key| *key == endpoint.key);
        endpoints.retain(|endpoint| place(endpoint).is_some());
        endpoints.sort_by_key(place);
    }
}

/// An endpoint with what the spool has for it, to be put in the place of the one before.
struct Successor {
    wanted: Wanted,
    profile: Option<Arc<ProfileLog>>,
    id: EndpointId,
}

impl Successor {
    /// What goes on where this one was handed over in vain.
    fn as_it_was(before: Arc<Running>) -> Self {
        Self {
            profile: before.profile.clone(),
            id: before.id,
            wanted: Wanted {
                key: before.key.clone(),
                config: before.config.clone(),
                reach: before.reach.clone(),
                before: Some(before),
                delivers_on: false,
            },
        }
    }
}

/// Ends delivery to an endpoint so that another may go on after it.
async fn hand_over(spool: Spool, endpoint: Arc<Running>) {
    endpoint.delivering.hand_over().await;
    if let Err(error) = insist(&spool, || rewind(&spool, endpoint.id)).await
        && spool.is_working()
    {
        let key = &endpoint.key;
        tracing::error!(endpoint = key, "what was on its way waits for the next start: {error}");
    }
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
