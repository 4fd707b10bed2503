use super::core::{EndpointId, LogId, SpoolCore, cursor_path, key_hash, log_directory};
use super::endpoint::{Attachment, Endpoint};
use super::error::SpoolError;
use super::log::Log;
use super::options::EndpointOptions;
use super::storage::Storage;

/// Which logs there are, and who gets what they are given.
impl<S: Storage> SpoolCore<S> {
    /// Opens the log of this key, which may hold what an earlier run left.
    ///
    /// The key stands for an encoding profile (what the bytes look like) and has to be the same for the same
    /// profile in every run.
    ///
    /// # Errors
    /// [`SpoolError::KeyCollision`] when its name is taken by another key. A directory that can't be created is no
    /// error: it is tried again later ([`StorageState`](super::StorageState)).
    pub fn open_log(&mut self, key: &str) -> Result<LogId, SpoolError> {
        let hash = key_hash(key);
        let at = match self.logs.iter().position(|log| log.hash == hash) {
            Some(at) if self.logs[at].key == key || self.logs[at].key.is_empty() => at,
            Some(at) => {
                return Err(SpoolError::KeyCollision {
                    first: self.logs[at].key.clone(),
                    second: key.to_owned(),
                });
            }
            None => {
                self.logs.push(Log::new(String::new(), hash, log_directory(hash)));
                self.logs.len() - 1
            }
        };
        if self.logs[at].key.is_empty() {
            self.logs[at].key = key.to_owned();
            self.logs[at].key_unwritten = true;
            if let Err(error) = self.write_log_key(at) {
                // It is tried again before anything is written to the log.
                self.note_failure(&error);
            }
        }
        self.logs[at].opened = true;
        Ok(LogId(at))
    }

    /// Lets an endpoint have what the log is given from now on, after everything it has not settled yet.
    ///
    /// The key is the endpoint's name, else its URL. An endpoint that is new starts at the log's end. One that
    /// is known goes on where it stopped; if it had another log until now it first gets the rest of that one,
    /// lane by lane. One whose cursor was lost ([`RecoveryReport::lost_cursors`](super::RecoveryReport)) begins
    /// with the oldest that is stored.
    ///
    /// The endpoints that a run begins with are to attach before the first append: who has not attached by then
    /// counts as one that left the configuration, until it attaches.
    ///
    /// # Errors
    /// When the log is unknown or another endpoint's key has the same file name. A cursor that can't be
    /// written is no error: it is tried again later ([`StorageState`](super::StorageState)).
    pub fn attach(
        &mut self,
        key: &str,
        log: LogId,
        options: EndpointOptions,
    ) -> Result<EndpointId, SpoolError> {
        let Some(target) = self.logs.get(log.0) else { return Err(SpoolError::Unknown { what: "log" }) };
        let (next_sequence, accepted, log_key) = (target.next_sequence, target.accepted, target.key.clone());
        let unclaimed = target.unclaimed;
        let path = cursor_path(key);
        let at = match self.endpoints.iter().position(|endpoint| endpoint.path == path) {
            Some(at) => at,
            None => {
                self.endpoints.push(Endpoint::new(key.to_owned(), path.clone()));
                self.endpoints.len() - 1
            }
        };
        let endpoint = &mut self.endpoints[at];
        if endpoint.key.is_empty() {
            endpoint.key = key.to_owned();
            endpoint.rewrite = true;
        }
        if endpoint.key != key {
            return Err(SpoolError::KeyCollision { first: endpoint.key.clone(), second: key.to_owned() });
        }
        endpoint.options = options;
        endpoint.attached = true;
        let is_new = endpoint.attachments.is_empty() && endpoint.retired.attachment == 0;
        let lost = self.lost_cursors.contains(&path) || (is_new && unclaimed);
        endpoint.rewrite |= lost;
        if endpoint.growing(log.0).is_none() {
            self.end_attachment(at);
            let (start, start_accepted) =
                if lost { self.beginning(at, log.0) } else { (next_sequence, accepted) };
            let id = self.endpoints[at].next_attachment;
            let mut attachment = Attachment::new(id, log_key, start, start_accepted);
            attachment.log = Some(log.0);
            if lost {
                self.take_up(log.0, &mut attachment);
            }
            if lost {
                // Before anything is written: what is in its parked queue was parked.
                self.link_parked();
                self.account_for_parked(at);
            }
            let endpoint = &mut self.endpoints[at];
            attachment.previous_end = endpoint.attachments.last().and_then(|previous| previous.end);
            endpoint.next_attachment += 1;
            let head = attachment.head();
            endpoint.attachments.push(attachment);
            // Whole and durable, if that is possible: where an attachment begins must not be lost before what is
            // settled of it.
            if !(self.disk_is_due() && self.replace_cursor(at)) {
                self.write_cursor(at, &head);
            }
            self.retire(at);
        }
        self.lost_cursors.remove(&path);
        self.attach_parked(at);
        if self.appended {
            // It came late: what it took up is nobody else's any more.
            self.note_claims();
        } else {
            self.release_claimed();
        }
        Ok(EndpointId(at))
    }

    /// Whether an endpoint of this key could [`attach`](Self::attach).
    ///
    /// # Errors
    /// [`SpoolError::KeyCollision`] when another endpoint's key has the same file name.
    pub fn check_key(&self, key: &str) -> Result<(), SpoolError> {
        let path = cursor_path(key);
        match self.endpoints.iter().find(|known| known.path == path && !known.key.is_empty()) {
            Some(known) if known.key != key => {
                Err(SpoolError::KeyCollision { first: known.key.clone(), second: key.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Ends what the endpoint gets: it has left the configuration. What it has not settled, its parked queue
    /// included, stays to be fetched, in this run or a later one, for
    /// [`SpoolOptions::abandoned_after`](super::SpoolOptions::abandoned_after).
    pub fn detach(&mut self, endpoint: EndpointId) {
        let Some(known) = self.endpoints.get(endpoint.0) else { return };
        let parked = known.parked;
        for at in std::iter::once(endpoint.0).chain(parked) {
            self.endpoints[at].attached = false;
            self.endpoints[at].left_at = self.time.steady();
            self.end_attachment(at);
            self.retire(at);
        }
        let parked = parked.and_then(|parked| self.endpoints[parked].attachments.last()?.log);
        if let Some(log) = parked {
            self.close_log(LogId(log));
        }
    }

    /// Says that nothing is appended to this log any more: it leaves nothing behind once everybody has what is in it.
    /// [`open_log`](Self::open_log) opens it again.
    pub fn close_log(&mut self, log: LogId) {
        let steady = self.time.steady();
        let Some(known) = self.logs.get_mut(log.0) else { return };
        known.opened = false;
        if let Err(error) = known.seal(&mut self.storage, self.options.fsync, steady) {
            self.note_failure(&error);
        }
        self.drop_decided_segments(log.0);
    }
}
