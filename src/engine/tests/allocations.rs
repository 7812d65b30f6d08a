//! The path of a message allocates nothing: a million messages through ingest, transmit and ACK.
//!
//! What may allocate is what grows to its working size once, so there is a warm-up.

// Counting allocations takes a global allocator, and that trait is unsafe to implement.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use weir_engine::Port;
use weir_engine::{
    Engine, EngineConfig, Entry, Ingest, LaneId, LinkEpoch, OnSlow, Reach, Roster, Sink, VecMemory,
    Window,
};
use weir_protocol::frame;

const MESSAGES: usize = 1_000_000;
const PAYLOAD_BYTES: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;
const BUFFERS: u32 = 256;
const BUFFER_BYTES: u32 = 256 * 1024;
/// Measured: 0. The rest is for a collection that grows once more.
const ALLOCATIONS_MAX: u64 = 20;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to the system's allocator unchanged; counting itself does not allocate,
// because the thread-local is initialised by a constant and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` or `realloc` above, that is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn engine() -> Engine<VecMemory> {
    let config = EngineConfig {
        shard: 0,
        buffers: BUFFERS,
        buffer_bytes: BUFFER_BYTES,
        frame_bytes_max: frame::FRAME_BYTES_MAX_DEFAULT,
        unit_bytes_max: 0,
        window_bytes: 16 << 20,
        window_messages: 1 << 24,
        partial_bytes_max: 4 << 20,
        on_slow: OnSlow::Spill,
    };
    Engine::new(
        config,
        VecMemory::new(BUFFERS as usize, BUFFER_BYTES as usize),
    )
}

/// Two native analyzers, one in a reference dialect, one of those on another shard.
fn connect(engine: &mut Engine<VecMemory>) -> Vec<LaneId> {
    let epochs = [(0, 1), (0, 2), (0, 3), (1, 1)].map(|(home, link)| LinkEpoch::new(home, link));
    let reach = |index: u32, epoch| match index {
        0 | 1 => Reach::LinkPerShard,
        2 => Reach::SingleLink { home: 0, epoch },
        _ => Reach::SingleLink { home: 1, epoch },
    };
    let entries = (0..).zip(epochs).map(|(index, epoch)| Entry {
        analyzer: index,
        name: Arc::from(index.to_string()),
        weight: f64::from(index + 1),
        draining: false,
        pinned: false,
        ejected: false,
        sink: if index < 2 {
            Sink::Native
        } else {
            Sink::Compact
        },
        reach: reach(index, epoch),
    });
    let roster = Roster {
        epoch: 1,
        entries: entries.collect(),
    };
    let own_link = |entry: &Entry| Some((epochs[entry.analyzer as usize], Window::ANY));
    assert!(engine.apply_roster(&roster, own_link));
    epochs
        .map(|epoch| engine.lane_of(epoch).expect("it is up"))
        .to_vec()
}

/// A turn of the event loop: a chunk comes in, ranges go out, and what went out two turns ago is
/// released and ACKed.
fn turn(engine: &mut Engine<VecMemory>, chunk: &[u8], sent: &mut [[(u64, u64); 2]; 4], now: u64) {
    engine.reroute();
    assert_eq!(engine.ingest(0, chunk), Ingest::Taken);
    while let Some(lane) = engine.next_dirty() {
        let [older, newer] = &mut sent[lane.0 as usize];
        if older.0 > 0 {
            engine.acked(lane, older.0, now);
            engine.released(lane, older.1);
        }
        *older = std::mem::take(newer);
        while let Some(range) = engine.transmit(lane, now, true) {
            if newer.0 > 0 {
                engine.released(lane, newer.1);
            }
            *newer = (newer.0 + range.messages, range.segment);
        }
        engine.written(lane);
    }
    assert!(engine.balance().holds());
}

#[test]
fn messages_allocate_nothing() {
    let mut engine = engine();
    let lanes = connect(&mut engine);
    assert_eq!(lanes, (0..4).map(LaneId).collect::<Vec<_>>());
    engine.emitter_opened(0, &Port::emitters().into());
    // Five bytes of header, so that chunks cut frames anywhere.
    let frame = [
        &frame::encode_header(PAYLOAD_BYTES as u32, 1)[..],
        &[7; PAYLOAD_BYTES],
    ]
    .concat();
    let frames = CHUNK_BYTES / frame.len() + 2;
    let stream = frame.repeat(frames);
    let mut sent = [[(0, 0); 2]; 4];
    let (mut at, mut now) = (0, 0);
    let mut run_to = |engine: &mut Engine<VecMemory>, messages: u64| {
        while engine.balance().received < messages {
            turn(engine, &stream[at..at + CHUNK_BYTES], &mut sent, now);
            at = (at + CHUNK_BYTES) % frame.len();
            now += 500_000;
        }
    };
    run_to(&mut engine, 50_000);
    let before = allocations();
    run_to(&mut engine, 50_000 + MESSAGES as u64);
    let allocated = allocations() - before;
    println!("{allocated} allocations for {MESSAGES} messages");
    assert!(
        allocated <= ALLOCATIONS_MAX,
        "{allocated} allocations for {MESSAGES} messages"
    );
}
