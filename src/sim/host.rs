//! The distributor of a run: its sizes.

use super::random::Random;
use weir_engine::OnSlow;
use weir_shard::BUSY_BYTES;

pub(super) const MS: u64 = 1_000_000;

/// Sizes of the distributor.
#[derive(Clone, Debug)]
pub(super) struct HostPlan {
    pub(super) batch_bytes: u32,
    pub(super) buffers: u32,
    pub(super) frame_max: u32,
    pub(super) window_bytes: u64,
    pub(super) window_messages: u64,
    pub(super) partial_bytes: usize,
    pub(super) on_slow: OnSlow,
    pub(super) receive_buffers: u16,
    pub(super) receive_bytes: usize,
    pub(super) incremental: bool,
    /// Smallest zero-copy send; 0: none.
    pub(super) zero_copy: usize,
    pub(super) mesh_messages: usize,
    /// Where links of reference clients start to count.
    pub(super) first_number: u64,
    pub(super) ack_timeout_ms: u64,
    /// Sends may be held for so long; 0: never.
    pub(super) latency_budget_us: u64,
    /// A turn that brings so many bytes is followed by the next at once.
    pub(super) busy_bytes: usize,
    /// Age at which connections are asked to go, time over which they are at the end; 0: never, all at once.
    pub(super) connection_age_ms: u64,
    pub(super) farewell_spread_ms: u64,
}

impl HostPlan {
    /// In some runs sends are held, in most of these also when little has come.
    pub(super) fn hold(&mut self, random: &mut Random) {
        if random.chance(30) {
            self.latency_budget_us = random.pick(&[500, 500, 5_000]);
            self.busy_bytes = random.pick(&[200, 200, 4_096, BUSY_BYTES]);
        }
    }

    /// In some runs connections are asked to go at an age, in some one after the other at the end.
    pub(super) fn say_farewell(&mut self, random: &mut Random) {
        self.connection_age_ms = random.pick(&[0, 0, 0, 20, 150, 1_000]);
        self.farewell_spread_ms = random.pick(&[0, 0, 50, 700]);
    }

    /// What packets need: large frames, small buffers, and some of these beyond what one packet takes.
    pub(super) fn make_room(&mut self, random: &mut Random, analyzers: usize) {
        self.frame_max = self
            .frame_max
            .max(random.pick(&[4_000, 20_000, 60_000, 60_000]));
        self.partial_bytes = self.partial_bytes.max(self.frame_max as usize);
        let frame = (self.frame_max + 64).div_ceil(self.batch_bytes);
        let packet = 2 * self.frame_max / (self.batch_bytes - 64) + 1;
        let least = 2 * (frame + packet) + 8 + random.pick(&[0, 0, 8, 32, 100]);
        self.buffers = self.buffers.max(least).max(6 * (analyzers as u32 + 2)); // a few
    }

    pub(super) fn draw(random: &mut Random, shards: usize) -> HostPlan {
        let batch_bytes: u32 = random.pick(&[4096, 4096, 6000, 8192, 16384]);
        let frame_max: u32 = random.pick(&[64, 300, 2000, 5000, 20_000]);
        let frame_buffers = (frame_max + 64).div_ceil(batch_bytes);
        let least = 4 * frame_buffers + 16;
        let buffers = least + random.pick(&[0, 0, 8, 32, 100]);
        let receive_bytes = random.pick(&[512, 4096, 16384]);
        HostPlan {
            batch_bytes,
            buffers,
            frame_max,
            window_bytes: random.pick(&[1, 16 << 10, 64 << 10, 1 << 30]),
            window_messages: random.pick(&[1 << 24, 1 << 24, 100, 11]),
            partial_bytes: (frame_max as usize) * random.pick(&[1, 8, 100, 100, 100, 100]),
            on_slow: random.pick(&[OnSlow::Spill, OnSlow::Spill, OnSlow::Wait]),
            receive_buffers: random.pick(&[2, 4, 16]),
            receive_bytes,
            incremental: random.chance(60),
            zero_copy: random.pick(&[0, 0, 1, 500]),
            mesh_messages: random.pick(&[1, 3, 64, 1024]) * shards,
            first_number: random.pick(&[0, 0, (1 << 31) - 200, (1 << 32) - 200]),
            ack_timeout_ms: random.pick(&[1_500, 5_000, 30_000]),
            latency_budget_us: 0,
            busy_bytes: BUSY_BYTES,
            connection_age_ms: 0,
            farewell_spread_ms: 0,
        }
    }
}
