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
