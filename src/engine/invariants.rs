//! What must hold between any two calls of the engine, for tests and the simulator: too slow for
//! every turn of a shard.

use super::shard::{Engine, LaneSlot, LaneState};
use super::Memory;

impl<M: Memory> Engine<M> {
    /// Checks the books: every buffer is free or belongs to exactly one lane, counts agree with what
    /// they count, the conservation law holds.
    ///
    /// # Errors
    /// What does not hold, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.check_buffers()?;
        self.check_lanes()?;
        let partial: usize = self.assemblers.iter().map(|a| a.carried().len()).sum();
        if partial != self.partial_bytes {
            return Err(format!(
                "{partial} bytes of partial frames, {} counted",
                self.partial_bytes
            ));
        }
        if partial > self.config.partial_bytes_max {
            let most = self.config.partial_bytes_max;
            return Err(format!("{partial} bytes of partial frames, {most} allowed"));
        }
        let origins: usize = self.lanes.iter().map(|slot| slot.lane.origins()).sum();
        if origins != self.origins_kept || origins > self.origins_max {
            let (kept, most) = (self.origins_kept, self.origins_max);
            return Err(format!("{origins} origins, {kept} counted, {most} allowed"));
        }
        let forms: usize = self.lanes.iter().map(|slot| slot.forms.len()).sum();
        if forms != self.forms_kept || forms > self.forms_max {
            let (kept, most) = (self.forms_kept, self.forms_max);
            return Err(format!("{forms} forms, {kept} counted, {most} allowed"));
        }
        let tickets: usize = self.lanes.iter().map(|slot| slot.tickets.len()).sum();
        if tickets != self.receipts.ranges_kept {
            let kept = self.receipts.ranges_kept;
            return Err(format!("{tickets} ranges of tickets, {kept} counted"));
        }
        let balance = self.balance();
        if !balance.holds() {
            return Err(balance.to_string());
        }
        Ok(())
    }

    fn check_buffers(&self) -> Result<(), String> {
        let mut owners = vec![0u32; self.pool.total()];
        let free = self.pool.free_buffers();
        let held = self.lanes.iter().flat_map(|slot| slot.lane.buffers());
        for buffer in free.iter().copied().chain(held) {
            owners[buffer.0 as usize] += 1;
        }
        match owners.iter().position(|owners| *owners != 1) {
            Some(buffer) => Err(format!(
                "buffer {buffer} has {} owners, one is right",
                owners[buffer]
            )),
            None => Ok(()),
        }
    }

    fn check_lanes(&self) -> Result<(), String> {
        for (index, slot) in self.lanes.iter().enumerate() {
            let lane = &slot.lane;
            let ordered = lane.acked() <= lane.appended()
                && lane.submitted() <= lane.appended()
                && (slot.state != LaneState::Up || lane.acked() <= lane.submitted());
            if !ordered {
                return Err(format!(
                    "lane {index}: acked {}, submitted {}, appended {}",
                    lane.acked(),
                    lane.submitted(),
                    lane.appended()
                ));
            }
            if slot.state == LaneState::Free && (lane.segments() > 0 || lane.unacked() > 0) {
                return Err(format!("lane {index} is free and not empty"));
            }
            let up = slot.state == LaneState::Up;
            let known = self.lane_by_epoch.get(&lane.setup().epoch);
            if up && known.is_none_or(|lane| lane.0 as usize != index) {
                return Err(format!("lane {index} is up and not found by its link"));
            }
        }
        let up = |slot: &&LaneSlot| slot.state == LaneState::Up;
        let lanes_up = self.lanes.iter().filter(up).count();
        if lanes_up != self.lane_by_epoch.len() {
            return Err(format!(
                "{lanes_up} lanes are up, {} links are known",
                self.lane_by_epoch.len()
            ));
        }
        let full = |slot: &&LaneSlot| slot.full && slot.weight > 0.0;
        let full = self.lanes.iter().filter(full).count();
        if full != self.full_lanes {
            return Err(format!(
                "{full} lanes are full, {} counted",
                self.full_lanes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EngineConfig, LaneId, LinkEpoch, OnSlow, Reach, Roster, Sink, VecMemory};
    use crate::{Entry, Ingest, Port};
    use weir_protocol::{frame, Form};

    type Tampering = fn(&mut Engine<VecMemory>);

    /// Two lanes, the second full; four messages, two of them ACKed; a partial frame.
    fn engine() -> Engine<VecMemory> {
        let config = EngineConfig {
            shard: 0,
            buffers: 16,
            buffer_bytes: 4096,
            frame_bytes_max: 1024,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 2,
            partial_bytes_max: 100,
            on_slow: OnSlow::Spill,
        };
        let mut engine = Engine::new(config, VecMemory::new(16, 4096));
        let entry = |analyzer: u32| Entry {
            analyzer,
            name: analyzer.to_string().into(),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Compact,
            reach: Reach::SingleLink {
                home: 0,
                epoch: LinkEpoch::new(0, u64::from(analyzer) + 1),
            },
        };
        let roster = Roster {
            epoch: 1,
            entries: vec![entry(0), entry(1)],
        };
        assert!(engine.apply_roster(&roster, |_| None));
        engine.emitter_opened(0, &Port::emitters().into());
        let bytes = [frame::encode_header(1, 3).as_slice(), b"x"]
            .concat()
            .repeat(4);
        assert_eq!(engine.ingest(0, &bytes), Ingest::Taken);
        assert!(engine.transmit(LaneId(0), 0, false).is_some());
        engine.acked(LaneId(0), 2, 0);
        assert_eq!(engine.ingest(0, &[0, 0]), Ingest::Taken);
        engine
    }

    #[test]
    fn books_that_are_wrong_are_found_out() {
        assert_eq!(engine().check(), Ok(()));
        let tampered: [(&str, Tampering); 16] = [
            ("bytes of partial frames, 3 counted", |e| {
                e.partial_bytes += 1
            }),
            ("2 bytes of partial frames, 1 allowed", |e| {
                e.config.partial_bytes_max = 1
            }),
            ("0 origins, 1 counted", |e| e.origins_kept += 1),
            ("1 origins, 1 counted, 0 allowed", |e| {
                let lane = &mut e.lanes[1].lane;
                lane.keep_origin(
                    1,
                    super::super::Origin {
                        shard: 0,
                        epoch: LinkEpoch(9),
                        sequence: 1,
                    },
                );
                (e.origins_kept, e.origins_max) = (1, 0);
            }),
            ("0 forms, 1 counted", |e| e.forms_kept += 1),
            ("1 forms, 1 counted, 0 allowed", |e| {
                assert!(e.lanes[1].forms.keep(1, 1, Form::Json, true));
                (e.forms_kept, e.forms_max) = (1, 0);
            }),
            ("0 ranges of tickets, 1 counted", |e| {
                e.receipts.ranges_kept += 1
            }),
            ("BROKEN", |e| e.counters.received += 1),
            ("0 owners", |e| assert!(e.pool.take().is_some())),
            ("2 owners", |e| {
                let held = e.lanes[1].lane.buffers().next().expect("its tail");
                e.pool.give(held);
            }),
            ("lane 1 is free and not empty", |e| {
                e.lanes[1].state = LaneState::Free;
            }),
            ("lane 1 is up and not found by its link", |e| {
                e.lane_by_epoch.insert(LinkEpoch::new(0, 2), LaneId(0));
            }),
            ("lane 0 is up and not found by its link", |e| {
                e.lane_by_epoch.remove(&LinkEpoch::new(0, 1));
            }),
            ("2 lanes are up, 3 links are known", |e| {
                e.lane_by_epoch.insert(LinkEpoch::new(0, 7), LaneId(0));
            }),
            ("1 lanes are full, 2 counted", |e| e.full_lanes += 1),
            ("0 lanes are full, 1 counted", |e| e.lanes[1].full = false),
        ];
        for (what, tamper) in tampered {
            let mut engine = engine();
            tamper(&mut engine);
            let found = engine.check().expect_err(what);
            assert!(found.contains(what), "{found}, and not {what}");
        }
        let mut engine = engine();
        engine.lanes[1].weight = 0.0;
        engine.full_lanes = 0;
        assert_eq!(engine.check(), Ok(()), "full, but without a weight");
    }
    #[test]
    fn forms_beyond_their_bound_are_counted_until_an_ack_makes_room() {
        let mut engine = engine();
        engine.forms_max = 1;
        engine.note_form(LaneId(1), 2, Form::Json);
        assert_eq!((engine.forms_kept, engine.counters.pieces_lost), (1, 0));
        engine.note_form(LaneId(0), 1, Form::Json);
        assert_eq!((engine.forms_kept, engine.counters.pieces_lost), (1, 1));
        assert_eq!(engine.check(), Ok(()));
        assert!(engine.transmit(LaneId(1), 0, false).is_some());
        engine.acked(LaneId(1), 2, 0);
        assert_eq!((engine.forms_kept, engine.check()), (0, Ok(())));
    }
}
