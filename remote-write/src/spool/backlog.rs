use super::core::{EndpointId, Position, SpoolCore};
use super::error::SpoolError;
use super::storage::Storage;
use crate::{Lane, LaneSet};

/// What waits for an endpoint, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// The lanes of which something is stored or in flight.
    pub lanes: LaneSet,
    /// Everything that is stored now stands before it, everything that is stored later does not.
    pub end: Position,
    /// Bytes of its log, those included that others wait for.
    pub bytes: u64,
    /// Bytes as stored of what waits.
    pub waiting_bytes: u64,
    /// Bytes that log may take before its oldest segment goes.
    pub max_bytes: u64,
    /// Whether some of it could not be read and is tried again: then a fetch that came back empty does not
    /// mean that nothing is there.
    pub reads_are_retried: bool,
}

impl<S: Storage> SpoolCore<S> {
    /// What waits for the endpoint.
    ///
    /// # Errors
    /// [`SpoolError::Unknown`] for an endpoint of another spool.
    pub fn backlog(&self, endpoint: EndpointId) -> Result<Backlog, SpoolError> {
        let known = self.endpoints.get(endpoint.0).ok_or(SpoolError::Unknown { what: "endpoint" })?;
        let mut backlog = Backlog { waiting_bytes: known.pending().bytes, ..Backlog::default() };
        for stretch in &known.attachments {
            let waits = |lane: &Lane| {
                let state = &stretch.lanes[lane.index()];
                state.unfetched.records > 0 || !state.open.is_empty()
            };
            Lane::all().filter(waits).for_each(|lane| backlog.lanes.insert(lane));
            let Some(log) = stretch.log else { continue };
            let sequence = self.logs[log].next_sequence;
            backlog.end = Position { attachment: stretch.id, sequence };
            (backlog.bytes, backlog.max_bytes) = (self.logs[log].bytes(), self.quota(log));
            let mut segments = self.logs[log].segments.iter();
            backlog.reads_are_retried |= segments.any(|segment| segment.read_retry_at.is_some());
        }
        Ok(backlog)
    }
}
