//! Packets and records: several messages that move together, between lanes of three forms, while
//! analyzers die and come back. What was taken in must be ACKed once at least, tickets are done when all
//! of theirs is, the books hold after every step.

use std::collections::{BTreeMap, BTreeSet};

use weir_engine::tree::UNIT_MAX;
use weir_engine::Port;
use weir_engine::{
    Divisible, Engine, EngineConfig, Entry, LinkEpoch, Memory, OnSlow, Passed, Reach, Receipt,
    Roster, Sink, Unit, UnitRefused, VecMemory, Window,
};
use weir_http as http;
use weir_http::SeededIds;
use weir_protocol::record::Record;
use weir_testkit::wire::{self, BatchHeader, BATCH_HEADER_BYTES, ORIGIN_BYTES};
use weir_testkit::Random;

const BUFFERS: u32 = 96;
const BUFFER_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Compact,
    Native,
    Http,
}

/// One time of an analyzer.
struct Link {
    form: Form,
    epoch: LinkEpoch,
    /// Bytes that were transmitted and make no whole record, frame or batch yet.
    bytes: Vec<u8>,
    /// Units that it has and has not ACKed: the numbers in each.
    unacked: Vec<Vec<u64>>,
    /// Messages that it has ACKed, and refused.
    answered: (u64, u64),
}

struct World {
    engine: Engine<VecMemory>,
    ids: SeededIds,
    links: BTreeMap<u32, Link>,
    analyzers: u32,
    epochs: u64,
    next: u64,
    acked: BTreeSet<u64>,
    /// Packets' messages, to see that they stay together on HTTP lanes.
    packets: BTreeMap<u64, Vec<u64>>,
    by_http: BTreeSet<u64>,
    /// Went message by message.
    divided: BTreeSet<u64>,
    tickets: BTreeMap<u64, Vec<u64>>,
    done: BTreeSet<u64>,
    /// Refused by an analyzer for good.
    refused: BTreeSet<u64>,
    /// ACKed or refused out of order by an analyzer that died: not to be seen again.
    settled: BTreeSet<u64>,
    /// What the analyzer of each link that ended had ACKed, and refused.
    ended: BTreeMap<LinkEpoch, (u64, u64)>,
    /// Times that a link was seen which had ended, with some of its messages moved to others.
    half_moved: u64,
}

struct Packet<'a>(http::Packet<'a>);

impl Unit for Packet<'_> {
    fn messages(&self) -> u32 {
        u32::try_from(self.0.message_count()).expect("few")
    }

    fn bytes_max(&self) -> usize {
        self.0.bytes_max()
    }

    fn write_frames(&mut self, out: &mut Vec<u8>) {
        let before = out.len();
        self.0.write_frames(out);
        assert!(out.len() - before <= self.bytes_max());
    }

    fn write_record(&mut self, out: &mut Vec<u8>) {
        let before = out.len();
        self.0.write_record(out);
        assert!(out.len() - before <= self.bytes_max());
    }
}

impl Divisible for Packet<'_> {
    fn part_bytes_max(&self) -> usize {
        self.0.envelope_bytes_max()
    }

    fn write_part(&mut self, is_in: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        let before = out.len();
        let part = (0..self.0.message_count()).filter(|message| is_in(*message));
        let count = part.count();
        self.0.write_part(is_in, out);
        let (record, rest) = Record::parse(&out[before..]).expect("a record");
        assert!(rest.is_empty());
        assert_eq!(record.messages(), count);
        let id = self.0.id();
        let is_whole = count == self.0.message_count();
        assert_eq!(
            record.packet_id().expect("an id").as_bytes() == id,
            is_whole
        );
    }
}

impl World {
    fn new(seed: u64) -> World {
        let config = EngineConfig {
            shard: 0,
            buffers: BUFFERS,
            buffer_bytes: BUFFER_BYTES,
            frame_bytes_max: 16 * 1024,
            unit_bytes_max: 0,
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
            epochs: 0,
            next: 0,
            acked: BTreeSet::new(),
            packets: BTreeMap::new(),
            by_http: BTreeSet::new(),
            divided: BTreeSet::new(),
            tickets: BTreeMap::new(),
            done: BTreeSet::new(),
            refused: BTreeSet::new(),
            settled: BTreeSet::new(),
            ended: BTreeMap::new(),
            half_moved: 0,
        }
    }

    fn up(&mut self, form: Form) {
        self.analyzers += 1;
        self.epochs += 1;
        let link = Link {
            form,
            epoch: LinkEpoch::new(0, self.epochs),
            bytes: Vec::new(),
            unacked: Vec::new(),
            answered: (0, 0),
        };
        self.links.insert(self.analyzers, link);
        self.apply();
    }

    fn apply(&mut self) {
        let entries = self.links.iter().map(|(analyzer, link)| Entry {
            analyzer: *analyzer,
            name: format!("a{analyzer}").into(),
            weight: f64::from(1 + analyzer % 4),
            draining: false,
            pinned: false,
            ejected: false,
            sink: match link.form {
                Form::Compact => Sink::Compact,
                Form::Native => Sink::Native,
                Form::Http => Sink::Http,
            },
            reach: match link.form {
                Form::Compact => Reach::SingleLink {
                    home: 0,
                    epoch: link.epoch,
                },
                Form::Native => Reach::LinkPerShard,
                Form::Http => Reach::Http {
                    generation: u64::from(*analyzer),
                },
            },
        });
        let roster = Roster {
            epoch: self.engine.roster_epoch() + 1,
            entries: entries.collect(),
        };
        let links = &self.links;
        self.engine.apply_roster(&roster, |entry| {
            links
                .get(&entry.analyzer)
                .map(|link| (link.epoch, Window::ANY))
        });
    }

    /// A packet of `count` messages; true when it was taken.
    fn packet(&mut self, count: u64, with_ticket: bool, divides: bool) -> bool {
        let numbers: Vec<u64> = (self.next..self.next + count).collect();
        let messages: Vec<String> = numbers
            .iter()
            .map(|number| format!("{{\"level\":\"warn\",\"message\":\"#{number}#\"}}"))
            .collect();
        let body = format!(
            "{{\"emitterId\":\"e\",\"messages\":[{}]}}",
            messages.join(",")
        );
        let limits = http::PacketLimits::default();
        let now = http::iso8601(0);
        let packet = http::parse_packet(body.as_bytes(), &now, &mut self.ids, &limits);
        let mut unit = Packet(packet.expect("valid"));
        let ticket = with_ticket.then_some(self.next);
        let received = self.engine.counters.received;
        let taken = match divides {
            true => self.engine.ingest_divided(&mut unit, ticket),
            false => self.engine.ingest_unit(&mut unit, ticket),
        };
        match taken {
            Ok(()) => {}
            Err(UnitRefused::Stalled) => {
                assert_eq!(self.engine.counters.received, received, "nothing of it");
                return false;
            }
            Err(error) => panic!("{error:?}"),
        }
        if divides {
            self.divided.extend(&numbers);
        }
        if with_ticket {
            self.tickets.insert(self.next, numbers.clone());
        }
        for number in &numbers {
            self.packets.insert(*number, numbers.clone());
        }
        self.by_http.extend(&numbers);
        self.next += count;
        true
    }

    /// A message by TCP; true when it was taken.
    fn frame(&mut self) -> bool {
        let payload = format!("#{}#", self.next);
        let bytes = wire::frame_of(2, payload.as_bytes());
        if !self.engine.can_ingest() {
            return false;
        }
        let before = self.engine.counters.received;
        self.engine.ingest(0, &bytes);
        let taken = self.engine.counters.received > before;
        if taken {
            self.packets.insert(self.next, vec![self.next]);
            self.next += 1;
        }
        taken
    }

    fn transmit(&mut self) {
        while let Some(lane) = self.engine.next_dirty() {
            let (_, epoch) = self.engine.destination(lane);
            let mut links = self.links.values_mut();
            let Some(link) = links.find(|link| link.epoch == epoch) else {
                continue;
            };
            while let Some(range) = self.engine.transmit(lane, 0, false) {
                link.bytes
                    .extend_from_slice(self.engine.memory().read(range.span));
            }
            self.engine.written(lane);
            let seen = link.unacked.len();
            link.read(&self.packets, &self.by_http, &self.divided);
            let news = link.unacked[seen..].iter().flatten();
            for number in news {
                assert!(
                    !self.settled.contains(number),
                    "{number} was ACKed and came again"
                );
            }
        }
    }

    /// An analyzer ACKs the oldest `units` that it has; over HTTP it refuses some.
    fn ack(&mut self, analyzer: u32, units: usize, random: &mut Random) {
        let Some(link) = self.links.get_mut(&analyzer) else {
            return;
        };
        let Some(lane) = self.engine.lane_of(link.epoch) else {
            return;
        };
        let units = units.min(link.unacked.len());
        let form = link.form;
        for numbers in link.unacked.drain(..units) {
            let messages = numbers.len() as u64;
            if form == Form::Http && random.below(5) == 0 {
                self.engine.refused(lane, messages, 0);
                link.answered.1 += messages;
                self.refused.extend(numbers);
            } else {
                self.engine.acked(lane, messages, 0);
                link.answered.0 += messages;
                self.acked.extend(numbers);
            }
        }
        self.collect_receipts();
    }

    fn collect_receipts(&mut self) {
        while let Some(Receipt { ticket, refused }) = self.engine.next_receipt() {
            let numbers = &self.tickets[&ticket];
            let (acked, all_refused) = (&self.acked, &self.refused);
            let is_through = |number| acked.contains(number) || all_refused.contains(number);
            let all = numbers.iter().all(is_through);
            assert!(all, "ticket {ticket} is done before its messages");
            let due = numbers.iter().filter(|number| all_refused.contains(number));
            assert_eq!(refused, due.count() as u64, "ticket {ticket}");
            assert!(self.done.insert(ticket), "ticket {ticket} is done twice");
        }
    }

    /// An analyzer dies; over HTTP some of its units may have been ACKed out of order.
    fn down(&mut self, analyzer: u32, random: &mut Random) {
        let Some(mut link) = self.links.remove(&analyzer) else {
            return;
        };
        if let (Form::Http, Some(lane)) = (link.form, self.engine.lane_of(link.epoch)) {
            let mut before = 0;
            for (index, unit) in link.unacked.iter().enumerate() {
                if index > 0 && random.below(3) == 0 {
                    let is_refused = random.below(2) == 0;
                    let (through, answered) = match is_refused {
                        true => (&mut self.refused, &mut link.answered.1),
                        false => (&mut self.acked, &mut link.answered.0),
                    };
                    through.extend(unit);
                    let messages = unit.len() as u64;
                    *answered += messages;
                    let passed = match is_refused {
                        true => Passed::Refused,
                        false => Passed::Acked,
                    };
                    self.engine.through(lane, before, messages, passed);
                    self.settled.extend(unit);
                }
                before += unit.len() as u64;
            }
        }
        self.engine.link_down(link.epoch, 0);
        let ended = self.engine.ended().last().expect("it ended");
        assert_eq!((ended.acked, ended.refused), link.answered);
        self.ended.insert(link.epoch, link.answered);
        self.apply();
    }

    fn check(&mut self) {
        self.engine.reroute();
        self.collect_receipts();
        self.engine.check().expect("the books hold");
        for lane in self.engine.lane_reports().filter(|lane| lane.down) {
            let (acked, refused) = self.ended[&lane.epoch];
            assert_eq!(lane.acked, acked, "{:?}", lane.epoch);
            let left = lane.in_flight + lane.queued;
            self.half_moved += u64::from(left + acked + refused < lane.assigned);
        }
    }
}

impl Link {
    /// Takes whole units off the bytes.
    fn read(
        &mut self,
        packets: &BTreeMap<u64, Vec<u64>>,
        by_http: &BTreeSet<u64>,
        divided: &BTreeSet<u64>,
    ) {
        loop {
            let mut rest = self.bytes.as_slice();
            let units: Vec<Vec<u64>> = match self.form {
                Form::Http => {
                    let Some((record, after)) = Record::parse(rest) else {
                        return;
                    };
                    rest = after;
                    let text = record.body().or(record.frame()).expect("one of both");
                    let numbers = numbers(text);
                    assert_eq!(numbers.len(), record.messages(), "numbers of a record");
                    let form = match by_http.contains(&numbers[0]) {
                        true => weir_protocol::Form::Json,
                        false => weir_protocol::Form::Raw,
                    };
                    assert_eq!(record.form(), form, "{numbers:?}");
                    let packet = &packets[&numbers[0]];
                    if divided.contains(&numbers[0]) {
                        let is_part = numbers.iter().all(|number| packet.contains(number));
                        assert!(is_part && numbers.is_sorted(), "{numbers:?} of {packet:?}");
                    } else if record.body().is_some() {
                        assert_eq!(numbers, *packet, "packets stay together");
                    }
                    vec![numbers]
                }
                Form::Compact => {
                    let Some(frame) = take_frame(&mut rest) else {
                        return;
                    };
                    vec![numbers(frame)]
                }
                Form::Native => {
                    let Some(head) = rest.first_chunk::<BATCH_HEADER_BYTES>() else {
                        return;
                    };
                    let head = BatchHeader::decode(head).expect("a batch");
                    let end = BATCH_HEADER_BYTES + head.body_bytes as usize;
                    let Some(mut body) = rest.get(BATCH_HEADER_BYTES..end) else {
                        return;
                    };
                    rest = &rest[end..];
                    let mut units = Vec::new();
                    for _ in 0..head.count {
                        if head.is_redelivered {
                            body = &body[ORIGIN_BYTES..];
                        }
                        units.push(numbers(take_frame(&mut body).expect("a frame")));
                    }
                    assert!(body.is_empty(), "a batch is as long as it says");
                    units
                }
            };
            self.unacked.extend(units);
            self.bytes = rest.to_vec();
        }
    }
}

fn take_frame<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = wire::frame_bytes(bytes).expect("a frame")?;
    let (frame, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(frame)
}

/// The numbers between hash signs.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(bytes);
    let pieces: Vec<&str> = text.split('#').collect();
    let numbers = pieces.iter().skip(1).step_by(2);
    numbers
        .map(|piece| piece.parse().expect("a number"))
        .collect()
}

fn run(seed: u64) -> World {
    let mut random = Random::new(seed);
    let mut world = World::new(seed);
    let forms = [Form::Compact, Form::Native, Form::Http];
    for _ in 0..600 {
        match random.below(12) {
            0..=3 => {
                let most = if random.below(8) == 0 { 60 } else { 9 };
                let count = 1 + random.below(most);
                world.packet(count, random.below(2) == 0, random.below(3) == 0);
            }
            4..=6 => {
                for _ in 0..random.below(20) {
                    world.frame();
                }
            }
            7 => world.transmit(),
            8 | 9 => {
                let known: Vec<u32> = world.links.keys().copied().collect();
                if !known.is_empty() {
                    let analyzer = known[random.below(known.len() as u64) as usize];
                    world.transmit();
                    let units = random.below(30) as usize;
                    world.ack(analyzer, units, &mut random);
                }
            }
            10 => {
                if world.links.len() < 4 {
                    world.up(forms[random.below(3) as usize]);
                }
            }
            _ => {
                let known: Vec<u32> = world.links.keys().copied().collect();
                if known.len() > 1 || random.below(3) == 0 && !known.is_empty() {
                    let analyzer = known[random.below(known.len() as u64) as usize];
                    world.down(analyzer, &mut random);
                }
            }
        }
        world.check();
    }
    world.up(forms[(seed % 3) as usize]);
    for _ in 0..10_000 {
        world.check();
        world.transmit();
        let known: Vec<u32> = world.links.keys().copied().collect();
        known
            .iter()
            .for_each(|analyzer| world.ack(*analyzer, usize::MAX, &mut random));
        if world.engine.balance().open() == 0 {
            break;
        }
    }
    world
}

#[test]
fn units_are_acked_whatever_form_their_lanes_have() {
    let (mut messages, mut rerouted, mut tickets, mut refused, mut half_moved) = (0, 0, 0, 0, 0);
    for seed in 0..150 {
        let world = run(seed);
        let balance = world.engine.balance();
        assert_eq!(balance.open(), 0, "seed {seed}: {balance}");
        let through: BTreeSet<u64> = world.acked.union(&world.refused).copied().collect();
        assert!(
            through.into_iter().eq(0..world.next),
            "seed {seed}: all of them"
        );
        assert_eq!(balance.acked, world.acked.len() as u64, "seed {seed}");
        assert_eq!(balance.dropped, world.refused.len() as u64, "seed {seed}");
        refused += balance.dropped;
        half_moved += world.half_moved;
        assert_eq!(world.engine.counters.received, world.next, "seed {seed}");
        let asked: BTreeSet<u64> = world.tickets.keys().copied().collect();
        assert_eq!(world.done, asked, "seed {seed}: every ticket is done");
        assert_eq!(world.engine.receipts_waiting(), 0, "seed {seed}");
        messages += world.next;
        rerouted += world.engine.counters.rerouted;
        tickets += asked.len();
    }
    assert!(
        messages > 50_000
            && rerouted > 10_000
            && tickets > 1000
            && refused > 1000
            && half_moved > 100,
        "{messages} {rerouted} {tickets} {refused} {half_moved}"
    );
}

#[test]
fn packets_keep_the_bound_of_single_messages_times_their_size() {
    let mut world = World::new(1);
    for form in [Form::Http, Form::Http, Form::Native, Form::Compact] {
        world.up(form);
    }
    let mut random = Random::new(7);
    let weights: f64 = world
        .links
        .keys()
        .map(|analyzer| f64::from(1 + analyzer % 4))
        .sum();
    for _ in 0..4000 {
        assert!(world.packet(1 + random.below(64), false, false));
        world.transmit();
        let known: Vec<u32> = world.links.keys().copied().collect();
        known
            .iter()
            .for_each(|analyzer| world.ack(*analyzer, usize::MAX, &mut random));
        let total = world.next as f64;
        for lane in world.engine.lane_reports() {
            let due = total * f64::from(1 + lane.analyzer % 4) / weights;
            let off = (lane.assigned as f64 - due).abs();
            assert!(off <= 1.34 * 64.0, "{off} messages after {total}");
        }
    }
    assert!(world.engine.share_bound() <= 1.34 * 64.0);
}

#[test]
fn divided_packets_keep_the_bound_of_single_messages() {
    let mut world = World::new(1);
    for form in [Form::Http, Form::Http, Form::Native, Form::Compact] {
        world.up(form);
    }
    let mut random = Random::new(7);
    let links = world.links.keys();
    let weights: f64 = links.map(|analyzer| f64::from(1 + analyzer % 4)).sum();
    for _ in 0..1000 {
        assert!(world.packet(1 + random.below(100), true, true));
        world.transmit();
        let known: Vec<u32> = world.links.keys().copied().collect();
        for lane in world.engine.lane_reports() {
            let due = world.next as f64 * f64::from(1 + lane.analyzer % 4) / weights;
            let off = (lane.assigned as f64 - due).abs();
            assert!(off <= 1.34, "{off} messages after {}", world.next);
        }
        known
            .iter()
            .for_each(|analyzer| world.ack(*analyzer, usize::MAX, &mut random));
    }
    assert_eq!(
        (world.engine.unit_max(), world.engine.balance().open()),
        (1, 0)
    );
    assert_eq!(
        world.done.len(),
        world.tickets.len(),
        "every ticket is done"
    );
}

/// What would never fit is said to be too long, and not put off for ever.
#[test]
fn a_divided_packet_whose_parts_never_fit_is_refused_by_name() {
    let mut world = World::new(1);
    for _ in 0..9 {
        world.up(Form::Http);
    }
    // Each part would have the metadata.
    let body = format!(
        "{{\"emitterId\":\"e\",\"metadata\":{{\"m\":\"{}\"}},\"messages\":[{}]}}",
        "x".repeat(14_000),
        ["{\"message\":\"#0#\"}"; 9].join(",")
    );
    let limits = http::PacketLimits::default();
    let packet = http::parse_packet(body.as_bytes(), &http::iso8601(0), &mut world.ids, &limits);
    let packet = packet.expect("valid");
    let part = packet.envelope_bytes_max();
    let mut unit = Packet(packet);
    let refused = world.engine.ingest_divided(&mut unit, None);
    let Err(UnitRefused::TooLong { bytes, max }) = refused else {
        panic!("{refused:?}");
    };
    assert!(bytes > 4 * part && max < bytes, "{bytes} {max}");
    assert_eq!(world.engine.ingest_unit(&mut unit, None), Ok(()));
}

#[test]
fn a_unit_of_more_messages_than_the_tree_counts_is_refused_whole() {
    /// Only counted: nothing of it is to be written.
    struct Many(u32);
    impl Unit for Many {
        fn messages(&self) -> u32 {
            self.0
        }
        fn bytes_max(&self) -> usize {
            16_384
        }
        fn write_frames(&mut self, _: &mut Vec<u8>) {
            unreachable!("refused before");
        }
        fn write_record(&mut self, _: &mut Vec<u8>) {
            unreachable!("refused before");
        }
    }
    let mut world = World::new(1);
    world.up(Form::Http);
    for messages in [UNIT_MAX + 1, 200_000, u32::MAX] {
        let refused = world.engine.ingest_unit(&mut Many(messages), None);
        let max = UNIT_MAX;
        assert_eq!(refused, Err(UnitRefused::TooMany { messages, max }));
    }
    assert_eq!(world.engine.balance().received, 0);
    world.check();
}

#[test]
fn a_unit_that_may_be_too_long_is_refused_whole() {
    let mut world = World::new(1);
    world.up(Form::Http);
    let long = "x".repeat(17_000);
    let body = format!("{{\"emitterId\":\"e\",\"messages\":[{{\"message\":\"{long}\"}}]}}");
    let now = http::iso8601(0);
    let limits = http::PacketLimits::default();
    let packet = http::parse_packet(body.as_bytes(), &now, &mut world.ids, &limits);
    let refused = world
        .engine
        .ingest_unit(&mut Packet(packet.expect("valid")), None);
    assert!(
        matches!(refused, Err(UnitRefused::TooLong { max: 16_384, .. })),
        "{refused:?}"
    );
    assert_eq!(world.engine.balance().received, 0);
    assert!(world.packet(1, true, false));
    world.check();
}
