use proptest::prelude::*;

use super::*;
use crate::lane::{Lane, LaneSetup, Layout};
use crate::Origin;
use crate::{
    BufferPool, Engine, EngineConfig, Entry, LinkEpoch, OnSlow, Reach, Roster, Unit, VecMemory,
    Window,
};
use weir_protocol::frame;

fn message(bytes: usize) -> Vec<u8> {
    let mut message = vec![b'x'; bytes];
    let header = frame::encode_header(u32::try_from(bytes - 5).expect("short"), 3);
    message[..5].copy_from_slice(&header);
    message
}

/// A lane with `before` on it, then `unit`: buffers that the unit took.
fn taken(
    layout: Layout,
    buffer_bytes: u32,
    before: &[usize],
    unit: &[usize],
    moved: bool,
) -> usize {
    let buffers = 64
        + 8 * (before.iter().chain(unit).sum::<usize>() / buffer_bytes as usize + 1)
        + 3 * (before.len() + unit.len());
    let mut memory = VecMemory::new(buffers, buffer_bytes as usize);
    let mut pool = BufferPool::new(u32::try_from(buffers).expect("few"), buffer_bytes);
    let mut lane = Lane::new(LaneSetup {
        described: false,
        shard: 0,
        epoch: LinkEpoch(9),
        layout,
    });
    let mut append = |pool: &mut BufferPool, bytes: usize, origin: Option<Origin>| {
        let message = message(bytes);
        if origin.is_some() || !lane.append_here(&mut memory, &[], &message) {
            lane.append(&mut memory, pool, &message, origin);
        }
    };
    for bytes in before {
        append(&mut pool, *bytes, None);
    }
    let free = pool.free();
    for (sequence, bytes) in (1..).zip(unit) {
        let origin = Origin {
            shard: 1,
            epoch: LinkEpoch(7),
            sequence,
        };
        append(&mut pool, *bytes, moved.then_some(origin));
    }
    free - pool.free()
}

fn buffer_sizes() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(4096_u32),
        Just(8192),
        Just(16_384),
        Just(65_536),
        Just(131_072),
        4096..131_072_u32
    ]
}

/// Sizes round the edges of a buffer, and any.
fn sizes(buffer_bytes: u32) -> impl Strategy<Value = usize> {
    let buffer = buffer_bytes as usize;
    prop_oneof![
        4 => (buffer - 80)..(buffer + 80),
        2 => (buffer / 2 - 40)..(buffer / 2 + 40),
        1 => (2 * buffer - 80)..(2 * buffer + 80),
        1 => 5..200_usize,
        1 => 5..3 * buffer,
    ]
}

/// Just too long for a buffer with header and origin, or for half of one.
fn equals(buffer_bytes: u32) -> impl Strategy<Value = usize> {
    let buffer = buffer_bytes as usize;
    prop_oneof![
        4 => (buffer - 42)..=buffer,
        2 => (buffer / 2 - 42)..=(buffer / 2),
        1 => sizes(buffer_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 600 }, ..ProptestConfig::default() })]

    #[test]
    fn no_unit_takes_more_than_is_reserved(
        (buffer_bytes, before, unit) in buffer_sizes().prop_flat_map(|buffer_bytes| (
            Just(buffer_bytes),
            proptest::collection::vec(sizes(buffer_bytes), 0..3),
            prop_oneof![
                proptest::collection::vec(sizes(buffer_bytes), 1..40),
                // The same size again and again is what clients send, and the worst.
                (equals(buffer_bytes), 1..=(2 << 20) / buffer_bytes as usize)
                    .prop_map(|(bytes, count)| vec![bytes; count]),
            ],
        )),
        moved: bool,
        native: bool,
    ) {
        let layout = if native { Layout::Batches } else { Layout::Frames };
        let bytes: usize = unit.iter().sum();
        let with_origins = bytes + if moved { unit.len() * ORIGIN_BYTES } else { 0 };
        let taken = taken(layout, buffer_bytes, &before, &unit, moved);
        let reserved = for_unit(with_origins, buffer_bytes);
        prop_assert!(taken <= reserved, "{taken} taken, {reserved} reserved");
        // And not much more than a unit of this many bytes can take.
        prop_assert!(reserved <= 2 * bytes.div_ceil(buffer_bytes as usize) + 2 + with_origins / 900);
        for bytes in unit {
            let one = super::super::room::for_message(bytes, buffer_bytes);
            prop_assert!(self::taken(layout, buffer_bytes, &before, &[bytes], moved) <= one);
        }
    }
}

/// A packet of equal messages, as a record and as frames.
struct Packet {
    messages: u32,
    frame_bytes: usize,
}

impl Unit for Packet {
    fn messages(&self) -> u32 {
        self.messages
    }

    fn bytes_max(&self) -> usize {
        16 + self.messages as usize * (self.frame_bytes + 6)
    }

    fn write_frames(&mut self, out: &mut Vec<u8>) {
        for _ in 0..self.messages {
            out.extend(message(self.frame_bytes));
        }
    }

    fn write_record(&mut self, out: &mut Vec<u8>) {
        let one = message(self.frame_bytes);
        let (header, body) = one.split_at(5);
        let count = self.messages as usize;
        let total = u32::try_from(16 + count * (one.len() + 1)).expect("short");
        out.extend(total.to_be_bytes());
        out.extend(self.messages.to_be_bytes());
        out.extend([0; 8]); // no ids, and the first message starts the body
        out.extend(header.repeat(count));
        for _ in 0..count {
            out.extend(body);
            out.push(b',');
        }
    }
}

fn entry(analyzer: u32, reach: Reach) -> Entry {
    Entry {
        analyzer,
        name: analyzer.to_string().into(),
        weight: 1.0,
        draining: false,
        pinned: false,
        ejected: false,
        sink: reach.a_sink(),
        reach,
    }
}

fn link(analyzer: u32) -> LinkEpoch {
    LinkEpoch::new(0, u64::from(analyzer) + 1)
}

fn apply(engine: &mut Engine<VecMemory>, entries: Vec<Entry>) {
    let roster = Roster {
        epoch: engine.roster_epoch() + 1,
        entries,
    };
    let of = |entry: &Entry| Some((link(entry.analyzer), Window::ANY));
    assert!(engine.apply_roster(&roster, of));
}

/// An analyzer over HTTP holds packets when it dies; native ones take their messages, each with its
/// origin, in an arena of `buffers` buffers. Messages that arrived.
fn packets_of_the_dead(buffers: u32, packet: &mut Packet, packets: u64) -> u64 {
    let buffer_bytes = 4096;
    let config = EngineConfig {
        shard: 0,
        buffers,
        buffer_bytes,
        frame_bytes_max: 1 << 20,
        unit_bytes_max: 0,
        window_bytes: u64::MAX,
        window_messages: u64::MAX,
        partial_bytes_max: 4096,
        on_slow: OnSlow::Spill,
    };
    let memory = VecMemory::new(buffers as usize, buffer_bytes as usize);
    let mut engine = Engine::new(config, memory);
    apply(&mut engine, vec![entry(0, Reach::Http { generation: 1 })]);
    for _ in 0..packets {
        engine.ingest_unit(packet, None).expect("room for all");
    }
    let natives = 1..4_u32;
    let native = |analyzer| entry(analyzer, Reach::LinkPerShard);
    apply(&mut engine, natives.clone().map(native).collect());
    engine.link_down(link(0), 1);
    let mut arrived = 0;
    // Each time around everything that found room is ACKed.
    for turn in 0..200 {
        engine.reroute();
        engine.check().expect("the books balance");
        for analyzer in natives.clone() {
            let lane = engine.lane_of(link(analyzer)).expect("up");
            let mut messages = 0;
            while let Some(range) = engine.transmit(lane, turn, false) {
                messages += range.messages;
            }
            engine.acked(lane, messages, turn);
            arrived += messages;
        }
        if !engine.is_rerouting() {
            break;
        }
    }
    arrived
}

#[test]
#[cfg_attr(miri, ignore = "megabytes take Miri an hour")]
fn packets_that_are_rerouted_wait_for_room_and_never_take_more() {
    // 4,057 bytes: with header and origin one byte more than a buffer, so each takes two.
    for frame_bytes in [4057, 4080] {
        let mut packet = Packet {
            messages: 256,
            frame_bytes,
        };
        // The third one finds about as many buffers free as it takes, 512.
        for buffers in 1528..1545 {
            let arrived = packets_of_the_dead(buffers, &mut packet, 3);
            assert_eq!(arrived, 3 * 256, "{frame_bytes} bytes, {buffers} buffers");
        }
    }
}
