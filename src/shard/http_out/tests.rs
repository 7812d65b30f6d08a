//! Analyzers over HTTP alone: from the lane to a POST, and its answer back.

use super::*;
use crate::context::Context;
use crate::mesh::Message;
use crate::port::Completion;
use crate::slab::{token, Kind};
use crate::testing::{context, receives, Asked, FakeIo};
use crate::Operator;
use weir_engine::Port;
use weir_engine::{Change, Entry, Ingest, Reach, Roster, Sink, Window};

/// A frame of severity 3 with one byte of payload.
const FRAME: [u8; 6] = [0, 0, 0, 6, 3, b'x'];

struct Rig {
    cx: Context<FakeIo>,
    posts: HttpEgress<FakeIo>,
    link: LinkEpoch,
}

/// One analyzer, one message for it, and a connection under way.
fn rig() -> (Rig, Slot) {
    rig_of(Sink::Http)
}

/// The same with an analyzer of another kind.
fn rig_of(sink: Sink) -> (Rig, Slot) {
    let mut cx = context(1, 64);
    cx.engine.emitter_opened(0, &Port::emitters().into());
    let mut posts = HttpEgress::new(1, 7);
    let target = HttpTarget {
        name: "a".into(),
        at: crate::At::Address(([127, 0, 0, 1], 80).into()),
        host: "localhost".to_owned(),
        path: String::new(),
        sink,
        outlet: Arc::default(),
        forms: false,
        request: Arc::default(),
        secured: None,
    };
    let generation = Operator::new(Arc::clone(&cx.shared)).announce(target);
    let entry = Entry {
        analyzer: 1,
        name: "a".into(),
        weight: 1.0,
        draining: false,
        pinned: false,
        ejected: false,
        sink,
        reach: Reach::Http { generation },
    };
    let roster = Roster {
        epoch: 1,
        entries: vec![entry],
    };
    posts.open_links(&mut cx, &roster);
    let link = posts.link_of(generation).expect("a link");
    let applied = cx
        .engine
        .apply_roster(&roster, |_| Some((link, Window::ANY)));
    assert!(applied);
    assert!(matches!(cx.engine.ingest(0, &FRAME), Ingest::Taken));
    posts.want_send(link);
    posts.send(&mut cx);
    let asked = cx.io.take_asked();
    assert!(matches!(asked[..], [Asked::Connect(_)]), "{asked:?}");
    let slot = posts.connections.slots()[0];
    (Rig { cx, posts, link }, slot)
}

impl Rig {
    fn connected(&mut self, slot: Slot, result: i32) {
        let token = token(Kind::PostConnect, slot);
        let completion = Completion::simulated(token, result, false, false);
        self.posts.on_connected(&mut self.cx, slot, completion);
    }

    /// What is sent, all of which the kernel takes.
    fn request(&mut self, slot: Slot) -> Vec<u8> {
        let sent = self.cx.io.take_asked().into_iter();
        let mut sent = sent.filter_map(|asked| match asked {
            Asked::SendBytes(_, bytes) => Some(bytes),
            _ => None,
        });
        let request = sent.next().expect("a request");
        let len = i32::try_from(request.len()).expect("short");
        let token = token(Kind::PostSend, slot);
        let completion = Completion::simulated(token, len, false, false);
        self.posts.on_sent(&mut self.cx, slot, completion);
        request
    }

    fn answers(&mut self, slot: Slot, status: &str) {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let token = token(Kind::PostReceive, slot);
        let completion = receives(token, answer.as_bytes(), &mut self.cx.io);
        self.posts.on_receive(&mut self.cx, slot, completion);
        assert_eq!(self.cx.io.lent, 0);
    }
}

#[test]
fn a_post_that_is_taken_is_an_ack() {
    let (mut rig, slot) = rig();
    rig.connected(slot, 0);
    let request = rig.request(slot);
    assert!(request.starts_with(b"POST /logs HTTP/1.1\r\nHost: localhost\r\n"));
    assert_eq!(rig.cx.engine.counters.acked, 0);
    rig.answers(slot, "200 OK");
    assert_eq!(rig.cx.engine.counters.acked, 1);
    assert!(rig.cx.engine.balance().holds());
    let reports = rig.posts.reports();
    assert_eq!((reports[0].posts, reports[0].acked), (1, 1));
    assert_eq!((reports[0].connections, reports[0].in_flight), (1, 0));
}

#[test]
fn what_has_not_left_cannot_have_been_taken() {
    for (sent, acked, failures) in [
        (Some(-libc::ECONNRESET), 0, 1),
        (Some(10), 0, 1),
        (None, 1, 0),
    ] {
        let (mut rig, slot) = rig();
        rig.connected(slot, 0);
        let request = rig
            .cx
            .io
            .take_asked()
            .into_iter()
            .find_map(|asked| match asked {
                Asked::SendBytes(_, bytes) => Some(bytes),
                _ => None,
            });
        let whole = request.expect("a request").len() as i32;
        rig.answers(slot, "200 OK");
        assert_eq!(rig.cx.engine.counters.acked, 0, "it is on its way");
        let token = token(Kind::PostSend, slot);
        let completion = Completion::simulated(token, sent.unwrap_or(whole), false, false);
        rig.posts.on_sent(&mut rig.cx, slot, completion);
        assert_eq!(rig.cx.engine.counters.acked, acked, "{sent:?} of {whole}");
        assert_eq!(rig.posts.reports()[0].failures, failures);
    }
}

#[test]
fn a_post_that_fails_is_sent_again_after_a_pause() {
    let (mut rig, slot) = rig();
    rig.connected(slot, 0);
    let first = rig.request(slot);
    rig.answers(slot, "500 Oh");
    rig.posts.send(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [], "not at once");
    rig.cx.awake_ns += 60_000_000_000;
    rig.posts.want_send(rig.link);
    rig.posts.send(&mut rig.cx);
    assert_eq!(rig.request(slot), first);
    rig.answers(slot, "204 No Content");
    assert_eq!(rig.cx.engine.counters.acked, 1);
    assert_eq!(rig.posts.reports()[0].failures, 1);
}

#[test]
fn a_request_that_is_made_again_says_the_same() {
    let (mut rig, slot) = rig_of(Sink::Otlp);
    rig.connected(slot, 0);
    let first = rig.request(slot);
    let post = &rig.posts.links[&rig.link].posts[&1];
    assert!(post.request.is_empty(), "nothing is kept of what was sent");
    rig.answers(slot, "500 Oh");
    let later_ns = rig.cx.awake_ns + 60_000_000_000;
    rig.cx.awake_ns = later_ns;
    rig.cx.io.now_ns.set(later_ns);
    rig.posts.want_send(rig.link);
    rig.posts.send(&mut rig.cx);
    assert_eq!(rig.request(slot), first, "its time included");
    rig.answers(slot, "200 OK");
    assert_eq!(rig.cx.engine.counters.acked, 1);
    assert!(rig.cx.engine.balance().holds());
}

#[test]
fn where_nobody_listens_the_analyzer_is_down_for_all_shards() {
    let (mut rig, slot) = rig();
    rig.connected(slot, -libc::ECONNREFUSED);
    assert_eq!(rig.cx.ended, [rig.link], "the turn tells the engine");
    let posted = rig.cx.mesh.posted(0);
    assert!(
        matches!(posted[..], [Message::Change(Change::HttpDown { .. })]),
        "{posted:?}"
    );
    assert_eq!(rig.posts.connections.len(), 0);
    assert!(rig.posts.links.is_empty());
}

#[test]
fn an_analyzer_that_closes_an_idle_connection_has_not_failed() {
    let (mut rig, slot) = rig();
    rig.connected(slot, 0);
    rig.request(slot);
    rig.answers(slot, "200 OK");
    let token = token(Kind::PostReceive, slot);
    let closed = Completion::simulated(token, 0, false, false);
    rig.posts.on_receive(&mut rig.cx, slot, closed);
    assert_eq!(rig.posts.connections.len(), 0);
    assert!(rig.cx.ended.is_empty());
    assert_eq!(rig.posts.reports()[0].failures, 0);
}
