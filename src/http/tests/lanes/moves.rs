//! What analyzers over HTTP refuse goes to others, whole or in parts, while links die and come back. Each message
//! is ACKed or refused by all once, none comes again that was, tickets are done, the books hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::Port;
use weir_engine::{
    Engine, EngineConfig, Entry, LinkEpoch, Memory, Move, OnSlow, Onward, Passed, Reach, Roster,
    Sink, Unit, VecMemory, Window,
};
use weir_http as http;
use weir_http::SeededIds;
use weir_protocol::record::Record;
use weir_testkit::wire;

const BUFFER_BYTES: u32 = 4096;
const BUFFERS: u32 = 96;

struct Packet<'a>(http::Packet<'a>);

impl Unit for Packet<'_> {
    fn messages(&self) -> u32 {
        u32::try_from(self.0.message_count()).expect("few")
    }
    fn bytes_max(&self) -> usize {
        self.0.bytes_max()
    }
    fn write_frames(&mut self, out: &mut Vec<u8>) {
        self.0.write_frames(out);
    }
    fn write_record(&mut self, out: &mut Vec<u8>) {
        self.0.write_record(out);
    }
}

struct Post {
    numbers: Vec<u64>,
    unit_end: u64,
    passed: Option<Passed>,
}

struct Link {
    epoch: LinkEpoch,
    bytes: Vec<u8>,
    next: u64,
    posts: BTreeMap<u64, Post>,
}

struct World {
    engine: Engine<VecMemory>,
    ids: SeededIds,
    links: BTreeMap<u32, Link>,
    analyzers: u32,
    next: u64,
    through: BTreeSet<u64>,
    refused: u64,
    tickets: BTreeSet<u64>,
    moved: u64,
    cut: u64,
}

fn numbers(record: &Record) -> Vec<u64> {
    let mut frames = Vec::new();
    record.write_frames(&mut frames);
    let mut found = Vec::new();
    let mut rest = frames.as_slice();
    while let Ok(Some(len)) = wire::frame_bytes(rest) {
        let text = String::from_utf8_lossy(&rest[5..len]).into_owned();
        let number = text
            .split('#')
            .nth(1)
            .and_then(|number| number.parse().ok());
        found.push(number.expect("a number"));
        rest = &rest[len..];
    }
    found
}

impl World {
    fn new(seed: u64) -> World {
        let config = EngineConfig {
            shard: 0,
            buffers: BUFFERS,
            buffer_bytes: BUFFER_BYTES,
            frame_bytes_max: 16 * 1024,
            unit_bytes_max: 16 * 1024,
            window_bytes: 64 * 1024,
            window_messages: 500,
            partial_bytes_max: 1 << 20,
            on_slow: OnSlow::Spill,
        };
        let memory = VecMemory::new(BUFFERS as usize, BUFFER_BYTES as usize);
        let mut engine = Engine::new(config, memory);
        engine.emitter_opened(0, &Port::emitters().into());
        World {
            engine,
            ids: SeededIds::from_u64(seed),
            links: BTreeMap::new(),
            analyzers: 0,
            next: 0,
            through: BTreeSet::new(),
            refused: 0,
            tickets: BTreeSet::new(),
            moved: 0,
            cut: 0,
        }
    }

    fn up(&mut self) {
        self.analyzers += 1;
        let link = Link {
            epoch: LinkEpoch::new(0, u64::from(self.analyzers)),
            bytes: Vec::new(),
            next: 1,
            posts: BTreeMap::new(),
        };
        self.links.insert(self.analyzers, link);
        self.apply();
    }

    fn apply(&mut self) {
        let entries = self.links.keys().map(|analyzer| Entry {
            analyzer: *analyzer,
            name: format!("a{analyzer}").into(),
            weight: f64::from(1 + analyzer % 4),
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Http,
            reach: Reach::Http {
                generation: u64::from(*analyzer),
            },
        });
        let roster = Roster {
            epoch: self.engine.roster_epoch() + 1,
            entries: entries.collect(),
        };
        let links = &self.links;
        self.engine.apply_roster(&roster, |entry| {
            let link = links.get(&entry.analyzer)?;
            Some((link.epoch, Window::ANY))
        });
    }

    fn packet(&mut self, count: u64, bytes: usize) {
        let text = "x".repeat(bytes);
        let message = |number| format!("{{\"message\":\"#{number}#{text}\"}}");
        let messages: Vec<String> = (self.next..self.next + count).map(message).collect();
        let body = format!(
            "{{\"emitterId\":\"e\",\"messages\":[{}],\"metadata\":{{\"size\":1}},\"more\":[1]}}",
            messages.join(",")
        );
        let limits = http::PacketLimits::default();
        let now = http::iso8601(0);
        let packet = http::parse_packet(body.as_bytes(), &now, &mut self.ids, &limits);
        let mut unit = Packet(packet.expect("valid"));
        if self.engine.ingest_unit(&mut unit, Some(self.next)).is_ok() {
            self.tickets.insert(self.next);
            self.next += count;
        }
    }

    fn transmit(&mut self) {
        while let Some(lane) = self.engine.next_dirty() {
            let (_, epoch) = self.engine.destination(lane);
            let Some(link) = self.links.values_mut().find(|link| link.epoch == epoch) else {
                continue;
            };
            while let Some(range) = self.engine.transmit(lane, 0, false) {
                let bytes = self.engine.memory().read(range.span);
                link.bytes.extend_from_slice(bytes);
            }
            self.engine.written(lane);
            while let Some((record, rest)) = Record::parse(&link.bytes) {
                let (numbers, left) = (numbers(&record), rest.len());
                if let Some(body) = record.body() {
                    let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
                    assert_eq!(json["size"], numbers.len(), "{json}");
                    assert_eq!(json["id"], record.packet_id().expect("a packet"));
                    assert_eq!(json["more"][0], 1);
                }
                let again = numbers.iter().find(|number| self.through.contains(number));
                assert_eq!(again, None, "it was through and came again");
                let unit_end = link.next + numbers.len() as u64 - 1;
                let post = Post {
                    numbers,
                    unit_end,
                    passed: None,
                };
                link.posts.insert(link.next, post);
                link.next = unit_end + 1;
                link.bytes.drain(..link.bytes.len() - left);
            }
        }
    }

    /// One of the open posts of an analyzer ends, or becomes two.
    fn answer(&mut self, analyzer: u32, choice: u64, pick: u64) {
        let Some(link) = self.links.get_mut(&analyzer) else {
            return;
        };
        let Some(lane) = self.engine.lane_of(link.epoch) else {
            return;
        };
        let open = link
            .posts
            .iter_mut()
            .filter(|(_, post)| post.passed.is_none());
        let mut open: Vec<(&u64, &mut Post)> = open.collect();
        if open.is_empty() {
            return;
        }
        let at = usize::try_from(pick).expect("small") % open.len();
        let (first, post) = open.swap_remove(at);
        let first = *first;
        let mut second = None;
        match choice {
            0..=3 => post.passed = Some(Passed::Acked),
            4 if post.numbers.len() > 1 => {
                let half = post.numbers.len() / 2;
                let numbers = post.numbers.split_off(half);
                let records = self.engine.records_of(lane, first, half as u64);
                let (part, rest) = Record::parse(&records).expect("a record");
                assert_eq!(
                    (self::numbers(&part), rest.len()),
                    (post.numbers.clone(), 0)
                );
                let unit_end = post.unit_end;
                let post = Post {
                    numbers,
                    unit_end,
                    passed: None,
                };
                second = Some((first + half as u64, post));
                self.cut += 1;
            }
            _ => {
                let what = Move {
                    first,
                    messages: post.numbers.len() as u64,
                    rounds: 0,
                };
                match self.engine.move_on(lane, what) {
                    Onward::Moved => {
                        post.passed = Some(Passed::Moved);
                        self.moved += 1;
                    }
                    Onward::NoRoom => {}
                    Onward::Nowhere => post.passed = Some(Passed::Refused),
                }
            }
        }
        if let Some(Passed::Acked | Passed::Refused) = post.passed {
            for number in &post.numbers {
                assert!(self.through.insert(*number), "{number} twice");
            }
        }
        if post.passed == Some(Passed::Refused) {
            self.refused += post.numbers.len() as u64;
        }
        link.posts.extend(second);
        while let Some((first, post)) = link.posts.first_key_value() {
            let unit = *first..=post.unit_end;
            let mut parts = link.posts.range(unit.clone());
            if parts.any(|(_, part)| part.passed.is_none()) {
                break;
            }
            while let Some(entry) = link.posts.first_entry().filter(|e| unit.contains(e.key())) {
                let post = entry.remove();
                let count = post.numbers.len() as u64;
                match post.passed {
                    Some(Passed::Moved) => self.engine.moved_past(lane, count, 0),
                    Some(Passed::Refused) => self.engine.refused(lane, count, 0),
                    _ => self.engine.acked(lane, count, 0),
                }
            }
        }
    }

    fn down(&mut self, analyzer: u32) {
        let Some(link) = self.links.remove(&analyzer) else {
            return;
        };
        if let Some(lane) = self.engine.lane_of(link.epoch) {
            let mut before = 0;
            for post in link.posts.values() {
                let count = post.numbers.len() as u64;
                if let Some(passed) = post.passed {
                    self.engine.through(lane, before, count, passed);
                }
                before += count;
            }
        }
        self.engine.link_down(link.epoch, 0);
        self.apply();
    }

    fn check(&mut self) {
        let balance = self.engine.balance();
        assert!(balance.holds(), "{balance}");
        self.engine.check().expect("the books");
        while let Some(receipt) = self.engine.next_receipt() {
            assert!(
                self.tickets.remove(&receipt.ticket),
                "a ticket is done twice"
            );
        }
    }
}

#[test]
fn refused_units_and_parts_find_their_way_through_deaths() {
    let (mut moved, mut cut) = (0, 0);
    for seed in 0..200_u64 {
        let mut state = seed;
        let mut below = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % n
        };
        let mut world = World::new(seed);
        for _ in 0..3 {
            world.up();
        }
        for _ in 0..400 {
            let newest = world.analyzers;
            let oldest = newest.saturating_sub(4);
            match below(12) {
                0..=2 => {
                    let bytes = usize::try_from(below(600)).expect("small");
                    world.packet(below(12) + 1, bytes);
                }
                3..=9 => {
                    let analyzer = oldest + u32::try_from(below(5)).expect("small");
                    world.answer(analyzer, below(9), below(1000));
                }
                10 if below(6) == 0 => {
                    world.down(oldest + u32::try_from(below(5)).expect("small"));
                    if world.links.len() < 3 {
                        world.up();
                    }
                }
                _ => {}
            }
            world.engine.reroute();
            world.transmit();
            world.check();
        }
        for _ in 0..100_000 {
            world.engine.reroute();
            world.transmit();
            let links: Vec<u32> = world.links.keys().copied().collect();
            for analyzer in links {
                world.answer(analyzer, 0, 0);
            }
            world.check();
            if world.engine.balance().open() == 0 {
                break;
            }
        }
        let balance = world.engine.balance();
        assert_eq!(balance.open(), 0, "seed {seed}: {balance}");
        assert_eq!(world.through.len() as u64, world.next, "seed {seed}");
        assert_eq!(balance.dropped, world.refused, "seed {seed}");
        assert!(world.tickets.is_empty(), "seed {seed}: {:?}", world.tickets);
        moved += world.moved;
        cut += world.cut;
    }
    println!("{moved} moved, {cut} cut");
    assert!(moved > 1000 && cut > 1000, "{moved} moved, {cut} cut");
}

/// Every lane is full and what is first in it was refused: nobody waits for anybody.
#[test]
fn full_lanes_whose_analyzers_refuse_everything_do_not_wait_for_each_other() {
    for (links, deaths) in [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 2)] {
        let mut world = World::new(links);
        for _ in 0..links {
            world.up();
        }
        let mut refused_in_a_row = 0;
        while refused_in_a_row < 20 {
            let before = world.next;
            world.packet(1 + before % 7, 300);
            refused_in_a_row = if world.next == before {
                refused_in_a_row + 1
            } else {
                0
            };
            world.transmit();
        }
        for analyzer in 1..=deaths {
            world.down(analyzer);
        }
        for _ in 0..10_000 {
            world.engine.reroute();
            world.transmit();
            for analyzer in 1..=4 {
                world.answer(analyzer, 8, 0);
            }
            world.check();
        }
        let balance = world.engine.balance();
        assert_eq!(balance.open(), 0, "{links} links, {deaths} dead: {balance}");
        assert_eq!(balance.dropped, world.next, "{links} links, {deaths} dead");
    }
}
