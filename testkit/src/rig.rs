//! Plays everything around an engine: emitters, the kernel that sends out of its buffers, analyzers
//! that decode what they get. Every step is checked against what the engine promises.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use weir_engine::Port;
use weir_engine::{
    Engine, EngineConfig, Entry, Ingest, LaneId, LinkEpoch, Memory, OnSlow, Reach, Roster, Sink,
    Span, Transmit, VecMemory, Window,
};

use crate::decode::Identity;
use crate::numbered::{self, number_of};
use crate::wire::FRAME_HEADER_BYTES;

mod checks;
mod reader;

pub use reader::{Got, Reader};

/// The shard that the engine plays.
pub const SHARD: u16 = 3;
/// Bytes of a buffer in [`config`].
pub const BUFFER_BYTES: u32 = 4096;

/// A numbered frame of `frame_bytes` bytes in all.
pub fn numbered(id: u64, frame_bytes: usize) -> Vec<u8> {
    numbered::numbered(id, frame_bytes - FRAME_HEADER_BYTES)
}

/// An engine small enough to be filled by a test.
pub fn config(buffers: u32, frame_bytes_max: u32) -> EngineConfig {
    EngineConfig {
        shard: SHARD,
        buffers,
        buffer_bytes: BUFFER_BYTES,
        frame_bytes_max,
        unit_bytes_max: 0,
        window_bytes: u64::MAX,
        window_messages: u64::MAX,
        partial_bytes_max: 1 << 20,
        on_slow: OnSlow::Spill,
    }
}

/// A range in the kernel's hands, as it was when it was given out.
struct Lent {
    segment: u64,
    span: Span,
    bytes: Vec<u8>,
}

/// An analyzer's link as the outside sees it.
pub struct Peer {
    /// Names the link.
    pub epoch: LinkEpoch,
    /// It is native; else of a reference dialect.
    pub native: bool,
    /// Shard that its socket belongs to.
    pub home: u16,
    /// Its weight, in force after the next [`Rig::publish`].
    pub weight: f64,
    /// It has not died.
    pub up: bool,
    /// Its lane in the engine.
    pub lane: LaneId,
    /// Decoded and not ACKed.
    pub unacked: VecDeque<Vec<u8>>,
    /// Messages decoded.
    pub received: u64,
    /// Highest number per emitter among messages that were never on another link.
    newest: BTreeMap<u64, u64>,
    reader: Reader,
    /// Ranges to release.
    held: Vec<Lent>,
    /// Ranges without a release: unchanged until the ACK of the message at which they end.
    borrowed: VecDeque<(u64, Lent)>,
    acked: u64,
    /// `next_dirty` named it and `transmit` has not yet said that nothing is left.
    pub ready: bool,
    continues: bool,
    window_messages: u64,
}

/// An emitter's connection: bytes that the engine has not taken yet.
#[derive(Default)]
pub struct Source {
    /// Written and not taken.
    pub unsent: Vec<u8>,
    taken: u64,
    written: u64,
    /// Frames by the place in the stream where they end.
    frames: VecDeque<(u64, Vec<u8>)>,
}

/// An engine and what is around it.
pub struct Rig {
    /// What is tested.
    pub engine: Engine<VecMemory>,
    /// Its settings.
    pub config: EngineConfig,
    /// Links, the dead ones too.
    pub peers: Vec<Peer>,
    /// Emitters.
    pub sources: Vec<Source>,
    /// The time that it is told.
    pub now_ns: u64,
    /// Messages taken in.
    pub received: u64,
    /// Messages ACKed.
    pub acked: u64,
    /// Links that died.
    pub deaths: u64,
    roster_epoch: u64,
    links: u64,
    /// Taken in and not ACKed, by content.
    open: BTreeMap<Vec<u8>, u64>,
    /// What each identity is, as far as it was seen on native links.
    identities: BTreeMap<Identity, Vec<u8>>,
    reports_due: BTreeMap<LinkEpoch, u64>,
}

impl Rig {
    /// An engine without links and emitters.
    pub fn new(config: EngineConfig) -> Rig {
        let memory = VecMemory::new(config.buffers as usize, config.buffer_bytes as usize);
        Rig {
            engine: Engine::new(config, memory),
            config,
            peers: Vec::new(),
            sources: Vec::new(),
            now_ns: 1,
            received: 0,
            acked: 0,
            deaths: 0,
            roster_epoch: 0,
            links: 0,
            open: BTreeMap::new(),
            identities: BTreeMap::new(),
            reports_due: BTreeMap::new(),
        }
    }

    // Analyzers -------------------------------------------------------------------------------

    /// A new link; returns its index.
    pub fn connect(&mut self, native: bool, home: u16, weight: f64, window_messages: u64) -> usize {
        self.links += 1;
        self.peers.push(Peer {
            epoch: LinkEpoch::new(home, self.links),
            native,
            home,
            weight,
            up: true,
            lane: LaneId(u32::MAX),
            unacked: VecDeque::new(),
            received: 0,
            newest: BTreeMap::new(),
            reader: Reader::new(native),
            held: Vec::new(),
            borrowed: VecDeque::new(),
            acked: 0,
            ready: false,
            continues: false,
            window_messages,
        });
        self.publish();
        let peer = self.peers.len() - 1;
        let lane = self.engine.lane_of(self.peers[peer].epoch);
        self.peers[peer].lane = lane.expect("a link that is up has a lane");
        peer
    }

    /// Native, own, without a window of its own.
    pub fn connect_native(&mut self, weight: f64) -> usize {
        self.connect(true, SHARD, weight, u64::MAX)
    }

    /// In a reference dialect, own.
    pub fn connect_plain(&mut self, weight: f64) -> usize {
        self.connect(false, SHARD, weight, u64::MAX)
    }

    /// Makes the present weights known to the engine.
    pub fn publish(&mut self) {
        let roster = self.roster();
        let peers = &self.peers;
        let own_link = |entry: &Entry| {
            let peer = &peers[entry.analyzer as usize];
            let window = Window {
                described: false,
                messages: peer.window_messages,
                ..Window::ANY
            };
            Some((peer.epoch, window))
        };
        assert!(self.engine.apply_roster(&roster, own_link));
        assert!(
            !self.engine.apply_roster(&roster, own_link),
            "the same table again"
        );
        self.check();
    }

    /// The present weights, and another analyzer on a link that this rig does not play.
    pub fn announce_surplus(&mut self, epoch: LinkEpoch) {
        let mut roster = self.roster();
        let reach = Reach::SingleLink { home: SHARD, epoch };
        roster.entries.push(entry(u32::MAX, 1.0, reach));
        assert!(self.engine.apply_roster(&roster, |_| None));
    }

    fn roster(&mut self) -> Roster {
        self.roster_epoch += 1;
        let up = self.peers.iter().enumerate().filter(|(_, peer)| peer.up);
        let entries = up.map(|(index, peer)| {
            let reach = match peer.native {
                true => Reach::LinkPerShard,
                false => Reach::SingleLink {
                    home: peer.home,
                    epoch: peer.epoch,
                },
            };
            entry(index as u32, peer.weight, reach)
        });
        Roster {
            epoch: self.roster_epoch,
            entries: entries.collect(),
        }
    }

    /// The link dies: what the analyzer has not ACKed is the engine's again.
    pub fn kill(&mut self, peer: usize) {
        let epoch = self.peers[peer].epoch;
        let report = self
            .engine
            .lane_reports()
            .find(|lane| lane.epoch == epoch && !lane.down);
        let report = report.expect("a link that is up has a lane");
        let open = report.in_flight + report.queued;
        if open > 0 {
            self.reports_due.insert(epoch, open);
        }
        let dead = &mut self.peers[peer];
        dead.up = false;
        dead.ready = false;
        dead.unacked.clear();
        dead.borrowed.clear();
        self.deaths += 1;
        self.engine.link_down(epoch, self.now_ns);
        assert_eq!(self.engine.lane_of(epoch), None);
        self.check();
    }

    /// A random or scripted moment in which the engine says what is to be sent.
    pub fn collect_dirty(&mut self) {
        let mut seen = BTreeSet::new();
        while let Some(lane) = self.engine.next_dirty() {
            assert!(seen.insert(lane), "a lane is dirty once");
            let (_, epoch) = self.engine.destination(lane);
            if let Some(peer) = self
                .peers
                .iter_mut()
                .find(|peer| peer.up && peer.epoch == epoch)
            {
                peer.ready = true;
            }
        }
    }

    /// One range onto the wire of a link; what it decodes. `None`: nothing left to send.
    pub fn transmit(&mut self, peer: usize, hold: bool) -> Option<Vec<Got>> {
        let lane = self.peers[peer].lane;
        let is_its = self.engine.destination(lane).1 == self.peers[peer].epoch;
        if !self.peers[peer].up {
            if is_its {
                assert_eq!(
                    self.engine.transmit(lane, self.now_ns, hold),
                    None,
                    "it is down"
                );
            }
            return None;
        }
        assert!(is_its, "a lane in use feeds its own link");
        let range = self.engine.transmit(lane, self.now_ns, hold);
        self.peers[peer].ready = range.is_some();
        let Some(range) = range else {
            assert!(
                !self.engine.has_unsent(lane),
                "nothing to send, so nothing is unsent"
            );
            assert!(
                !self.peers[peer].continues,
                "a split message goes on at once"
            );
            self.check();
            return None;
        };
        let got = self.receive(peer, range, hold);
        self.check();
        Some(got)
    }

    fn receive(&mut self, index: usize, range: Transmit, hold: bool) -> Vec<Got> {
        let bytes = self.engine.memory().read(range.span).to_vec();
        assert!(!bytes.is_empty());
        let peer = &mut self.peers[index];
        let got = peer.reader.feed(&bytes);
        assert_eq!(
            got.len() as u64,
            range.messages,
            "messages that end in the range"
        );
        assert_eq!(
            !peer.reader.bytes.is_empty(),
            range.continues,
            "split, and said so"
        );
        peer.continues = range.continues;
        peer.received += range.messages;
        let lent = Lent {
            segment: range.segment,
            span: range.span,
            bytes,
        };
        if hold {
            peer.held.push(lent);
        } else {
            let through = peer.received + u64::from(range.continues);
            peer.borrowed.push_back((through, lent));
        }
        for message in &got {
            self.check_message(index, message);
            self.peers[index].unacked.push_back(message.frame.clone());
        }
        got
    }

    fn check_message(&mut self, index: usize, message: &Got) {
        assert!(
            self.open.contains_key(&message.frame),
            "sent what is not open"
        );
        if let Some(identity) = message.identity {
            let own = self.peers[index].epoch.0 == identity.epoch;
            assert_eq!(
                own, !message.redelivered,
                "own messages are fresh, others are not"
            );
            let known = self
                .identities
                .entry(identity)
                .or_insert_with(|| message.frame.clone());
            assert_eq!(*known, message.frame, "an identity names one message");
        }
        let fresh = self.deaths == 0 || message.identity.is_some() && !message.redelivered;
        if let (true, Some(number)) = (fresh, number_of(&message.frame)) {
            let newest = self.peers[index].newest.entry(number >> 48).or_default();
            assert!(number > *newest, "out of order within a link");
            *newest = number;
        }
    }

    /// The kernel lets go of one of a link's ranges; `again`: it had taken only part of it.
    pub fn release(&mut self, peer: usize, which: usize, again: bool) {
        let lane = self.peers[peer].lane;
        let lent = &self.peers[peer].held[which];
        assert_eq!(
            self.engine.memory().read(lent.span),
            &lent.bytes[..],
            "changed under the kernel's hands"
        );
        let segment = lent.segment;
        if again && self.peers[peer].up {
            self.engine.held_again(lane, segment);
        } else {
            self.peers[peer].held.swap_remove(which);
        }
        self.engine.released(lane, segment);
        self.check();
    }

    /// The kernel lets go of all of a link's ranges.
    pub fn release_all(&mut self, peer: usize) {
        while !self.peers[peer].held.is_empty() {
            self.release(peer, 0, false);
        }
    }

    /// Ranges of a link that the kernel has.
    pub fn held(&self, peer: usize) -> usize {
        self.peers[peer].held.len()
    }

    /// The analyzer ACKs its next `messages` messages.
    pub fn ack(&mut self, index: usize, messages: u64) {
        let peer = &mut self.peers[index];
        let through = peer.acked + messages;
        while let Some((_, lent)) = pop_through(&mut peer.borrowed, through) {
            let now = self.engine.memory().read(lent.span);
            assert_eq!(now, &lent.bytes[..], "changed before its ACK");
        }
        peer.acked = through;
        for frame in peer.unacked.drain(..messages as usize) {
            let count = self.open.get_mut(&frame).expect("it is open");
            *count -= 1;
            if *count == 0 {
                self.open.remove(&frame);
            }
        }
        self.acked += messages;
        self.now_ns += 1000;
        self.engine
            .acked(self.peers[index].lane, messages, self.now_ns);
        self.check();
    }

    /// The analyzer ACKs all that it has.
    pub fn ack_all(&mut self, peer: usize) {
        let messages = self.peers[peer].unacked.len() as u64;
        if self.peers[peer].up && messages > 0 {
            self.ack(peer, messages);
        }
    }

    /// Whatever a link has to send goes out at once; what it decodes.
    pub fn transmit_all(&mut self, peer: usize, hold: bool) -> Vec<Got> {
        let mut all = Vec::new();
        while let Some(got) = self.transmit(peer, hold) {
            all.extend(got);
        }
        if self.peers[peer].up {
            self.engine.written(self.peers[peer].lane);
        }
        all
    }

    // Emitters --------------------------------------------------------------------------------

    /// A new emitter; returns its index.
    pub fn emitter(&mut self) -> usize {
        self.sources.push(Source::default());
        self.engine
            .emitter_opened(self.sources.len() - 1, &Port::emitters().into());
        self.sources.len() - 1
    }

    /// The emitter writes a frame; the engine has not seen it yet.
    pub fn write(&mut self, source: usize, frame: Vec<u8>) {
        let source = &mut self.sources[source];
        source.unsent.extend_from_slice(&frame);
        source.written += frame.len() as u64;
        source.frames.push_back((source.written, frame));
    }

    /// Offers the next bytes of an emitter; the number taken.
    pub fn offer(&mut self, source: usize, bytes: usize) -> usize {
        let chunk = &self.sources[source].unsent;
        let chunk = &chunk[..bytes.min(chunk.len())];
        if chunk.is_empty() {
            return 0;
        }
        let taken = match self.engine.ingest(source, chunk) {
            Ingest::Taken => chunk.len(),
            Ingest::Stalled { taken } => {
                assert!(
                    taken < chunk.len(),
                    "stalled, and nothing is left to offer again"
                );
                taken
            }
            other => panic!("{other:?} for a valid stream"),
        };
        let source = &mut self.sources[source];
        source.unsent.drain(..taken);
        source.taken += taken as u64;
        while let Some((_, frame)) = pop_through(&mut source.frames, source.taken) {
            self.received += 1;
            *self.open.entry(frame).or_default() += 1;
        }
        self.check();
        taken
    }

    /// Writes a frame and offers it whole; true when it was taken.
    pub fn send(&mut self, source: usize, frame: Vec<u8>) -> bool {
        self.write(source, frame);
        self.offer(source, usize::MAX);
        self.sources[source].unsent.is_empty()
    }

    /// The connection ends, perhaps within a frame, and its index is used again.
    pub fn reopen(&mut self, source: usize) {
        self.engine.emitter_closed(source);
        self.engine.emitter_opened(source, &Port::emitters().into());
        self.sources[source] = Source::default();
        self.check();
    }
}

/// Analyzers in a reference dialect with links of `home`, and their links.
pub fn plain_roster(home: u16, weights: &[f64]) -> (Roster, Vec<LinkEpoch>) {
    let epochs: Vec<_> = (1..)
        .zip(weights)
        .map(|(link, _)| LinkEpoch::new(home, link))
        .collect();
    let entries = (0..)
        .zip(weights)
        .zip(&epochs)
        .map(|((analyzer, weight), epoch)| {
            let reach = Reach::SingleLink {
                home,
                epoch: *epoch,
            };
            entry(analyzer, *weight, reach)
        });
    let roster = Roster {
        epoch: 1,
        entries: entries.collect(),
    };
    (roster, epochs)
}

/// The front of a queue, if its number is at most `through`.
fn pop_through<T>(queue: &mut VecDeque<(u64, T)>, through: u64) -> Option<(u64, T)> {
    queue.front().filter(|(number, _)| *number <= through)?;
    queue.pop_front()
}

fn entry(analyzer: u32, weight: f64, reach: Reach) -> Entry {
    Entry {
        analyzer,
        name: Arc::from(analyzer.to_string()),
        weight,
        draining: false,
        pinned: false,
        ejected: false,
        sink: match reach {
            Reach::LinkPerShard => Sink::Native,
            Reach::SingleLink { .. } => Sink::Compact,
            Reach::Http { .. } => Sink::Http,
        },
        reach,
    }
}
