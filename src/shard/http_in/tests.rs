//! HTTP clients alone.

use std::time::Duration;

use super::*;
use crate::context::{Context, Phase};
use crate::port::Completion;
use crate::testing::{context, receives, Asked, FakeIo};

struct Rig {
    cx: Context<FakeIo>,
    clients: Clients<FakeIo>,
}

/// A client on socket 5.
fn rig() -> (Rig, Slot) {
    let cx = context(1, 64);
    let clients = Clients::new(&cx.config, 1);
    let mut rig = Rig { cx, clients };
    rig.clients.add(&mut rig.cx, 5);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Receive(5)]);
    let slot = rig.clients.table.slots()[0];
    (rig, slot)
}

impl Rig {
    /// The status of each answer that a client gets for these bytes.
    fn asks(&mut self, slot: Slot, bytes: &[u8]) -> Vec<String> {
        let token = token(Kind::HttpReceive, slot);
        let completion = receives(token, bytes, &mut self.cx.io);
        self.clients.on_receive(&mut self.cx, slot, completion);
        assert_eq!(self.cx.io.lent, 0, "bytes are copied, and memory goes back");
        self.answers()
    }

    fn answers(&mut self) -> Vec<String> {
        self.clients.send_answers(&mut self.cx);
        let mut statuses = Vec::new();
        for asked in self.cx.io.take_asked() {
            let Asked::SendBytes(_, bytes) = asked else {
                continue;
            };
            let text = String::from_utf8(bytes).expect("text");
            let starts = text.match_indices("HTTP/1.1 ");
            statuses.extend(starts.map(|(at, _)| text[at + 9..at + 12].to_owned()));
        }
        statuses
    }

    /// The kernel has sent all.
    fn sent(&mut self, slot: Slot) {
        let client = self.clients.table.get(slot).expect("is there");
        let len = i32::try_from(client.sending_bytes).expect("a few");
        let token = token(Kind::HttpSend, slot);
        let completion = Completion::simulated(token, len, false, false);
        self.clients.on_sent(&mut self.cx, slot, completion);
    }
}

fn post(body: &str) -> Vec<u8> {
    let head = "POST /logs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let len = body.len();
    format!("{head}\r\nContent-Length: {len}\r\n\r\n{body}").into_bytes()
}

#[test]
fn requests_are_answered_one_after_the_other_in_one_send() {
    let (mut rig, slot) = rig();
    let two = [post("{"), post("[")].concat();
    let statuses = rig.asks(slot, &two);
    assert_eq!(statuses, ["400", "400"]);
    assert_eq!(rig.clients.counts().requests, 2);
    rig.sent(slot);
    assert!(rig.clients.remain(), "it is kept alive");
    let mut report = rig.clients.report(0);
    assert_eq!(report.responses.remove(&400), Some(2));
}

#[test]
fn what_the_control_side_would_answer_gets_503_while_nobody_is_there() {
    let (mut rig, slot) = rig();
    let statuses = rig.asks(slot, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(statuses, ["503"]);
    assert_eq!(rig.clients.counts().refused.get("control_busy"), Some(&1));
}

#[test]
fn a_question_waits_for_its_reply_and_what_comes_behind_it_waits_as_well() {
    let (mut rig, slot) = rig();
    let operator = crate::Operator::new(std::sync::Arc::clone(&rig.cx.shared));
    let questions = operator.questions(std::task::Waker::noop().clone());
    let ask = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(rig.asks(slot, &[&ask[..], &post("{")].concat()).is_empty());
    let question = questions.try_recv().expect("asked");
    assert_eq!(question.ask.path, "/health");
    let held = rig.clients.report(0).held_bytes;
    assert!(held > 0, "the request behind it is counted");
    assert_eq!(rig.clients.counts().requests, 1);
}

#[test]
fn the_farewell_closes_idle_clients_and_lets_nobody_in() {
    let (mut rig, slot) = rig();
    rig.cx.phase = Phase::GracefulClose;
    rig.clients.begin_farewells(&mut rig.cx, Duration::ZERO);
    let asked = rig.cx.io.take_asked();
    assert!(asked.contains(&Asked::Shutdown(5)), "{asked:?}");
    let token = token(Kind::HttpReceive, slot);
    let ended = Completion::simulated(token, -libc::ECANCELED, false, false);
    rig.clients.on_receive(&mut rig.cx, slot, ended);
    assert!(!rig.clients.remain());
    rig.clients.add(&mut rig.cx, 6);
    assert!(!rig.clients.remain());
}

#[test]
fn at_its_age_a_client_gets_one_more_answer_or_is_closed_when_it_is_quiet() {
    let (mut rig, slot) = rig();
    let mut live = (*rig.cx.live).clone();
    live.max_connection_age = Duration::from_secs(10);
    rig.cx.live = std::sync::Arc::new(live);
    rig.clients.add(&mut rig.cx, 6);
    let quiet = rig.clients.table.slots()[1];
    rig.cx.awake_ns += 8 * 1_000_000_000;
    assert_eq!(rig.asks(slot, &post("{")), ["400"]);
    rig.sent(slot);
    rig.asks(quiet, &post("{"));
    rig.sent(quiet);
    rig.clients.look_at_ages(&mut rig.cx);
    assert_eq!(rig.clients.report(0).farewells_at_age, 0);
    rig.cx.awake_ns += 4 * 1_000_000_000;
    rig.clients.look_at_ages(&mut rig.cx);
    rig.clients.look_at_ages(&mut rig.cx);
    assert_eq!(rig.clients.report(0).farewells_at_age, 2);
    rig.cx.io.take_asked();
    let token = token(Kind::HttpReceive, slot);
    let completion = receives(token, &post("{"), &mut rig.cx.io);
    rig.clients.on_receive(&mut rig.cx, slot, completion);
    rig.clients.send_answers(&mut rig.cx);
    let asked = rig.cx.io.take_asked();
    let [Asked::SendBytes(5, bytes)] = &asked[..] else {
        panic!("{asked:?}");
    };
    let text = String::from_utf8_lossy(bytes);
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    // The other has said nothing for 4 s.
    rig.clients.check_waits(&mut rig.cx);
    let asked = rig.cx.io.take_asked();
    assert!(asked.contains(&Asked::Shutdown(6)), "{asked:?}");
    assert!(!asked.contains(&Asked::Shutdown(5)), "{asked:?}");
}
