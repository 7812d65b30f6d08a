//! A simulated analyzer over HTTP: takes POSTs, checks what is in them, answers, refuses, dies.

use std::collections::VecDeque;

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::chunk;
use super::plan::{ServerFault, ServerPlan, Takes};
use super::text;
use crate::net::{ConnId, Door, Net, Read};
use crate::oracle::{MessageId, Oracle};
use crate::plan::MS;
use crate::random::Random;
use weir_http::TCP_EMITTER;
use weir_sink::outlet::OutletOptions;
use weir_sink::Sink;

/// A connection that a shard has made.
struct Visit {
    conn: ConnId,
    unread: Vec<u8>,
    /// What it answers next, and when.
    due: Option<(u64, u16, Vec<MessageId>)>,
    /// Chunks that it has taken, and when it acks each.
    due_acks: VecDeque<(u64, Vec<u8>, Vec<MessageId>)>,
    out: VecDeque<u8>,
    /// Bytes of answers so far, `out` included.
    answered_bytes: u64,
    /// Messages that were taken by a POST, and where its answer ends; none: it was not answered.
    at_risk: Vec<(Option<u64>, u64)>,
    closes: bool,
}

pub(crate) struct Server {
    pub(crate) index: usize,
    plan: ServerPlan,
    random: Random,
    visits: Vec<Visit>,
    alive: bool,
    /// When it starts, or starts again.
    back_ns: u64,
    stalled_until_ns: u64,
    shut_until_ns: u64,
    answers: (u16, u64),
    half_reads: u32,
    mute: u32,
    is_calm: bool,
    is_lenient: bool,
    /// POSTs that it took.
    pub(crate) posts: u64,
    /// Messages received, the same message again included.
    pub(crate) deliveries: u64,
}

/// A packet as a server gets it.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    size: usize,
}

/// A message that came as a frame.
#[derive(Deserialize)]
struct FromFrame {
    level: String,
    message: String,
    encoding: Option<String>,
}

impl Server {
    /// `base_ns`: when the run begins.
    pub(crate) fn new(index: usize, plan: ServerPlan, seed: u64, base_ns: u64) -> Server {
        Server {
            index,
            random: Random::stream(seed, 4000 + index as u64),
            visits: Vec::new(),
            alive: false,
            back_ns: base_ns + plan.joins_ms * MS,
            stalled_until_ns: 0,
            shut_until_ns: 0,
            answers: (200, 0),
            half_reads: 0,
            mute: 0,
            is_calm: false,
            is_lenient: false,
            posts: 0,
            deliveries: 0,
            plan,
        }
    }

    pub(crate) fn weight(&self) -> f64 {
        self.plan.weight
    }

    /// What it takes, and how.
    pub(crate) fn delivery(&self) -> (Sink, OutletOptions) {
        let mut options = OutletOptions::default();
        match self.plan.takes {
            Takes::Http => (Sink::Http, options),
            Takes::Forward {
                packet_bytes,
                in_flight,
            } => {
                options.packet_bytes = packet_bytes;
                options.in_flight_bytes = in_flight;
                options.timeout = self.plan.timeout();
                (Sink::Forward, options)
            }
        }
    }

    /// What a health check finds.
    pub(crate) fn is_healthy(&self, now_ns: u64) -> bool {
        let (status, until_ns) = self.answers;
        let fails = status >= 500 && now_ns < until_ns;
        let hears = now_ns >= self.shut_until_ns && now_ns >= self.stalled_until_ns;
        self.alive && hears && !fails
    }

    /// Does what can be done now; when it wants to be called again. `is_lenient`: an answer that has arrived
    /// may count as none.
    ///
    /// # Errors
    /// What the distributor did wrong.
    pub(crate) fn step(
        &mut self,
        net: &mut Net,
        oracle: &mut Oracle,
        is_lenient: bool,
    ) -> Result<Option<u64>, String> {
        let now_ns = net.now_ns;
        self.is_lenient = is_lenient;
        if !self.alive {
            if now_ns < self.back_ns {
                return Ok(Some(self.back_ns));
            }
            self.alive = true;
        }
        let is_shut = now_ns < self.shut_until_ns;
        let door = if is_shut { Door::Shut } else { Door::Open };
        net.set_door(self.index, door);
        if now_ns < self.stalled_until_ns {
            return Ok(Some(self.stalled_until_ns));
        }
        while let Some(conn) = net.next_visitor(self.index) {
            self.visits.push(Visit {
                conn,
                unread: Vec::new(),
                due: None,
                due_acks: VecDeque::new(),
                out: VecDeque::new(),
                answered_bytes: 0,
                at_risk: Vec::new(),
                closes: false,
            });
        }
        let mut next_ns = now_ns + 200 * MS;
        if is_shut {
            next_ns = next_ns.min(self.shut_until_ns);
        }
        for index in 0..self.visits.len() {
            next_ns = next_ns.min(self.step_visit(index, net, oracle)?);
        }
        self.visits.retain(|visit| visit.conn != ConnId::MAX);
        Ok(Some(next_ns.max(now_ns + 1_000)))
    }

    /// Reads, answers; when to look again. A visit that is over gets the connection number MAX.
    fn step_visit(
        &mut self,
        index: usize,
        net: &mut Net,
        oracle: &mut Oracle,
    ) -> Result<u64, String> {
        let now_ns = net.now_ns;
        let max = match self.is_calm {
            true => 1 << 16,
            false => self.plan.read_max,
        };
        let visit = &mut self.visits[index];
        match net.peer_read(visit.conn, max) {
            Read::Data(bytes) => {
                if self.half_reads > 0 {
                    self.half_reads -= 1;
                    let reset = self.random.chance(50);
                    self.end_visit(index, net, oracle, Some(reset));
                    return Ok(u64::MAX);
                }
                visit.unread.extend_from_slice(&bytes);
            }
            Read::Nothing => {}
            Read::End | Read::Broken(_) => {
                self.end_visit(index, net, oracle, Some(false));
                return Ok(u64::MAX);
            }
        }
        if self.plan.takes != Takes::Http {
            return self.step_chunks(index, net, oracle);
        }
        if self.visits[index].due.is_none() {
            self.take_post(index, now_ns, oracle)?;
        }
        if self.mute > 0 && self.visits[index].due.is_some() {
            self.mute -= 1;
            self.end_visit(index, net, oracle, Some(false));
            return Ok(u64::MAX);
        }
        let visit = &mut self.visits[index];
        if let Some((_, status, ids)) = visit.due.take_if(|(at_ns, ..)| *at_ns <= now_ns) {
            let is_last = !self.is_calm && self.random.chance(self.plan.last);
            let answer = text::answer(status, is_last);
            visit.answered_bytes += answer.len() as u64;
            visit.out.extend(answer);
            visit.closes = is_last;
            match status {
                200..=299 => ids.iter().for_each(|id| oracle.acked(*id)),
                400 | 413 | 415 | 422 => ids.iter().for_each(|id| oracle.refused(*id)),
                _ => {}
            }
            oracle.too_large |= status == 413;
            if let Some((end, _)) = visit.at_risk.last_mut() {
                end.get_or_insert(visit.answered_bytes);
            }
        }
        let written = self.write_out(index, net);
        let visit = &mut self.visits[index];
        if visit.closes && visit.out.is_empty() {
            self.end_visit(index, net, oracle, Some(false));
            return Ok(u64::MAX);
        }
        if !visit.out.is_empty() || written > 0 {
            return Ok(now_ns + 20_000);
        }
        let due = visit.due.as_ref().map(|(at_ns, ..)| *at_ns);
        Ok(due.unwrap_or(now_ns + 20 * MS))
    }

    /// Takes chunks, and acks them one after the other; when to look again.
    fn step_chunks(
        &mut self,
        index: usize,
        net: &mut Net,
        oracle: &mut Oracle,
    ) -> Result<u64, String> {
        let now_ns = net.now_ns;
        let (status, until_ns) = self.answers;
        let refuses = now_ns < until_ns && status != 200;
        while let Some(chunk) = chunk::take_chunk(&mut self.visits[index].unread)? {
            oracle.has_chunks = true;
            let ids = chunk.recognize(oracle)?;
            // Forward knows no refusal: it closes, or says nothing.
            if refuses && status >= 500 {
                self.end_visit(index, net, oracle, Some(true));
                return Ok(u64::MAX);
            }
            if refuses {
                continue;
            }
            ids.iter().for_each(|id| oracle.deliver(*id));
            let messages = ids.len() as u64; // a chunk's
            self.posts += 1;
            self.deliveries += messages;
            let think_ns = if self.is_calm { 0 } else { self.plan.think_ns };
            let at_ns = now_ns + self.random.range(0, think_ns);
            let visit = &mut self.visits[index];
            visit.at_risk.push((None, messages));
            let after_ns = visit.due_acks.back().map_or(0, |(at_ns, ..)| *at_ns);
            visit
                .due_acks
                .push_back((at_ns.max(after_ns), chunk.ack, ids));
            if self.mute > 0 {
                self.mute -= 1;
                self.end_visit(index, net, oracle, Some(false));
                return Ok(u64::MAX);
            }
        }
        let visit = &mut self.visits[index];
        while visit
            .due_acks
            .front()
            .is_some_and(|(at_ns, ..)| *at_ns <= now_ns)
        {
            let Some((_, ack, ids)) = visit.due_acks.pop_front() else {
                break;
            };
            visit.answered_bytes += ack.len() as u64;
            visit.out.extend(ack);
            ids.iter().for_each(|id| oracle.acked(*id));
            let open = visit.at_risk.iter_mut().find(|(end, _)| end.is_none());
            if let Some((end, _)) = open {
                *end = Some(visit.answered_bytes);
            }
            visit.closes = !self.is_calm && self.random.chance(self.plan.last);
        }
        let written = self.write_out(index, net);
        let visit = &mut self.visits[index];
        if visit.closes && visit.out.is_empty() {
            self.end_visit(index, net, oracle, Some(false));
            return Ok(u64::MAX);
        }
        let due = visit.due_acks.front().map(|(at_ns, ..)| *at_ns);
        let soon_ns = match visit.out.is_empty() && written == 0 {
            true => now_ns + 20 * MS,
            false => now_ns + 20_000,
        };
        Ok(due.map_or(soon_ns, |due| due.min(soon_ns)))
    }

    /// Writes what the visitor's host takes of the answers, or a few bytes of them; how many.
    fn write_out(&mut self, index: usize, net: &mut Net) -> usize {
        let visit = &mut self.visits[index];
        let bytes = visit.out.make_contiguous();
        let len = match !self.is_calm && self.random.chance(10) {
            true => bytes.len().min(20),
            false => bytes.len(),
        };
        let written = net.peer_write(visit.conn, &bytes[..len]);
        visit.out.drain(..written);
        written
    }

    fn take_post(&mut self, index: usize, now_ns: u64, oracle: &mut Oracle) -> Result<(), String> {
        let visit = &mut self.visits[index];
        let Some(post) = text::take_post(&mut visit.unread)? else {
            return Ok(());
        };
        let ids = recognize(&post, oracle)?;
        let (status, until_ns) = self.answers;
        let status = if now_ns < until_ns { status } else { 200 };
        if status == 200 {
            for id in &ids {
                oracle.deliver(*id);
            }
            let messages = ids.len() as u64; // a packet's
            visit.at_risk.push((None, messages));
            self.posts += 1;
            self.deliveries += messages;
        }
        let think_ns = if self.is_calm { 0 } else { self.plan.think_ns };
        let at_ns = now_ns + self.random.range(0, think_ns);
        visit.due = Some((at_ns, status, ids));
        Ok(())
    }

    /// `reset`: how it closes; none: nobody is told. What was taken and perhaps not heard of may come again.
    fn end_visit(&mut self, index: usize, net: &mut Net, oracle: &mut Oracle, reset: Option<bool>) {
        let visit = &mut self.visits[index];
        let heard = net.heard(visit.conn);
        for (end, messages) in visit.at_risk.drain(..) {
            if self.is_lenient || end.is_none_or(|end| end > heard) {
                oracle.unanswered += messages;
            }
        }
        match reset {
            Some(reset) => net.peer_close(visit.conn, reset),
            None => net.vanish(visit.conn),
        }
        visit.conn = ConnId::MAX;
    }

    /// Connections that are left hanging are added to `hanging`.
    pub(crate) fn suffer(
        &mut self,
        fault: ServerFault,
        net: &mut Net,
        oracle: &mut Oracle,
        hanging: &mut Vec<ConnId>,
    ) {
        if !self.alive {
            return;
        }
        let now_ns = net.now_ns;
        match fault {
            ServerFault::Crash { reset, back_ms } => {
                self.go(net, oracle, Some(reset), now_ns + back_ms * MS);
            }
            ServerFault::Vanish { back_ms } => {
                hanging.extend(self.visits.iter().map(|visit| visit.conn));
                self.go(net, oracle, None, now_ns + back_ms * MS);
                net.set_door(self.index, Door::Silent);
            }
            ServerFault::Answers { status, for_ms } => {
                self.answers = (status, now_ns + for_ms * MS);
            }
            ServerFault::Stall { for_ms } => self.stalled_until_ns = now_ns + for_ms * MS,
            ServerFault::Shut { for_ms } => self.shut_until_ns = now_ns + for_ms * MS,
            ServerFault::HalfReads { requests } => self.half_reads = requests,
            ServerFault::Mute { requests } => self.mute = requests,
        }
    }

    fn go(&mut self, net: &mut Net, oracle: &mut Oracle, reset: Option<bool>, back_ns: u64) {
        while let Some(conn) = net.next_visitor(self.index) {
            net.peer_close(conn, true);
        }
        for index in 0..self.visits.len() {
            self.end_visit(index, net, oracle, reset);
        }
        self.visits.clear();
        net.set_door(self.index, Door::Shut);
        self.alive = false;
        self.back_ns = back_ns;
    }

    /// Faults are over: it runs and takes everything. `must_take`: it has a weight.
    pub(crate) fn calm(&mut self, now_ns: u64) {
        self.is_calm = true;
        self.back_ns = self.back_ns.min(now_ns);
        self.stalled_until_ns = 0;
        self.shut_until_ns = 0;
        self.answers = (200, 0);
        self.half_reads = 0;
        self.mute = 0;
    }
}

/// The messages of a POST: a client's packet whole, or what was divided of it, in order; or messages that came as
/// frames.
///
/// # Errors
/// They are not.
fn recognize(post: &text::Post, oracle: &Oracle) -> Result<Vec<MessageId>, String> {
    let body: Body = serde_json::from_slice(&post.body).map_err(|error| error.to_string())?;
    let count = body.messages.len();
    if body.size != count || count == 0 {
        return Err(format!(
            "a POST says {} messages and has {count}",
            body.size
        ));
    }
    if post.emitter == TCP_EMITTER {
        let from_frame = |message: &&RawValue| -> Result<MessageId, String> {
            // Cut out of a client's packet on its way to an analyzer that died: it is there as it was sent.
            if let Ok(id) = oracle.recognize_text(message.get()) {
                return Ok(id);
            }
            let message: FromFrame =
                serde_json::from_str(message.get()).map_err(|error| error.to_string())?;
            let payload = match message.encoding.as_deref() {
                Some("base64") => {
                    let payload = STANDARD.decode(&message.message);
                    payload.map_err(|error| error.to_string())?
                }
                _ => message.message.into_bytes(),
            };
            let id = oracle.recognize_payload(&payload, &message.level)?;
            match oracle.packet_of(id) {
                Some(_) => Err(format!("message {id} of a client came as text")),
                None => Ok(id),
            }
        };
        return body.messages.iter().map(from_frame).collect();
    }
    let of_client = |message: &&RawValue| oracle.recognize_text(message.get());
    let ids: Vec<MessageId> = body
        .messages
        .iter()
        .map(of_client)
        .collect::<Result<_, _>>()?;
    let whole = ids.first().and_then(|id| oracle.packet_of(*id));
    let whole = whole.ok_or("a packet of a client with messages of others")?;
    let is_part = ids.iter().all(|id| whole.messages.contains(id));
    let is_whole = ids.iter().copied().eq(whole.messages.clone());
    let is_divided = whole.is_divided && ids.is_sorted();
    // A server of Forward acks chunks: of a packet in two of them one may be through, and the other comes here.
    let may_be_part = is_part && (oracle.too_large || oracle.has_chunks || is_divided);
    if !(is_whole || may_be_part) {
        return Err(format!("a packet of {:?} came as {ids:?}", whole.messages));
    }
    Ok(ids)
}
