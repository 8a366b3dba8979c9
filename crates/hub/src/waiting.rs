//! Messages of a client that came while all its slots were taken, in order, bounded in bytes by whoever adds to them.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use hubcast_protocol::Invocation;

/// What a waiting message costs beside its bytes.
const OVERHEAD: usize = 96;

/// Calls that wait for a slot, and everything behind them that must not overtake them.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    records: VecDeque<Postponed>,
    bytes: usize,
    /// How many of the records are about each stream of the client.
    streams: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Postponed {
    pub(crate) record: Bytes,
    /// The id of a call, if it has one.
    id: Option<Box<str>>,
    /// Whether the client has taken the call back before it began.
    pub(crate) canceled: bool,
}

impl Postponed {
    fn cost(&self) -> usize {
        OVERHEAD + self.record.len() + self.id.as_ref().map_or(0, |id| id.len())
    }
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What it all costs, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn first(&self) -> Option<&Postponed> {
        self.records.front()
    }

    /// Whether messages about a stream wait, so that others about it must, too.
    pub(crate) fn is_about_stream(&self, id: &str) -> bool {
        !self.streams.is_empty() && self.streams.contains_key(id)
    }

    pub(crate) fn postpone_call(&mut self, record: &[u8], invocation: &Invocation<'_>) {
        for id in &invocation.stream_ids {
            *self.streams.entry(id.clone().into_owned()).or_default() += 1;
        }
        self.push(record, invocation.invocation_id.as_deref());
    }

    pub(crate) fn postpone_for_stream(&mut self, record: &[u8], stream: &str) {
        if let Some(count) = self.streams.get_mut(stream) {
            *count += 1;
        }
        self.push(record, None);
    }

    fn push(&mut self, record: &[u8], id: Option<&str>) {
        let postponed = Postponed {
            // A copy: the record may be a small part of a large read, which would be kept with it.
            record: Bytes::copy_from_slice(record),
            id: id.map(Box::from),
            canceled: false,
        };
        self.bytes += postponed.cost();
        self.records.push_back(postponed);
    }

    /// Takes a call back before it begins.
    pub(crate) fn cancel(&mut self, id: &str) {
        let mut records = self.records.iter_mut();
        if let Some(call) = records.find(|postponed| postponed.id.as_deref() == Some(id)) {
            call.canceled = true;
        }
    }

    /// Removes the first, which is about these streams.
    pub(crate) fn remove_first(&mut self, streams: &[Cow<'_, str>]) {
        if let Some(first) = self.records.pop_front() {
            self.bytes -= first.cost();
        }
        for id in streams {
            if let Some(count) = self.streams.get_mut(&**id) {
                *count -= 1;
                if *count == 0 {
                    self.streams.remove(&**id);
                }
            }
        }
        if self.records.is_empty() {
            // A burst should not leave its queue behind on a connection that is quiet again.
            *self = Self::default();
        }
    }

    pub(crate) fn take_all(&mut self) -> VecDeque<Postponed> {
        std::mem::take(self).records
    }
}
