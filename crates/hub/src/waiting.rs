//! Messages of a client that came while all its slots were taken, in order, bounded in bytes by whoever adds to them.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hubcast_protocol::Invocation;

/// What a waiting message costs beside its bytes, and what each stream does that it is about.
const OVERHEAD: usize = 96;

/// Calls that wait for a slot, and everything behind them that must not overtake them.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    records: VecDeque<Postponed>,
    bytes: usize,
    /// How many of the records are about each stream of the client.
    streams: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Postponed {
    pub(crate) record: Bytes,
    /// The id of a call, if it has one.
    id: Option<Box<str>>,
    /// What it costs, about.
    cost: usize,
    pub(crate) is_call: bool,
    /// Whether it is a call that takes a slot.
    pub(crate) wants_slot: bool,
    /// Whether the client has taken the call back before it began.
    pub(crate) canceled: bool,
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

    pub(crate) fn postpone_call(
        &mut self,
        record: &[u8],
        invocation: &Invocation<'_>,
        wants_slot: bool,
    ) {
        let mut cost = 0;
        for id in &invocation.stream_ids {
            *self.streams.entry(id.clone().into_owned()).or_default() += 1;
            cost += OVERHEAD + id.len();
        }
        let id = invocation.invocation_id.as_deref();
        let call = self.push(record, id, cost);
        call.is_call = true;
        call.wants_slot = wants_slot;
    }

    pub(crate) fn postpone_for_stream(&mut self, record: &[u8], stream: &str) {
        if let Some(count) = self.streams.get_mut(stream) {
            *count += 1;
        }
        self.push(record, None, 0);
    }

    /// `more` is what it costs beside its record and its id.
    fn push(&mut self, record: &[u8], id: Option<&str>, more: usize) -> &mut Postponed {
        let postponed = Postponed {
            // A copy: the record may be a small part of a large read, which would be kept with it.
            record: Bytes::copy_from_slice(record),
            id: id.map(Box::from),
            cost: OVERHEAD + record.len() + id.map_or(0, str::len) + more,
            is_call: false,
            wants_slot: false,
            canceled: false,
        };
        self.bytes += postponed.cost;
        self.records.push_back_mut(postponed)
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
            self.bytes -= first.cost;
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

#[cfg(test)]
mod tests {
    use super::*;
    use hubcast_protocol::{Encoding, HubMessage};

    #[test]
    fn streams_of_calls_that_wait_cost_what_they_take() {
        let ids: Vec<_> = (0..4_000).map(|id| format!(r#""{id}""#)).collect();
        let record = format!(
            r#"{{"type":1,"target":"Sum","arguments":[],"streamIds":[{}]}}"#,
            ids.join(",")
        );
        let Ok(HubMessage::Invocation(call)) = Encoding::Json.parse(record.as_bytes()) else {
            panic!("{record}")
        };
        let mut waiting = Waiting::default();
        waiting.postpone_call(record.as_bytes(), &call, false);
        // Nodes of the map may be half empty.
        let entries = waiting.streams.len() * 2 * size_of::<(String, usize)>();
        assert!(waiting.bytes() > record.len() + entries);
        waiting.postpone_call(record.as_bytes(), &call, false);
        waiting.remove_first(&call.stream_ids);
        assert!(waiting.is_about_stream("0"));
        waiting.remove_first(&call.stream_ids);
        assert!(waiting.is_empty() && !waiting.is_about_stream("0"));
        assert_eq!(waiting.bytes(), 0);
    }
}
