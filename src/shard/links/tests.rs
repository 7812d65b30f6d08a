//! Links alone: no turn, no other part.

use super::*;
use crate::context::Context;
use crate::mesh::{ForwardedBatch, HandOver, Message};
use crate::port::Completion;
use crate::slab::untoken;
use crate::testing::{context, receives, Asked, FakeIo};
use weir_engine::Port;
use weir_engine::{BufferId, Change, Entry, Ingest, Reach, Reason, Roster, Span};
use weir_protocol::native;
use weir_sink::{encode_ack, Dialect, Sink};

/// A frame of severity 3 with one byte of payload.
const FRAME: [u8; 6] = [0, 0, 0, 6, 3, b'x'];

struct Rig {
    cx: Context<FakeIo>,
    links: Links<FakeIo>,
}

fn rig(shards: usize) -> Rig {
    let mut cx = context(shards, 64);
    cx.engine.emitter_opened(0, &Port::emitters().into());
    let links = Links::new(cx.engine.lanes_max(), 0, cx.now_ns);
    Rig { cx, links }
}

impl Rig {
    /// A compact analyzer whose handshake another shard has read; its link is up, and routed to.
    fn bring_up(&mut self, socket: u32) -> (LinkEpoch, Slot) {
        let hand_over = HandOver {
            socket,
            sink: Sink::Compact,
            name: "?".into(),
            instance: None,
            weight: 1.0,
            window: Window::ANY,
            unread: Vec::new(),
        };
        self.links.on_hand_over(&mut self.cx, hand_over);
        let posted = self.cx.mesh.posted(0);
        let [Message::Change(Change::Up {
            epoch, home, name, ..
        })] = &posted[..]
        else {
            panic!("{posted:?}");
        };
        let entry = Entry {
            analyzer: socket,
            name: Arc::clone(name),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Compact,
            reach: Reach::SingleLink {
                epoch: *epoch,
                home: *home,
            },
        };
        let roster = Roster {
            epoch: self.cx.engine.roster_epoch() + 1,
            entries: vec![entry],
        };
        assert!(self.cx.engine.apply_roster(&roster, |_| None));
        let slot = self.links.up[epoch];
        self.cx.io.take_asked();
        (*epoch, slot)
    }

    fn ingest(&mut self, messages: usize) {
        for _ in 0..messages {
            assert!(matches!(self.cx.engine.ingest(0, &FRAME), Ingest::Taken));
        }
    }

    fn send(&mut self) -> Vec<Asked> {
        while let Some(lane) = self.cx.engine.next_dirty() {
            assert_eq!(self.links.want_send(&mut self.cx, lane), None);
        }
        self.links.send(&mut self.cx);
        self.cx.io.take_asked()
    }

    fn sent(&mut self, slot: Slot, result: i32) {
        let completion = Completion::simulated(token(Kind::LinkSend, slot), result, false, false);
        self.links.on_send(&mut self.cx, slot, completion);
    }

    fn hears(&mut self, slot: Slot, bytes: &[u8]) {
        let completion = receives(token(Kind::LinkReceive, slot), bytes, &mut self.cx.io);
        let (_, slot) = untoken(completion.token);
        self.links.on_receive(&mut self.cx, slot, completion);
    }
}

fn ack(sequence: u64) -> Vec<u8> {
    encode_ack(Dialect::Compact, sequence).as_bytes().to_vec()
}

#[test]
fn acks_are_read_where_they_lie_and_paid_at_once() {
    let mut rig = rig(1);
    let (_, slot) = rig.bring_up(5);
    rig.ingest(3);
    assert_eq!(rig.send(), [Asked::Send(5, 3 * FRAME.len())]);
    rig.sent(slot, 3 * FRAME.len() as i32);
    assert_eq!(rig.cx.engine.counters.acked, 0);
    let two_in_one_read = [ack(1), ack(2)].concat();
    rig.hears(slot, &two_in_one_read);
    assert_eq!((rig.cx.engine.counters.acked, rig.cx.io.lent), (2, 0));
    rig.hears(slot, &ack(3));
    assert!(rig.cx.engine.balance().holds());
    assert_eq!(rig.cx.engine.balance().open(), 0);
    assert!(rig.cx.mesh.posted(0).is_empty(), "nothing for the roster");
    assert!(rig.cx.io.take_asked().is_empty());
}

#[test]
fn an_ack_of_what_was_never_sent_ends_the_link_and_its_messages_wait_for_others() {
    let mut rig = rig(2);
    let (epoch, slot) = rig.bring_up(5);
    rig.ingest(2);
    rig.send();
    rig.hears(slot, &ack(3));
    assert_eq!(rig.cx.engine.counters.of(Reason::AckBeyondSent), 1);
    assert_eq!(rig.cx.ended, [epoch], "the turn tells the engine");
    let posted = rig.cx.mesh.posted(0);
    let [Message::Change(Change::Down { epoch: down })] = posted[..] else {
        panic!("{posted:?}");
    };
    assert_eq!(down, epoch);
    let asked = rig.cx.io.take_asked();
    assert_eq!(asked, [Asked::DropUnsent(5), Asked::Shutdown(5)]);
    // The kernel has the send and the receive still: other shards' memory is not free before it has neither.
    assert!(rig.cx.mesh.posted(1).is_empty());
    rig.sent(slot, -libc::EPIPE);
    assert!(rig.cx.mesh.posted(1).is_empty());
    let ended = Completion::simulated(token(Kind::LinkReceive, slot), 0, false, false);
    rig.links.on_receive(&mut rig.cx, slot, ended);
    rig.links.see_to_ends(&mut rig.cx, 0);
    assert!(rig.cx.mesh.posted(1).is_empty(), "living ones go first");
    let at_ns = rig.cx.now_ns + 1;
    rig.cx.now_ns = at_ns;
    rig.links.see_to_ends(&mut rig.cx, 1);
    assert!(matches!(
        rig.cx.mesh.posted(1)[..],
        [Message::LinkDown { .. }]
    ));
    assert_eq!((rig.links.table.len(), rig.links.count()), (0, 0));
}

#[test]
fn other_shards_are_told_of_their_acks_alone() {
    let mut rig = rig(2);
    let (epoch, slot) = rig.bring_up(5);
    rig.ingest(1);
    let batch = ForwardedBatch {
        epoch,
        span: Span {
            buffer: BufferId(0),
            offset: 0,
            len: 12,
        },
        messages: 2,
        continues: false,
    };
    rig.links.on_forwarded(&mut rig.cx, 1, batch);
    let bytes = FRAME.len() + 12;
    assert_eq!(rig.send(), [Asked::Send(5, bytes)], "one send for both");
    rig.sent(slot, bytes as i32);
    rig.hears(slot, &ack(3));
    assert_eq!(rig.cx.engine.counters.acked, 1);
    let posted = rig.cx.mesh.posted(1);
    let [Message::Credit { messages, .. }] = posted[..] else {
        panic!("{posted:?}");
    };
    assert_eq!(messages, 2);
}

#[test]
fn the_rest_of_a_send_that_was_cut_short_goes_first() {
    let mut rig = rig(1);
    let (_, slot) = rig.bring_up(5);
    rig.ingest(1);
    rig.send();
    rig.ingest(1);
    assert_eq!(rig.send(), [], "one send at a time");
    rig.sent(slot, 2);
    let asked = rig.cx.io.take_asked();
    assert_eq!(asked, [Asked::Send(5, FRAME.len() - 2)]);
    assert!(rig.cx.hurry, "something waits behind it");
    rig.sent(slot, FRAME.len() as i32 - 2);
    assert_eq!(rig.send(), [Asked::Send(5, FRAME.len())]);
}

#[test]
fn what_waited_behind_a_send_goes_when_that_is_through_and_what_is_held_does_not() {
    let mut rig = rig(1);
    let (_, slot) = rig.bring_up(5);
    let len = FRAME.len();
    rig.ingest(1);
    rig.send();
    rig.ingest(1);
    assert_eq!(rig.send(), [], "one send at a time");
    rig.sent(slot, len as i32);
    rig.links.send(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Send(5, len)]);
    // Its lane is not due yet: it may get more.
    rig.ingest(1);
    rig.sent(slot, len as i32);
    rig.links.send(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), []);
    rig.ingest(1);
    assert_eq!(rig.send(), [Asked::Send(5, 2 * len)]);
}

#[test]
fn an_analyzer_that_does_not_read_is_closed() {
    let mut rig = rig(1);
    let (epoch, slot) = rig.bring_up(5);
    rig.ingest(1);
    rig.send();
    rig.sent(slot, FRAME.len() as i32);
    rig.cx.io.unread.insert(5, FRAME.len());
    assert!(rig.links.check_stalls(&mut rig.cx));
    assert_eq!(rig.links.unread_bytes(), FRAME.len() as u64);
    assert!(rig.cx.ended.is_empty());
    for _ in 0..20 {
        rig.cx.awake_ns += 1_000_000_000;
        rig.links.check_stalls(&mut rig.cx);
    }
    assert_eq!(rig.cx.ended, [epoch]);
    assert_eq!(rig.cx.engine.counters.of(Reason::AckStalled), 1);
}

/// Bytes outside the batches go only to those who read them as words.
#[test]
fn who_has_an_ear_is_told_and_nobody_else() {
    for sink in [Sink::Typed, Sink::Compact, Sink::Native] {
        let mut rig = rig(1);
        let hand_over = HandOver {
            socket: 5,
            sink,
            name: "a".into(),
            instance: Some(1),
            weight: 1.0,
            window: Window::ANY,
            unread: Vec::new(),
        };
        rig.links.on_hand_over(&mut rig.cx, hand_over);
        let posted = rig.cx.mesh.posted(0);
        let [Message::Change(Change::Up { sink: up, .. })] = &posted[..] else {
            panic!("{posted:?}");
        };
        assert_eq!(*up, sink);
        let slot = rig.links.table.slots()[0];
        let told = |rig: &mut Rig| {
            let asked = rig.cx.io.take_asked().into_iter();
            let words = asked.filter_map(|asked| match asked {
                Asked::SendNow(5, bytes) => Some(bytes),
                _ => None,
            });
            words.collect::<Vec<_>>()
        };
        let is_native = sink == Sink::Native;
        assert_eq!(told(&mut rig).len(), usize::from(is_native), "{sink}");
        rig.links.ask_for_acks(&mut rig.cx);
        rig.links.ask_for_acks(&mut rig.cx);
        rig.links.say_goodbye(&mut rig.cx);
        let words = [native::DRAIN.to_vec(), native::GOODBYE.to_vec()];
        let expected = if is_native { &words[..] } else { &[] };
        assert_eq!(told(&mut rig), expected, "{sink}");
        let reason = Reason::TooManyAnalyzers;
        rig.links.refuse(&mut rig.cx, slot, sink, "full", reason);
        assert_eq!(told(&mut rig).len(), usize::from(is_native), "{sink}");
    }
}
