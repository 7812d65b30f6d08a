//! The whole engine under operations of any sort: emitters' bytes in any pieces, sends, releases, ACKs
//! in any portions, weights, links that come and die, the kernel slow or fast. The rig that the engine's
//! own tests use plays the outside world and checks every step: books balance, bytes do not change under
//! the kernel's hands, what is sent is what was taken in, nothing is lost, every buffer comes back.
//! Here the input decides instead of a random number, and shares are checked as well.
//!
//! Input: u8 largest frame, u8 spare buffers, u8 window in bytes, u8 window in messages, u8 policy, u8
//! emitters, operations.

use std::collections::BTreeMap;

use weir::engine::{LinkEpoch, OnSlow, TableChanges};
use weir_testkit::rig::{config, Rig, BUFFER_BYTES, SHARD};
use weir_testkit::wire::frame_of;

use super::input::Input;

/// Operations that one input may make.
const STEPS_MAX: usize = 400;
/// Messages beyond the certified bound that are no breach: the tree has chosen, and the message that it
/// chose for is still to be written.
const CHOSEN: f64 = 1.0;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut story = Story::new(Input::new(data));
    for step in 0..STEPS_MAX {
        if story.input.is_empty() {
            break;
        }
        story.step();
        story.check_shares();
        if step % 16 == 0 {
            story.rig.check_windows();
        }
    }
    story.end();
}

struct Story<'a> {
    input: Input<'a>,
    rig: Rig,
    numbers: Vec<u64>,
    links_max: usize,
    /// The table in force, and what each link had been given when it came into force.
    table: TableChanges,
    given: BTreeMap<LinkEpoch, u64>,
}

impl<'a> Story<'a> {
    fn new(mut input: Input<'a>) -> Story<'a> {
        let sizes = [3000, BUFFER_BYTES - 40, BUFFER_BYTES, 9000, 20_000];
        let frame_bytes_max = input.pick(&sizes);
        let frame_buffers = (frame_bytes_max + 40).div_ceil(BUFFER_BYTES);
        let spare = input.pick(&[0, 1, 4, 20, 40]);
        let mut config = config(4 * frame_buffers + 8 + spare, frame_bytes_max);
        config.window_bytes = input.pick(&[u64::MAX, 0, 20_000, 100_000]);
        config.window_messages = input.pick(&[u64::MAX, 1, 3, 40]);
        config.on_slow = input.pick(&[OnSlow::Spill, OnSlow::Spill, OnSlow::Spill, OnSlow::Wait]);
        let mut rig = Rig::new(config);
        let emitters = 1 + input.below(4);
        for _ in 0..emitters {
            rig.emitter();
        }
        let links_max = rig.engine.lanes_max().min(8);
        Story {
            input,
            rig,
            numbers: vec![0; emitters],
            links_max,
            table: TableChanges::default(),
            given: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        match self.input.u8() {
            0..90 => self.offer(),
            90..130 => self.transmit(),
            130..155 => self.release(),
            155..190 => self.ack(),
            190..205 => self.rig.engine.reroute(),
            205..210 => self.written(),
            210..213 => drop(self.rig.rerouted()),
            213..225 => self.connect(),
            225..235 => self.kill(),
            235..240 => self.kill_all(),
            240..248 => self.change_weight(),
            248..252 => self.reopen(),
            _ => self.rig.now_ns += 1_000_000,
        }
        self.rig.check();
    }

    // Emitters ----------------------------------------------------------------------------------

    fn offer(&mut self) {
        let emitter = self.input.below(self.rig.sources.len());
        if self.rig.sources[emitter].unsent.len() < 30_000 {
            let frames = self.input.pick(&[0, 1, 1, 2, 5, 20, 300]);
            let size = self.input.below(8);
            for _ in 0..frames {
                self.write(emitter, size);
            }
        }
        let bytes = [usize::MAX, 1, 3, 7, 100, 2000, 10_000];
        let bytes = self.input.pick(&bytes);
        self.rig.offer(emitter, bytes);
    }

    fn write(&mut self, emitter: usize, size: usize) {
        let max = self.rig.config.frame_bytes_max as usize - 5;
        let len = match size {
            0 | 1 => 0,
            2 => 10,
            3 => self.input.below(256),
            4 => self.input.below(1000),
            5 => self.input.below((BUFFER_BYTES as usize).min(max + 1)),
            6 => (BUFFER_BYTES as usize + 10 - self.input.below(60)).min(max),
            _ => max - self.input.below(256),
        };
        self.numbers[emitter] += 1;
        let number = (emitter as u64) << 48 | self.numbers[emitter];
        let mut payload = vec![size as u8; len];
        if len >= 8 {
            payload[..8].copy_from_slice(&number.to_be_bytes());
        }
        self.rig.write(emitter, frame_of(number as u8, &payload));
    }

    fn reopen(&mut self) {
        let emitter = self.input.below(self.rig.sources.len());
        self.rig.reopen(emitter);
    }

    // Analyzers ---------------------------------------------------------------------------------

    fn transmit(&mut self) {
        let Some(peer) = self.any_peer() else {
            return;
        };
        let flags = self.input.u8();
        if flags & 1 == 0 {
            self.rig.collect_dirty();
        }
        let own = self.rig.peers[peer].home == SHARD;
        let hold = own && flags & 2 == 0;
        for _ in 0..[1, 2, 100, 1][usize::from(flags >> 2 & 3)] {
            if self.rig.transmit(peer, hold).is_none() {
                break;
            }
        }
        if !own && self.rig.peers[peer].up {
            self.rig.transmit_all(peer, false);
        }
    }

    fn release(&mut self) {
        let Some(peer) = self.any_peer() else {
            return;
        };
        let flags = self.input.u8();
        for _ in 0..1 + flags % 4 {
            let held = self.rig.held(peer);
            if held > 0 {
                let which = self.input.below(held);
                self.rig.release(peer, which, flags >= 200);
            }
        }
    }

    fn ack(&mut self) {
        let Some(peer) = self.any_peer() else {
            return;
        };
        let unacked = self.rig.peers[peer].unacked.len();
        if self.rig.peers[peer].up && unacked > 0 {
            let messages = match self.input.chance(128) {
                true => unacked,
                false => 1 + self.input.below(unacked),
            };
            self.rig.ack(peer, messages as u64);
        }
    }

    fn written(&mut self) {
        if let Some(peer) = self.any_peer().filter(|peer| self.rig.peers[*peer].up) {
            self.rig.engine.written(self.rig.peers[peer].lane);
        }
    }

    fn connect(&mut self) {
        if self.up().count() >= self.links_max {
            return;
        }
        let flags = self.input.u8();
        let native = flags & 1 == 0;
        let home = if native || flags & 2 == 0 {
            SHARD
        } else {
            SHARD + 1
        };
        let window = [u64::MAX, 1, 20, u64::MAX][usize::from(flags >> 2 & 3)];
        let weight = self.weight();
        self.rig.connect(native, home, weight, window);
    }

    fn kill(&mut self) {
        let Some(peer) = self.any_peer().filter(|peer| self.rig.peers[*peer].up) else {
            return;
        };
        self.rig.kill(peer);
        self.publish_perhaps();
    }

    fn kill_all(&mut self) {
        let all: Vec<_> = self.up().collect();
        all.into_iter().for_each(|peer| self.rig.kill(peer));
        self.publish_perhaps();
    }

    /// The table without the dead comes now, or with the next change.
    fn publish_perhaps(&mut self) {
        if self.input.chance(180) {
            self.rig.publish();
        }
    }

    fn change_weight(&mut self) {
        if let Some(peer) = self.any_peer() {
            self.rig.peers[peer].weight = self.weight();
            self.rig.publish();
        }
    }

    fn weight(&mut self) -> f64 {
        self.input.pick(&[1.0, 0.0, 0.1, 0.25, 0.4, 7.0, 1e-9])
    }

    fn up(&self) -> impl Iterator<Item = usize> + '_ {
        let peers = self.rig.peers.iter().enumerate();
        peers.filter(|(_, peer)| peer.up).map(|(index, _)| index)
    }

    /// Mostly one that is up, sometimes a dead one.
    fn any_peer(&mut self) -> Option<usize> {
        let choice = self.input.u8();
        let up: Vec<usize> = self.up().collect();
        if !up.is_empty() && choice < 230 {
            return Some(up[usize::from(choice) % up.len()]);
        }
        let peers = self.rig.peers.len();
        (peers > 0).then(|| usize::from(choice) % peers)
    }

    // Checks ------------------------------------------------------------------------------------

    /// Between two changes of what the tree chooses from, every link that can be chosen is within
    /// twice the bound of its share of what was routed.
    fn check_shares(&mut self) {
        let reports = || self.rig.engine.lane_reports().filter(|lane| !lane.down);
        let now = self.rig.engine.table_changes();
        if now != self.table {
            self.table = now;
            self.given = reports().map(|lane| (lane.epoch, lane.assigned)).collect();
            return;
        }
        let open = |lane: &weir::engine::LaneReport| {
            let peer = self.rig.peers.iter().find(|peer| peer.epoch == lane.epoch);
            let peer = peer.expect("every lane is a peer's");
            if lane.full {
                0.0
            } else {
                peer.weight
            }
        };
        let sum: f64 = reports().map(|lane| open(&lane)).sum();
        let got = |lane: &weir::engine::LaneReport| lane.assigned - self.given[&lane.epoch];
        let routed: u64 = reports().map(|lane| got(&lane)).sum();
        let most = 2.0 * self.rig.engine.share_bound() + CHOSEN + 1e-6;
        for lane in reports() {
            let exact = if sum > 0.0 {
                routed as f64 * open(&lane) / sum
            } else {
                0.0
            };
            let off = (exact - got(&lane) as f64).abs();
            assert!(
                off <= most,
                "{:?} is off by {off} of {routed}, bound {most}",
                lane.epoch
            );
        }
    }

    /// Everybody behaves, and somebody is alive: then all is delivered.
    fn end(&mut self) {
        let alive = self.up().any(|peer| self.rig.peers[peer].weight > 0.0);
        if !alive {
            let up = self.up().next();
            if let Some(peer) = up {
                self.rig.peers[peer].weight = 1.0;
                self.rig.publish();
            } else {
                self.rig.connect(true, SHARD, 1.0, u64::MAX);
            }
        }
        self.rig.finish();
    }
}
