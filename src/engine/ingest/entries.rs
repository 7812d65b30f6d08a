//! Entries of Fluent Forward: the lane is chosen first, and says what becomes of them.
//!
//! ```text
//! entry -> lane of records: as it came, behind its tag; rendered for who takes it, when that is known
//!       |-> another lane: as JSON where its message will lie, if it is as nearly all are (render/usual.rs)
//!       `-> as JSON, apart, and copied
//! ```

use super::Stalled;
use crate::ack_units::is_skipped;
use crate::counters::Reason;
use crate::lane::Layout;
use crate::receipts::Ticket;
use crate::shard::Engine;
use crate::units::SCRATCH_BYTES_KEPT;
use crate::{LaneId, Memory};
use weir_protocol::frame::{encode_header, FRAME_HEADER_BYTES};
use weir_protocol::record::{
    frame_header, tag_length, wrapped_header, TAG_LENGTH_BYTES, WRAPPED_HEADER_BYTES,
};
use weir_protocol::Form;
use weir_source::{render, Answers, Element, Source};

const HEADER_BYTES: usize = FRAME_HEADER_BYTES as usize;

impl<M: Memory> Engine<M> {
    #[inline]
    pub(super) fn route_entry<S: Source>(
        &mut self,
        ticket: Ticket,
        severity: u8,
        tag: &[u8],
        entry: &[u8],
    ) -> Result<(), Stalled> {
        self.note_tag(tag);
        let is_answered = S::ANSWERS != Answers::Never;
        if is_answered && is_skipped(ticket) {
            self.counters.joined += 1;
            return Ok(());
        }
        if is_answered && self.tickets_are_full() {
            return Err(Stalled);
        }
        let lane = self.choose().ok_or(Stalled)?;
        if !self.put_usual(lane, severity, tag, entry) {
            self.put_entry(lane, severity, tag, entry);
        }
        if is_answered {
            self.note_element(ticket, lane);
        }
        Ok(())
    }

    /// Writes an entry as JSON to where its message will lie. False: it is not one of the usual ones, or not in that lane.
    #[inline]
    fn put_usual(&mut self, lane: LaneId, severity: u8, tag: &[u8], entry: &[u8]) -> bool {
        let context = &self.render_context;
        let room = HEADER_BYTES + render::usual_room(context, entry);
        if room > self.config.frame_bytes_max as usize {
            return false;
        }
        let to = &mut self.lanes[lane.0 as usize].lane;
        let made = to.append_made_here(&mut self.memory, room, |room| {
            let (header, payload) = room.split_first_chunk_mut::<HEADER_BYTES>()?;
            let bytes = render::usual(context, tag, entry, payload)?;
            let bytes = u32::try_from(bytes).ok()?;
            *header = encode_header(bytes, severity);
            Some(FRAME_HEADER_BYTES + bytes)
        });
        let Some(bytes) = made else {
            return false;
        };
        self.counters.received += 1;
        self.counters.received_bytes += u64::from(bytes);
        self.note_form(lane, 1, Form::Json);
        true
    }

    /// As it came, or as JSON.
    #[inline(never)]
    fn put_entry(&mut self, lane: LaneId, severity: u8, tag: &[u8], entry: &[u8]) {
        let setup = self.lanes[lane.0 as usize].lane.setup();
        let is_record = setup.layout == Layout::Records && !setup.described;
        let bytes_max = self.config.frame_bytes_max as usize - HEADER_BYTES;
        let payload_bytes = TAG_LENGTH_BYTES + tag.len() + entry.len();
        let tag_length = tag_length(tag).filter(|_| is_record && payload_bytes <= bytes_max);
        match tag_length {
            Some(length) => self.put_as_it_came(lane, severity, (length, tag), entry),
            None => self.put_rendered(lane, severity, tag, entry, bytes_max),
        }
    }

    /// Gives a lane of records an entry as it came.
    fn put_as_it_came(
        &mut self,
        lane: LaneId,
        severity: u8,
        (length, tag): ([u8; TAG_LENGTH_BYTES], &[u8]),
        entry: &[u8],
    ) {
        let payload_bytes = TAG_LENGTH_BYTES + tag.len() + entry.len();
        let frame_bytes = FRAME_HEADER_BYTES as usize + payload_bytes;
        let mut head = [0; WRAPPED_HEADER_BYTES + FRAME_HEADER_BYTES as usize];
        let (record, frame) = head.split_at_mut(WRAPPED_HEADER_BYTES);
        record.copy_from_slice(&wrapped_header(Form::Entry, frame_bytes));
        frame.copy_from_slice(&frame_header(frame_bytes, severity));
        let parts = [&head[..], &length, tag, entry];
        let to = &mut self.lanes[lane.0 as usize].lane;
        let needs_room = !to.append_record_here(&mut self.memory, parts);
        if needs_room {
            let mut scratch = std::mem::take(&mut self.scratch);
            parts
                .iter()
                .for_each(|part| scratch.extend_from_slice(part));
            self.sample_entry(lane, severity, tag, entry);
            let to = &mut self.lanes[lane.0 as usize].lane;
            to.append(&mut self.memory, &mut self.pool, &scratch, None);
            self.keep_scratch(scratch);
        }
        self.counters.received += 1;
        self.counters.received_bytes += frame_bytes as u64; // in memory
        if needs_room {
            self.mark_dirty(lane);
            self.check_full(lane);
        }
    }

    /// Gives a lane an entry as JSON.
    fn put_rendered(
        &mut self,
        lane: LaneId,
        severity: u8,
        tag: &[u8],
        entry: &[u8],
        bytes_max: usize,
    ) {
        let mut json = std::mem::take(&mut self.rendered);
        json.clear();
        if !render::entry(&mut self.render_context, tag, entry, bytes_max, &mut json) {
            self.counters.count(Reason::EntryCut);
        }
        self.put(
            lane,
            Element::Payload {
                severity,
                form: Form::Json,
                bytes: &json,
            },
        );
        if json.capacity() <= SCRATCH_BYTES_KEPT {
            self.rendered = json;
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_protocol::record::{split_entry, Record};
    use weir_source::Port;

    use super::*;
    use crate::{EngineConfig, Entry, LinkEpoch, OnSlow, Reach, Roster, Sink, VecMemory, Window};

    const SINKS: [Sink; 3] = [Sink::Forward, Sink::Compact, Sink::Forward];

    fn link(analyzer: usize) -> LinkEpoch {
        LinkEpoch::new(0, 1 + analyzer as u64)
    }

    /// Analyzers of these weights; the second takes frames, the others records.
    fn follow(engine: &mut Engine<VecMemory>, epoch: u64, weights: [f64; 3]) {
        let entries = SINKS.iter().zip(weights).enumerate();
        let entries = entries.map(|(at, (sink, weight))| Entry {
            analyzer: at as u32,
            name: format!("a{at}").into(),
            weight,
            draining: false,
            pinned: false,
            ejected: false,
            sink: *sink,
            reach: match sink {
                Sink::Compact => Reach::SingleLink {
                    home: 0,
                    epoch: link(at),
                },
                _ => Reach::Http {
                    generation: at as u64,
                },
            },
        });
        let roster = Roster {
            epoch,
            entries: entries.collect(),
        };
        assert!(engine.apply_roster(&roster, |entry| {
            Some((link(entry.analyzer as usize), Window::ANY))
        }));
    }

    fn engine(weights: [f64; 3]) -> Engine<VecMemory> {
        let config = EngineConfig {
            shard: 0,
            buffers: 64,
            buffer_bytes: 4096,
            frame_bytes_max: 8192,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 100,
            partial_bytes_max: 100_000,
            on_slow: OnSlow::Spill,
        };
        let mut engine = Engine::new(config, VecMemory::new(64, 4096));
        follow(&mut engine, 1, weights);
        engine.emitter_opened(0, &Port::emitters().into());
        engine
    }

    /// Time 1 and `{"log": text}`.
    fn entry(text: &str) -> Vec<u8> {
        let mut entry = vec![1, 0x81];
        weir_protocol::msgpack::write_str(&mut entry, b"log");
        weir_protocol::msgpack::write_str(&mut entry, text.as_bytes());
        entry
    }

    fn route(engine: &mut Engine<VecMemory>, text: &str) {
        let entry = entry(text);
        let element = Element::Entry {
            severity: 2,
            tag: b"app",
            entry: &entry,
        };
        let routed = engine.route_of::<weir_source::Frames>(0, element);
        assert!(routed.is_ok());
    }

    fn sent(engine: &mut Engine<VecMemory>, analyzer: usize) -> Vec<u8> {
        let lane = engine.lane_of(link(analyzer)).expect("a lane");
        let mut out = Vec::new();
        while let Some(range) = engine.transmit(lane, 0, false) {
            out.extend_from_slice(engine.memory.read(range.span));
        }
        out
    }

    fn entries(mut bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some((record, rest)) = Record::parse(bytes) {
            assert_eq!((record.messages(), record.form()), (1, Form::Entry));
            record.each(|severity, _, payload| {
                let (tag, entry) = split_entry(payload).expect("an entry");
                assert_eq!(severity, 2);
                found.push((tag.to_vec(), entry.to_vec()));
            });
            bytes = rest;
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn a_lane_of_records_gets_entries_as_they_came() {
        let mut engine = engine([1.0, 0.0, 0.0]);
        let long = "x".repeat(6000); // over two buffers
        let texts = ["one", "two", &long, "three"];
        texts.iter().for_each(|text| route(&mut engine, text));
        let expected = texts.map(|text| (b"app".to_vec(), entry(text)));
        assert_eq!(entries(&sent(&mut engine, 0)), expected);
        assert_eq!(engine.check(), Ok(()));
    }

    /// What is written where it will lie, what is copied there, and what is over the end of a buffer are the same.
    #[test]
    fn a_lane_of_frames_gets_usual_entries_and_others() {
        let mut engine = engine([0.0, 1.0, 0.0]);
        let mut expected = Vec::new();
        for number in 0..90 {
            let text = format!(
                "{}{}",
                "x".repeat(number * 3 % 256),
                ["", "\n"][number % 5 / 4]
            );
            let seconds = (number / 10) as u8; // of one second each are usual ones
            let time = [0xd7, 0, 0, 0, 0, seconds, 0, 0, 0, 7];
            let entry = [&time[..], &entry(&text)[1..]].concat();
            let (severity, tag) = (2, &b"app"[..]);
            let element = Element::Entry {
                severity,
                tag,
                entry: &entry,
            };
            let routed = engine.route_of::<weir_source::Frames>(0, element);
            assert!(routed.is_ok());
            let mut json = Vec::new();
            let mut context = render::Context::default();
            assert!(render::entry(&mut context, tag, &entry, 1 << 20, &mut json));
            expected.extend_from_slice(&frame_header(5 + json.len(), severity));
            expected.extend_from_slice(&json);
        }
        assert_eq!(engine.counters.received, 90);
        assert_eq!(engine.counters.received_bytes, expected.len() as u64);
        assert_eq!(sent(&mut engine, 1), expected);
        assert_eq!(engine.check(), Ok(()));
        assert_eq!(engine.forms_kept, 1, "all of them are JSON");
    }

    #[test]
    fn what_would_be_no_frame_is_json() {
        let mut engine = engine([1.0, 0.0, 0.0]);
        route(&mut engine, &"x".repeat(9000));
        let out = sent(&mut engine, 0);
        let (record, _) = Record::parse(&out).expect("a record");
        assert_eq!(record.form(), Form::Json);
        assert_eq!(engine.counters.of(Reason::EntryCut), 1);
    }

    #[test]
    fn a_lane_of_frames_gets_json_then_and_after_a_re_route() {
        let mut engine = engine([1.0, 0.0, 0.0]);
        route(&mut engine, "one");
        follow(&mut engine, 2, [1.0, 1e-9, 0.0]);
        follow(&mut engine, 3, [0.0, 1.0, 0.0]);
        route(&mut engine, "two");
        let frames = |text: &str| {
            let json = format!(
                r#"{{"log":"{text}","@timestamp":"1970-01-01T00:00:01.000000000Z","tag":"app"}}"#
            );
            let header = frame_header(5 + json.len(), 2);
            [&header[..], json.as_bytes()].concat()
        };
        assert_eq!(sent(&mut engine, 1), frames("two"));
        engine.link_down(link(0), 0);
        engine.reroute();
        assert_eq!(sent(&mut engine, 1), frames("one"));
        assert_eq!(engine.check(), Ok(()));
    }

    #[test]
    fn a_re_route_to_another_lane_of_records_changes_nothing() {
        let mut engine = engine([1.0, 0.0, 0.0]);
        ["one", "two"]
            .iter()
            .for_each(|text| route(&mut engine, text));
        follow(&mut engine, 2, [0.0, 0.0, 1.0]);
        engine.link_down(link(0), 0);
        engine.reroute();
        let expected = ["one", "two"].map(|text| (b"app".to_vec(), entry(text)));
        assert_eq!(entries(&sent(&mut engine, 2)), expected);
    }
}
