//! Random stories. The seed of the one that failed is printed; `ENGINE_SEED=n` tells it alone,
//! `ENGINE_STORIES=n` the first n.

use weir_engine::OnSlow;

use weir_testkit::rig::{config, Rig, BUFFER_BYTES, SHARD};
use weir_testkit::wire::frame_of;
use weir_testkit::Random;

const STORIES: u64 = 3000;
const STEPS: usize = 200;

struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the story that failed: ENGINE_SEED={}", self.0);
        }
    }
}

#[test]
fn random_stories_end_well() {
    if let Ok(seed) = std::env::var("ENGINE_SEED") {
        return story(seed.parse().expect("a number"));
    }
    let stories = match std::env::var("ENGINE_STORIES") {
        Ok(stories) => stories.parse().expect("a number"),
        Err(_) => STORIES,
    };
    for seed in 0..stories {
        story(seed);
    }
}

struct Story {
    rig: Rig,
    random: Random,
    /// Links die in it.
    deadly: bool,
    /// Floods of the smallest messages, which grow the most when they are re-routed.
    tiny: bool,
    numbers: Vec<u64>,
    links_max: usize,
}

fn story(seed: u64) {
    let _seed = Seed(seed);
    let mut story = Story::new(Random::new(seed));
    for _ in 0..2 {
        for step in 0..STEPS {
            story.step();
            if step % 16 == 0 {
                story.rig.check_windows();
            }
        }
        story.end();
    }
}

impl Story {
    fn new(mut random: Random) -> Story {
        let frame_bytes_max = random.pick(&[3000, BUFFER_BYTES - 40, BUFFER_BYTES, 9000, 20_000]);
        let frame_buffers = (frame_bytes_max + 40).div_ceil(BUFFER_BYTES);
        let spare = random.pick(&[0, 1, 4, 20, 40]);
        let mut config = config(4 * frame_buffers + 8 + spare, frame_bytes_max);
        config.window_bytes = random.pick(&[0, 20_000, 100_000, u64::MAX]);
        config.window_messages = random.pick(&[1, 3, 40, u64::MAX, u64::MAX]);
        if random.chance(25) {
            config.on_slow = OnSlow::Wait;
        }
        let mut rig = Rig::new(config);
        let emitters = 1 + random.below(4);
        for _ in 0..emitters {
            rig.emitter();
        }
        let links_max = rig.engine.lanes_max().min(8);
        let mut story = Story {
            rig,
            deadly: random.chance(75),
            tiny: random.chance(1),
            numbers: vec![0; emitters],
            links_max,
            random,
        };
        for _ in 0..story.random.below(links_max + 1) {
            story.connect();
        }
        story
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..40 => self.offer(),
            40..58 => self.transmit(),
            58..68 => self.release(),
            68..82 => self.ack(),
            82..91 => self.rig.engine.reroute(),
            91 => self.written(),
            92 => {
                self.rig.rerouted();
            }
            93..95 => self.connect(),
            95..97 => self.kill(),
            97 => self.change_weight(),
            98 => self.reopen(),
            _ => self.rig.now_ns += 1_000_000,
        }
        self.rig.check();
    }

    fn offer(&mut self) {
        let emitter = self.random.below(self.rig.sources.len());
        if self.rig.sources[emitter].unsent.len() < 30_000 && self.random.chance(70) {
            let frames = if self.tiny { 1000 } else { 6 };
            for _ in 0..1 + self.random.below(frames) {
                self.write(emitter);
            }
        }
        let bytes = self.random.pick(&[1, 3, 7, 100, 2000, 10_000, usize::MAX]);
        for _ in 0..1 + self.random.below(4) {
            self.rig.offer(emitter, bytes);
        }
    }

    fn write(&mut self, emitter: usize) {
        let max = self.rig.config.frame_bytes_max as usize - 5;
        let len = match self.random.below(20) {
            _ if self.tiny && self.random.chance(99) => 0,
            0..4 => 0,
            4..10 => self.random.below(40),
            10..15 => self.random.below(1000),
            15..18 => self.random.below((BUFFER_BYTES as usize).min(max + 1)),
            18 => (BUFFER_BYTES as usize + 10 - self.random.below(60)).min(max),
            _ => max - self.random.below(max / 2),
        };
        self.numbers[emitter] += 1;
        let number = (emitter as u64) << 48 | self.numbers[emitter];
        let mut payload = vec![self.random.next_u64() as u8; len];
        if len >= 8 {
            payload[..8].copy_from_slice(&number.to_be_bytes());
        }
        let severity = self.random.next_u64() as u8;
        self.rig.write(emitter, frame_of(severity, &payload));
    }

    fn transmit(&mut self) {
        let Some(peer) = self.any_peer() else {
            return;
        };
        if self.random.chance(70) {
            self.rig.collect_dirty();
        }
        let own = self.rig.peers[peer].home == SHARD;
        let hold = own && self.random.chance(80);
        for _ in 0..self.random.pick(&[1, 1, 2, 100]) {
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
        for _ in 0..1 + self.random.below(3) {
            let held = self.rig.held(peer);
            if held > 0 {
                let (which, again) = (self.random.below(held), self.random.chance(20));
                self.rig.release(peer, which, again);
            }
        }
    }

    fn ack(&mut self) {
        let Some(peer) = self.any_peer() else {
            return;
        };
        let unacked = self.rig.peers[peer].unacked.len();
        if self.rig.peers[peer].up && unacked > 0 {
            let messages = match self.random.chance(50) {
                true => unacked,
                false => 1 + self.random.below(unacked),
            };
            self.rig.ack(peer, messages as u64);
        }
    }

    fn written(&mut self) {
        if let Some(peer) = self.any_peer() {
            if self.rig.peers[peer].up {
                self.rig.engine.written(self.rig.peers[peer].lane);
            }
        }
    }

    fn connect(&mut self) {
        if self.up().count() >= self.links_max {
            return;
        }
        let native = self.random.chance(60);
        let home = match native || self.random.chance(50) {
            true => SHARD,
            false => SHARD + 1,
        };
        let weight = self.weight();
        let window = self.random.pick(&[1, 20, u64::MAX, u64::MAX]);
        self.rig.connect(native, home, weight, window);
    }

    fn kill(&mut self) {
        if !self.deadly {
            return;
        }
        let victims: Vec<usize> = match self.random.chance(20) {
            true => self.up().collect(),
            false => self.any_peer().into_iter().collect(),
        };
        for peer in victims {
            if self.rig.peers[peer].up {
                self.rig.kill(peer);
            }
        }
        // Sometimes the table without them comes later than the news of their death.
        if self.random.chance(70) {
            self.rig.publish();
        }
    }

    fn change_weight(&mut self) {
        if let Some(peer) = self.any_peer() {
            self.rig.peers[peer].weight = self.weight();
            self.rig.publish();
        }
    }

    fn reopen(&mut self) {
        let emitter = self.random.below(self.rig.sources.len());
        self.rig.reopen(emitter);
    }

    fn weight(&mut self) -> f64 {
        self.random.pick(&[0.0, 0.1, 0.25, 0.4, 1.0, 7.0])
    }

    fn up(&self) -> impl Iterator<Item = usize> + '_ {
        let peers = self.rig.peers.iter().enumerate();
        peers.filter(|(_, peer)| peer.up).map(|(index, _)| index)
    }

    /// Mostly one that is up, sometimes a dead one.
    fn any_peer(&mut self) -> Option<usize> {
        let up: Vec<usize> = self.up().collect();
        if !up.is_empty() && self.random.chance(90) {
            return Some(self.random.pick(&up));
        }
        let peers = self.rig.peers.len();
        (peers > 0).then(|| self.random.below(peers))
    }

    /// Everybody behaves, and somebody is alive.
    fn end(&mut self) {
        let alive = self.up().any(|peer| self.rig.peers[peer].weight > 0.0);
        if !alive {
            let up = self.up().next();
            if let Some(peer) = up {
                self.rig.peers[peer].weight = 1.0;
                self.rig.publish();
            } else {
                let native = self.random.chance(50);
                self.rig.connect(native, SHARD, 1.0, u64::MAX);
            }
        }
        self.rig.finish();
    }
}
