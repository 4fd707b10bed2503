use std::collections::VecDeque;

use super::core::ProtocolChoice;
use super::cursor::{CURSOR_HEADER, CursorRecord};
use super::ledger::{Dropped, LedgerSnapshot, Reason};
use super::options::EndpointOptions;
use crate::{Counts, Lane};

/// What one endpoint was to be sent and how far it has come.
pub(super) struct Endpoint<F> {
    pub(super) key: String,
    /// Of its cursor file.
    pub(super) path: String,
    pub(super) options: EndpointOptions,
    /// Whether it takes part in this run; the backlog of one that doesn't is kept and doesn't grow.
    pub(super) attached: bool,
    /// When it left, by the steady clock; zero when it takes no part since the start.
    pub(super) left_at: i64,
    /// Whether it was given up: nothing of it is left but its number.
    pub(super) forgotten: bool,
    /// Oldest first; all but the last have ended.
    pub(super) attachments: Vec<Attachment>,
    pub(super) next_attachment: u32,
    pub(super) retired: Retired,
    /// Dropped before they were stored.
    pub(super) refused: Dropped,
    /// Whether `refused` has changed since it was written.
    pub(super) refused_unwritten: bool,
    /// The message it was found to take, if that had to be found out.
    pub(super) protocol: Option<ProtocolChoice>,
    pub(super) file: Option<F>,
    pub(super) file_len: u64,
    /// Whether the file misses something and has to be written anew.
    pub(super) rewrite: bool,
    pub(super) unsynced: bool,
    /// Its parked queue.
    pub(super) parked: Option<usize>,
    /// Whether its file was found damaged: what it says may not be the last word.
    pub(super) damaged: bool,
}

/// The totals of attachments of which everything is decided.
#[derive(Default)]
pub(super) struct Retired {
    pub(super) attachment: u32,
    pub(super) accepted: Counts,
    pub(super) delivered: Counts,
    pub(super) dropped: Dropped,
}

/// A stretch of one log that belongs to an endpoint.
pub(super) struct Attachment {
    pub(super) id: u32,
    /// The log's number; `None` when the log is gone.
    pub(super) log: Option<usize>,
    pub(super) log_key: String,
    pub(super) start: u64,
    /// What the log had accepted before `start`.
    pub(super) start_accepted: Counts,
    /// Where the attachment before this one ended.
    pub(super) previous_end: Option<(u64, Counts)>,
    /// One beyond the last sequence, and what the log had accepted before that; `None` while it grows.
    pub(super) end: Option<(u64, Counts)>,
    /// By lane number.
    pub(super) lanes: Vec<LaneState>,
    /// What was found missing, of whichever lanes.
    pub(super) lost: Dropped,
}

#[derive(Clone, Debug, Default)]
pub(super) struct LaneState {
    /// Everything up to and including this is decided.
    pub(super) settled: u64,
    /// Where reading goes on.
    pub(super) next: u64,
    pub(super) unfetched: Amount,
    /// Fetched or decided beyond `settled`, in order.
    pub(super) open: VecDeque<Entry>,
    pub(super) delivered: Counts,
    pub(super) dropped: Dropped,
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) counts: Counts,
}

impl Amount {
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.counts += other.counts;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.counts = self.counts - other.counts;
    }
}

/// Consecutive records of one lane that are in flight, or decided while earlier ones are in flight.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) amount: Amount,
    /// Why it was dropped, if it was.
    pub(super) decided: Option<Reason>,
    /// Whether its segment is gone, so that after a restart it could not be read again.
    pub(super) evicted: bool,
    /// Whether it was not found where it should have been: no segment's count of undecided ones has it.
    pub(super) missing: bool,
    pub(super) oldest_timestamp: i64,
}

impl Attachment {
    pub(super) fn new(id: u32, log_key: String, start: u64, start_accepted: Counts) -> Self {
        let lane = LaneState { settled: start.saturating_sub(1), next: start, ..LaneState::default() };
        Self {
            id,
            log: None,
            log_key,
            start,
            start_accepted,
            previous_end: None,
            end: None,
            lanes: vec![lane; Lane::COUNT],
            lost: Dropped::default(),
        }
    }

    /// Whether a record of this sequence is in the stretch.
    pub(super) fn covers(&self, sequence: u64) -> bool {
        sequence >= self.start && self.end.as_ref().is_none_or(|(end, _)| sequence < *end)
    }

    pub(super) fn delivered(&self) -> Counts {
        self.lanes.iter().fold(Counts::default(), |sum, lane| sum + lane.delivered)
    }

    /// What is decided counts at once, also behind what is in flight.
    pub(super) fn dropped(&self) -> Dropped {
        let mut dropped = self.lost.clone();
        for lane in &self.lanes {
            dropped.merge(&lane.dropped);
            for entry in &lane.open {
                if let Some(reason) = &entry.decided {
                    dropped.add(reason, entry.amount.counts);
                }
            }
        }
        dropped
    }

    pub(super) fn pending(&self) -> Amount {
        let mut pending = Amount::default();
        for lane in &self.lanes {
            pending.add(lane.unfetched);
            for entry in lane.open.iter().filter(|entry| entry.decided.is_none()) {
                pending.add(entry.amount);
            }
        }
        pending
    }

    /// Whether everything is decided and settled.
    pub(super) fn is_settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.unfetched.records == 0 && lane.open.is_empty())
    }

    /// What it accepted, given what its log has accepted until now.
    pub(super) fn accepted(&self, log_accepted: Counts) -> Counts {
        self.end.as_ref().map_or(log_accepted, |(_, accepted)| *accepted) - self.start_accepted
    }

    /// The lane as a restart should find it. What is in flight from segments that are gone could not be read
    /// again, so to a restart it is dropped already.
    pub(super) fn lane_record(&self, lane: Lane) -> CursorRecord {
        let state = &self.lanes[lane.index()];
        let mut sequence = state.settled;
        let mut dropped = state.dropped.clone();
        for entry in state.open.iter().take_while(|entry| entry.evicted) {
            sequence = entry.last;
            dropped.add(entry.decided.as_ref().unwrap_or(&Reason::SPOOL_FULL), entry.amount.counts);
        }
        CursorRecord::Lane { attachment: self.id, lane, sequence, delivered: state.delivered, dropped }
    }

    /// The sequence of the first record that is not decided, at the earliest.
    pub(super) fn first_undecided(&self) -> u64 {
        self.lanes.iter().map(LaneState::first_undecided).min().unwrap_or(u64::MAX)
    }
}

impl LaneState {
    /// The sequence of the first record that is not decided, at the earliest.
    pub(super) fn first_undecided(&self) -> u64 {
        match self.open.front() {
            Some(entry) => entry.first,
            None if self.unfetched.records > 0 => self.next,
            None => u64::MAX,
        }
    }

    /// Puts what was decided without being fetched behind the rest. What went with its segment needs no entry of its
    /// own, for no segment counts it any more: as long as the endpoint is away there is one of all of it.
    pub(super) fn decide_next(&mut self, entry: Entry) {
        match self.open.back_mut() {
            Some(last) if entry.evicted && last.evicted && !last.missing && last.decided == entry.decided => {
                last.last = entry.last;
                last.amount.add(entry.amount);
            }
            _ => self.open.push_back(entry),
        }
    }

    /// Takes decided entries off the front; returns them.
    pub(super) fn take_decided(&mut self) -> Vec<Entry> {
        let mut taken = Vec::new();
        while let Some(entry) = self.open.pop_front_if(|entry| entry.decided.is_some()) {
            if let Some(reason) = &entry.decided {
                self.dropped.add(reason, entry.amount.counts);
            }
            self.settled = entry.last;
            taken.push(entry);
        }
        taken
    }
}

impl<F> Endpoint<F> {
    pub(super) fn new(key: String, path: String) -> Self {
        Self {
            key,
            path,
            options: EndpointOptions::default(),
            attached: false,
            left_at: 0,
            forgotten: false,
            attachments: Vec::new(),
            next_attachment: 1,
            retired: Retired::default(),
            refused: Dropped::default(),
            refused_unwritten: false,
            protocol: None,
            file: None,
            file_len: 0,
            rewrite: true,
            unsynced: false,
            parked: None,
            damaged: false,
        }
    }

    /// The attachment that grows with this log, if the endpoint gets what the log gets.
    pub(super) fn growing(&mut self, log: usize) -> Option<&mut Attachment> {
        self.attachments.last_mut().filter(|a| a.end.is_none() && a.log == Some(log))
    }

    pub(super) fn attachment(&self, id: u32) -> Option<usize> {
        self.attachments.iter().position(|a| a.id == id)
    }

    pub(super) fn pending(&self) -> Amount {
        let mut pending = Amount::default();
        for attachment in &self.attachments {
            pending.add(attachment.pending());
        }
        pending
    }

    pub(super) fn refuse(&mut self, reason: &Reason, counts: Counts) {
        self.refused.add(reason, counts);
        self.refused_unwritten = true;
    }

    /// `accepted` says what a log has accepted until now.
    pub(super) fn ledger(&self, accepted: impl Fn(usize) -> Counts) -> LedgerSnapshot {
        let mut snapshot = LedgerSnapshot {
            accepted: self.retired.accepted + self.refused.total(),
            delivered: self.retired.delivered,
            ..LedgerSnapshot::default()
        };
        let mut dropped = self.retired.dropped.clone();
        dropped.merge(&self.refused);
        for attachment in &self.attachments {
            snapshot.accepted += attachment.accepted(attachment.log.map_or_else(Counts::default, &accepted));
            snapshot.delivered += attachment.delivered();
            dropped.merge(&attachment.dropped());
            snapshot.pending += attachment.pending().counts;
        }
        snapshot.dropped = dropped.into_vec();
        snapshot
    }

    /// The whole cursor file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = CURSOR_HEADER.to_vec();
        out.extend(crc32c::crc32c(&CURSOR_HEADER).to_le_bytes());
        CursorRecord::Endpoint { key: self.key.clone() }.encode_into(&mut out);
        let retired = &self.retired;
        CursorRecord::Retired {
            attachment: retired.attachment,
            accepted: retired.accepted,
            delivered: retired.delivered,
            dropped: retired.dropped.clone(),
        }
        .encode_into(&mut out);
        CursorRecord::Refused { dropped: self.refused.clone() }.encode_into(&mut out);
        if let Some(choice) = self.protocol {
            CursorRecord::Protocol(choice).encode_into(&mut out);
        }
        for attachment in &self.attachments {
            for record in attachment.head() {
                record.encode_into(&mut out);
            }
            for lane in Lane::all() {
                let state = &attachment.lanes[lane.index()];
                if state.settled >= attachment.start || !state.open.is_empty() {
                    attachment.lane_record(lane).encode_into(&mut out);
                }
            }
        }
        out
    }
}

impl Attachment {
    /// Everything but its lanes. Where it begins stands there twice: without it the rest would mean nothing.
    pub(super) fn head(&self) -> Vec<CursorRecord> {
        let attach = CursorRecord::Attach {
            attachment: self.id,
            log: self.log_key.clone(),
            sequence: self.start,
            accepted: self.start_accepted,
            previous_end: self.previous_end,
        };
        let mut records = vec![attach.clone(), attach];
        if let Some((sequence, accepted)) = self.end {
            records.push(CursorRecord::End { attachment: self.id, sequence, accepted });
        }
        if !self.lost.is_empty() {
            records.push(CursorRecord::Lost { attachment: self.id, dropped: self.lost.clone() });
        }
        records
    }
}
