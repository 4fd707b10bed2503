use super::core::CURSOR_DIRECTORY;
use super::core::{EndpointId, SpoolCore};
use super::endpoint::{Endpoint, Entry};
use super::error::{SpoolError, storage_error};
use super::ledger::Reason;
use super::options::{EndpointOptions, FsyncPolicy};
use super::storage::Storage;
use super::time::millis;
use crate::{Counts, Lane};

/// Endpoints that earlier runs left behind: taken up again, given up, or kept for so long.
impl<S: Storage> SpoolCore<S> {
    /// Lets an endpoint that an earlier run left behind take part again without getting anything new: for
    /// delivering what it waits for.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] when there is no endpoint of this key, [`SpoolError::CursorLost`] when its cursor was
    /// damaged: what it waits for is known once it attaches with its log.
    pub fn adopt(&mut self, key: &str, options: EndpointOptions) -> Result<EndpointId, SpoolError> {
        let Some(at) = self.endpoints.iter().position(|endpoint| endpoint.key == key && !endpoint.forgotten)
        else {
            return Err(SpoolError::Unknown { what: "endpoint" });
        };
        if self.lost_cursors.contains(&self.endpoints[at].path) {
            return Err(SpoolError::CursorLost { key: key.to_owned() });
        }
        self.endpoints[at].options = options;
        self.endpoints[at].attached = true;
        self.end_attachment(at);
        self.retire(at);
        self.attach_parked(at);
        Ok(EndpointId(at))
    }

    /// Gives up an endpoint that takes no part: what it waits for, its ledger and its cursor. Returns what was
    /// given up.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] when there is no endpoint of this key, [`SpoolError::InUse`] when it takes part in
    /// this run, [`SpoolError::Storage`] when its cursor can't be removed.
    pub fn forget(&mut self, key: &str) -> Result<Counts, SpoolError> {
        let Some(at) = self.endpoints.iter().position(|endpoint| endpoint.key == key && !endpoint.forgotten)
        else {
            return Err(SpoolError::Unknown { what: "endpoint" });
        };
        if self.endpoints[at].attached {
            return Err(SpoolError::InUse { key: key.to_owned() });
        }
        self.forget_with_parked(at)
    }

    /// An endpoint that has left the configuration long ago and waits for nothing any more leaves nothing behind.
    pub(super) fn forget_if_abandoned(&mut self, endpoint: usize) {
        let known = &self.endpoints[endpoint];
        let parked = known.parked.map_or(0, |parked| self.endpoints[parked].pending().records);
        let waits = known.pending().records + parked > 0;
        let limit = i64::try_from(millis(self.options.abandoned_after)).unwrap_or(i64::MAX);
        // A parked queue stays as long as its endpoint: they have one ledger.
        let owned = self.endpoints.iter().any(|owner| owner.parked == Some(endpoint));
        if known.attached
            || !self.appended
            || known.forgotten
            || waits
            || owned
            || self.time.steady() - known.left_at < limit
            || !self.disk_is_due()
        {
            return;
        }
        tracing::info!(
            "{}: has left the configuration and waits for nothing: its cursor is removed",
            known.key
        );
        if let Err(error) = self.forget_with_parked(endpoint) {
            self.note_failure(&error);
        }
    }

    fn forget_with_parked(&mut self, endpoint: usize) -> Result<Counts, SpoolError> {
        let mut given_up = Counts::default();
        if let Some(parked) = self.endpoints[endpoint].parked.take() {
            given_up += self.forget_endpoint(parked)?;
        }
        Ok(given_up + self.forget_endpoint(endpoint)?)
    }

    fn forget_endpoint(&mut self, endpoint: usize) -> Result<Counts, SpoolError> {
        let mut given_up = Counts::default();
        self.end_attachment(endpoint);
        for attachment in 0..self.endpoints[endpoint].attachments.len() {
            let stretch = &mut self.endpoints[endpoint].attachments[attachment];
            for state in &mut stretch.lanes {
                for entry in state.open.iter_mut().filter(|entry| entry.decided.is_none()) {
                    given_up += entry.amount.counts;
                    entry.decided = Some(Reason::ABANDONED);
                }
                if state.unfetched.records > 0 {
                    given_up += state.unfetched.counts;
                    state.open.push_back(Entry {
                        first: state.next,
                        last: state.next,
                        amount: std::mem::take(&mut state.unfetched),
                        decided: Some(Reason::ABANDONED),
                        evicted: false,
                        // Which segments these are in nobody has looked up.
                        missing: true,
                        oldest_timestamp: i64::MAX,
                    });
                }
            }
            if let Some(log) = stretch.log {
                self.logs[log].miscounted = true;
            }
            for lane in Lane::all() {
                self.settle_decided(endpoint, attachment, lane);
            }
        }
        self.retire(endpoint);
        let path = self.endpoints[endpoint].path.clone();
        if self.endpoints[endpoint].file.take().is_some() {
            self.storage.remove(&path).map_err(storage_error("remove", &path))?;
            if self.options.fsync != FsyncPolicy::Never {
                let synced = self.storage.sync_directory(CURSOR_DIRECTORY);
                synced.map_err(storage_error("sync", CURSOR_DIRECTORY))?;
            }
        }
        // Endpoints are known by their number: the place stays.
        self.endpoints[endpoint] =
            Endpoint { forgotten: true, rewrite: false, ..Endpoint::new(String::new(), String::new()) };
        Ok(given_up)
    }
}
