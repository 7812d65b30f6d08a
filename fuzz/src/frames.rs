//! Emitters' streams through `Engine::ingest`: in any split, with any stalls, of several emitters in
//! turn, the frames that come out are those of the streams, byte for byte and in order; a stream that
//! cannot be followed ends with its error, at the offset where the bad frame starts.
//!
//! Input: u8 largest frame, u8 split of the arena and of the window, u8 emitters, u8 memory for partial
//! frames, u16 split, streams (equal parts of what is left).

use std::sync::Arc;

use weir::engine::{
    Engine, EngineConfig, Entry, Ingest, LaneId, LinkEpoch, Memory, OnSlow, Reach, Reason, Roster,
    Sink, VecMemory,
};
use weir::engine::{Port, Protocol, SourceError};
use weir::protocol::frame::FrameError;
use weir::source::Protocols;
use weir_testkit::Random;

use super::input::{pieces, Input};

const BUFFER_BYTES: u32 = 4096;
/// What its emitters speak.
fn frames() -> Arc<Port> {
    Arc::new(Port::new(Protocols::of(&[Protocol::Frames])))
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let frame_max = input.pick(&[300, 5, 16, 3000, 4096, 9000, 20_000]);
    let spare = input.below(8);
    let emitters = 1 + input.below(3);
    let partial_max = input.pick(&[usize::MAX, usize::MAX, 20, 300]);
    let seed = input.u16();
    let bytes = input.rest();
    let part = bytes.len().div_ceil(emitters).max(1);
    let streams: Vec<_> = bytes.chunks(part).collect();
    let whole: Vec<_> = streams.iter().map(|stream| vec![*stream]).collect();
    // A receive of nothing is the end of a stream, so nothing is never offered.
    let received = |stream| {
        let mut pieces = pieces(stream, seed);
        pieces.retain(|piece| !piece.is_empty());
        pieces
    };
    let split: Vec<_> = streams.iter().copied().map(received).collect();
    for feed in [whole, split] {
        let mut bench = Bench::new(frame_max, spare, partial_max, &feed);
        bench.play(&feed, seed);
    }
}

/// One emitter: its place in its stream, and the straightforward reading of the same stream.
#[derive(Default)]
struct Source {
    piece: usize,
    at: usize,
    ended: bool,
    /// Bytes taken that are of no whole frame yet, and where they start.
    held: Vec<u8>,
    offset: u64,
}

struct Bench {
    engine: Engine<VecMemory>,
    lane: LaneId,
    frame_max: u32,
    partial_max: usize,
    sources: Vec<Source>,
    /// All frames taken in, in order.
    expected: Vec<u8>,
    frames: u64,
    sent: Vec<u8>,
    /// Errors by label, as the engine counts them.
    errors: [u64; 3],
    /// Offers so far: the time by which partial frames age.
    time_ns: u64,
}

impl Bench {
    fn new(frame_max: u32, spare: usize, partial_max: usize, feed: &[Vec<&[u8]>]) -> Bench {
        let least = 4 * (frame_max + 40).div_ceil(BUFFER_BYTES) + 8;
        let buffers = least + spare as u32;
        let config = EngineConfig {
            shard: 0,
            buffers,
            buffer_bytes: BUFFER_BYTES,
            frame_bytes_max: frame_max,
            unit_bytes_max: 0,
            window_bytes: u64::MAX,
            window_messages: [u64::MAX, 1, 7, 100][spare % 4],
            partial_bytes_max: partial_max,
            on_slow: OnSlow::Spill,
        };
        let memory = VecMemory::new(buffers as usize, BUFFER_BYTES as usize);
        let mut engine = Engine::new(config, memory);
        let epoch = LinkEpoch::new(0, 1);
        let entry = Entry {
            analyzer: 0,
            name: Arc::from("a"),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Compact,
            reach: Reach::SingleLink { home: 0, epoch },
        };
        let roster = Roster {
            epoch: 1,
            entries: vec![entry],
        };
        assert!(engine.apply_roster(&roster, |_| None));
        (0..feed.len()).for_each(|emitter| engine.emitter_opened(emitter, &frames()));
        let lane = engine.lane_of(epoch).expect("it is up");
        Bench {
            engine,
            lane,
            frame_max,
            partial_max,
            sources: feed.iter().map(|_| Source::default()).collect(),
            expected: Vec::new(),
            frames: 0,
            sent: Vec::new(),
            errors: [0; 3],
            time_ns: 0,
        }
    }

    /// Offers all pieces, emitters in an order of their own, and ACKs now and then.
    fn play(&mut self, feed: &[Vec<&[u8]>], seed: u16) {
        let mut random = Random::new(u64::from(seed) + 1);
        let mut stalls_in_a_row = 0;
        while self
            .sources
            .iter()
            .zip(feed)
            .any(|(s, feed)| !s.ended && s.piece < feed.len())
        {
            let emitter = random.below(feed.len());
            let source = &self.sources[emitter];
            if source.ended || source.piece == feed[emitter].len() {
                continue;
            }
            let rest = &feed[emitter][source.piece][source.at..];
            if self.offer(emitter, rest) {
                stalls_in_a_row = 0;
            } else {
                stalls_in_a_row += 1;
                assert!(stalls_in_a_row < 3, "all is ACKed, and still it stalls");
                self.deliver();
            }
            if random.below(4) == 0 {
                self.deliver();
            }
        }
        self.deliver();
        assert!(
            self.sent == self.expected,
            "the frames that were taken, in their order"
        );
        self.close();
    }

    /// False: nothing was taken.
    fn offer(&mut self, emitter: usize, rest: &[u8]) -> bool {
        self.time_ns += 1;
        self.engine.set_frames_time(self.time_ns);
        let outcome = self.engine.ingest(emitter, rest);
        let taken = match outcome {
            Ingest::Stalled { taken } => taken,
            _ => rest.len(),
        };
        assert!(taken <= rest.len());
        let source = &mut self.sources[emitter];
        source.at += taken;
        if !matches!(outcome, Ingest::Stalled { .. }) {
            (source.piece, source.at) = (source.piece + 1, 0);
        } else {
            assert!(
                taken < rest.len(),
                "stalled, and nothing is left to offer again"
            );
        }
        let full = outcome == Ingest::PartialMemoryFull;
        let bad = self.follow(emitter, &rest[..taken], full);
        match outcome {
            Ingest::BadStream { error, offset, .. } => {
                let SourceError::Frame(error) = error else {
                    panic!("frames are all that is spoken: {error}");
                };
                assert_eq!(bad, Some((error, offset)));
                let long = matches!(error, FrameError::TooLong { .. });
                self.end(emitter, usize::from(long));
            }
            Ingest::PartialMemoryFull => {
                assert!(self.partial_max < self.frame_max as usize * self.sources.len());
                self.end(emitter, 2);
            }
            Ingest::Ended { .. } | Ingest::Held { .. } => {
                panic!("frames have no end, and go one by one")
            }
            Ingest::Taken | Ingest::Stalled { .. } => assert_eq!(bad, None),
        }
        while let Some(evicted) = self.engine.next_evicted() {
            assert!(self.partial_max < self.frame_max as usize * self.sources.len());
            assert_ne!(
                evicted.emitter, emitter,
                "who wants room gets it from others"
            );
            self.end(evicted.emitter, 2);
        }
        assert_eq!(self.engine.counters.received, self.frames);
        taken > 0 || !matches!(outcome, Ingest::Stalled { .. })
    }

    /// The model: appends what was taken and cuts whole frames off. When the memory for partial frames
    /// was full, as many as the engine counted: a frame that needed some was not taken.
    fn follow(&mut self, emitter: usize, taken: &[u8], full: bool) -> Option<(FrameError, u64)> {
        let source = &mut self.sources[emitter];
        source.held.extend_from_slice(taken);
        while let [a, b, c, d, ..] = source.held[..] {
            if full && self.frames == self.engine.counters.received {
                break;
            }
            let length = u32::from_be_bytes([a, b, c, d]);
            let max = self.frame_max;
            if length < 5 {
                return Some((FrameError::TooShort { length }, source.offset));
            }
            if length > max {
                return Some((FrameError::TooLong { length, max }, source.offset));
            }
            if source.held.len() < length as usize {
                break;
            }
            self.expected.extend(source.held.drain(..length as usize));
            source.offset += u64::from(length);
            self.frames += 1;
        }
        None
    }

    fn end(&mut self, emitter: usize, error: usize) {
        self.sources[emitter].ended = true;
        self.sources[emitter].held.clear();
        self.errors[error] += 1;
        self.engine.emitter_closed(emitter);
        self.engine.emitter_opened(emitter, &frames());
    }

    /// All that is queued is sent and ACKed.
    fn deliver(&mut self) {
        while let Some(range) = self.engine.transmit(self.lane, 0, false) {
            self.sent
                .extend_from_slice(self.engine.memory().read(range.span));
            self.engine.acked(self.lane, range.messages, 1);
        }
        self.engine.written(self.lane);
        let balance = self.engine.balance();
        assert!(balance.holds() && balance.open() == 0, "{balance}");
    }

    /// Emitters go; a frame that was left unfinished is counted once.
    fn close(&mut self) {
        let unfinished = self.sources.iter().filter(|source| !source.held.is_empty());
        let cut_off = unfinished.count() as u64;
        (0..self.sources.len()).for_each(|emitter| self.engine.emitter_closed(emitter));
        let reasons = [
            Reason::FrameTooShort,
            Reason::FrameTooLong,
            Reason::PartialMemoryFull,
        ];
        let counted = reasons.map(|reason| self.engine.counters.of(reason));
        assert_eq!(counted, self.errors);
        assert_eq!(self.engine.counters.of(Reason::FrameCutOff), cut_off);
        let (free, _, total) = self.engine.buffers();
        assert_eq!(free, total, "every buffer is free again");
    }
}
