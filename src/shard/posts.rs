//! Analyzers over HTTP: records out of their lanes go as POSTs over a pool of connections.
//!
//! ```text
//! lane -> records -> posts  [ done | on its way | done | to be tried again | on its way ]
//!                      ^ ACKed up to here: posts end in any order, a lane is ACKed from its front
//! post -> idle connection, or a new one while the pool has room
//!      <- 2xx: done      <- anything else, or silence: again, later; too often: the analyzer is down
//! ```
//!
//! A post keeps its request until it is done, so that it can be sent again: at most as many requests as
//! the pool has connections, each of at most the largest frame.

use std::collections::{BTreeMap, VecDeque};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::io::Io;
use super::mesh::{Mesh, Message};
use super::operator::HttpTarget;
use super::shared::HttpAnalyzerReport;
use super::slab::{bare, token, Kind, Slab, Slot};
use super::worker::Worker;
use crate::engine::{Change, LinkEpoch, Reach, Roster};
use crate::http::{self, Ids, Record, ResponseReader, SeededIds};
use crate::uring::{Completion, Group};

mod bytes;

use bytes::{join_frames, write_request};

/// One packet on its way.
struct Post {
    messages: u64,
    /// Head and body; with the kernel while it is sent, empty when it is done.
    request: Vec<u8>,
    is_done: bool,
    /// Times that it failed.
    failures: u32,
}

/// This shard's way to one analyzer.
pub(super) struct HttpLink {
    generation: u64,
    analyzer: u32,
    target: Arc<HttpTarget>,
    /// Bytes of the lane that are in no post yet, from `read` on.
    unposted: Vec<u8>,
    read: usize,
    /// In the order of the lane; the first is not done.
    posts: VecDeque<Post>,
    /// Of them: not done.
    open: usize,
    /// Number of the first of them.
    first_post: u64,
    /// Posts that wait to be tried again, and when.
    retries: Vec<(u64, u64)>,
    connections: Vec<Slot>,
    report: HttpAnalyzerReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Idle,
    Sending,
    /// Sent; the answer is awaited.
    Answering,
    /// Waits for the kernel to be through with it.
    Closing,
}

/// A connection to an analyzer.
pub(super) struct PostConnection<S> {
    socket: S,
    link: LinkEpoch,
    stage: Stage,
    /// Number of the post that it carries.
    post: Option<u64>,
    reader: ResponseReader,
    /// It has been answered on before: it may have been closed meanwhile.
    is_used: bool,
    receiving: bool,
    sending: bool,
    connecting: bool,
    /// Number of the post whose request the kernel has.
    carried: Option<u64>,
    /// That post has failed, but the kernel still has its request: stale or not, and why.
    failed: Option<(u64, bool, String)>,
    since_ns: u64,
}

/// A shard's side towards analyzers over HTTP.
pub(super) struct Posts<S> {
    links: BTreeMap<LinkEpoch, HttpLink>,
    connections: Slab<PostConnection<S>>,
    /// Links that may have something to post.
    pump: Vec<LinkEpoch>,
    ids: SeededIds,
}

impl<S> Posts<S> {
    pub(super) fn new(seed: u64) -> Posts<S> {
        Posts {
            links: BTreeMap::new(),
            connections: Slab::new(),
            pump: Vec::new(),
            ids: SeededIds::from_u64(seed),
        }
    }

    /// What the shard reports of each analyzer.
    pub(super) fn reports(&self) -> Vec<HttpAnalyzerReport> {
        let report = |link: &HttpLink| HttpAnalyzerReport {
            analyzer: link.analyzer,
            connections: link.connections.len(),
            in_flight: link.open,
            ..link.report.clone()
        };
        self.links.values().map(report).collect()
    }

    /// The link of an analyzer's present time.
    pub(super) fn link_of(&self, generation: u64) -> Option<LinkEpoch> {
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| link.generation == generation);
        found.map(|(epoch, _)| *epoch)
    }

    /// A link may have something to post.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pump.is_empty()
    }

    fn want_pump(&mut self, epoch: LinkEpoch) {
        if !self.pump.contains(&epoch) {
            self.pump.push(epoch);
        }
    }
}

impl<I: Io> Worker<I> {
    /// Links for the analyzers of a roster that have none yet.
    pub(super) fn open_http_links(&mut self, roster: &Roster) {
        for entry in &roster.entries {
            let Reach::Http { generation } = entry.reach else {
                continue;
            };
            if self.posts.link_of(generation).is_some() {
                continue;
            }
            // Gone again already: a roster without it is on the way.
            let Some(target) = self.shared.desk.target(generation) else {
                continue;
            };
            self.links_counted += 1;
            let epoch = LinkEpoch::new(self.index, self.links_counted);
            let (name, address) = (&entry.name, target.address);
            log::info!(
                "analyzer up link={} analyzer={name} dialect=http weight={} address={address} shard={}",
                epoch.0, entry.weight, self.index
            );
            self.engine.counters.links_up += 1;
            let link = HttpLink {
                generation,
                analyzer: entry.analyzer,
                target,
                unposted: Vec::new(),
                read: 0,
                posts: VecDeque::new(),
                open: 0,
                first_post: 0,
                retries: Vec::new(),
                connections: Vec::new(),
                report: HttpAnalyzerReport::default(),
            };
            self.posts.links.insert(epoch, link);
        }
    }

    /// Links of analyzers that a roster does not have any more.
    pub(super) fn close_http_links(&mut self, roster: &Roster) {
        let is_listed = |wanted: u64| {
            let mut entries = roster.entries.iter();
            entries.any(
                |entry| matches!(entry.reach, Reach::Http { generation } if generation == wanted),
            )
        };
        let links = self.posts.links.iter();
        let gone: Vec<LinkEpoch> = links
            .filter(|(_, link)| !is_listed(link.generation))
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in gone {
            self.http_link_down(epoch, "taken out of the roster");
        }
    }

    /// A lane towards an analyzer over HTTP got something.
    pub(super) fn want_posts(&mut self, epoch: LinkEpoch) {
        if self.posts.links.contains_key(&epoch) {
            self.posts.want_pump(epoch);
        }
    }

    /// Posts what there is, as far as the pools have room.
    pub(super) fn send_posts(&mut self) {
        while let Some(epoch) = self.posts.pump.pop() {
            while self.post_next(epoch) {}
        }
    }

    /// Starts one more post. False: there is none, or no connection for it.
    fn post_next(&mut self, epoch: LinkEpoch) -> bool {
        let pool = usize::from(self.config.http.pool_connections);
        let now_ns = self.now_ns;
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return false;
        };
        let connections = &self.posts.connections;
        let is_idle = |slot: &Slot| {
            let connection = connections.get(*slot);
            connection.is_some_and(|connection| connection.stage == Stage::Idle)
        };
        let idle = link.connections.iter().copied().find(is_idle);
        if idle.is_none() && link.connections.len() >= pool {
            return false;
        }
        let due = link.retries.iter().position(|(_, at_ns)| *at_ns <= now_ns);
        let number = match due {
            Some(due) => link.retries.swap_remove(due).0,
            // As many requests in memory as connections, those included that wait to be sent again.
            None if link.open >= pool => return false,
            None => match self.build_post(epoch) {
                Some(number) => number,
                None => return false,
            },
        };
        match idle {
            Some(slot) => self.send_post(slot, number),
            None => return self.connect_for_post(epoch, number),
        }
        true
    }

    /// Makes the next records of the lane a post, and returns its number.
    fn build_post(&mut self, epoch: LinkEpoch) -> Option<u64> {
        self.fill_unposted(epoch);
        let link = self.posts.links.get_mut(&epoch)?;
        let (record, rest) = Record::parse(&link.unposted[link.read..])?;
        let messages = record.messages() as u64; // a packet's
        let mut request = Vec::new();
        let mut left = rest.len();
        let messages = match (record.body(), record.packet_id(), record.emitter_id()) {
            (Some(body), Some(packet), Some(emitter)) => {
                write_request(&mut request, &link.target, packet, emitter, body);
                messages
            }
            _ => {
                let now = http::iso8601(self.io.unix_ms());
                let joined = join_frames(&link.unposted[link.read..], &mut self.posts.ids, &now);
                let (packet, rest) = joined?;
                left = rest;
                let id = std::str::from_utf8(&packet.packet_id).unwrap_or_default();
                let emitter = packet.emitter_id;
                write_request(&mut request, &link.target, id, emitter, &packet.body);
                packet.messages as u64 // a few
            }
        };
        link.read = link.unposted.len() - left;
        link.open += 1;
        link.posts.push_back(Post {
            messages,
            request,
            is_done: false,
            failures: 0,
        });
        Some(link.first_post + link.posts.len() as u64 - 1) // a few
    }

    /// Takes bytes out of the lane until there is a whole record, or nothing left.
    fn fill_unposted(&mut self, epoch: LinkEpoch) {
        let Some(lane) = self.engine.lane_of(epoch) else {
            return;
        };
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        if link.read == link.unposted.len() {
            link.unposted.clear();
            link.read = 0;
        }
        while Record::parse(&link.unposted[link.read..]).is_none() {
            let Some(range) = self.engine.transmit(lane, self.now_ns, false) else {
                return;
            };
            if link.read > 0 {
                link.unposted.drain(..link.read);
                link.read = 0;
            }
            let bytes = crate::engine::Memory::read(self.engine.memory(), range.span);
            link.unposted.extend_from_slice(bytes);
            self.engine.written(lane);
        }
    }

    fn connect_for_post(&mut self, epoch: LinkEpoch, number: u64) -> bool {
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return false;
        };
        let slot = self.posts.connections.next_slot();
        let connect = token(Kind::PostConnect, slot);
        match self.io.connect(link.target.address, connect) {
            Ok(socket) => {
                let made = self.posts.connections.insert(PostConnection {
                    socket,
                    link: epoch,
                    stage: Stage::Connecting,
                    post: Some(number),
                    reader: ResponseReader::new(),
                    is_used: false,
                    receiving: false,
                    sending: false,
                    connecting: true,
                    carried: None,
                    failed: None,
                    since_ns: self.now_ns,
                });
                debug_assert_eq!(made, slot);
                link.connections.push(slot);
                true
            }
            Err(error) => {
                self.post_failed(epoch, number, &format!("no socket: {error}"));
                false
            }
        }
    }

    pub(super) fn on_post_connected(&mut self, slot: Slot, completion: Completion) {
        self.io.connected(completion.token);
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        connection.connecting = false;
        if connection.stage == Stage::Closing {
            self.bury_post_connection(slot);
            return;
        }
        if let Err(error) = completion.count() {
            connection.stage = Stage::Idle;
            self.close_post_connection(slot, &format!("cannot connect: {error}"));
            return;
        }
        connection.stage = Stage::Idle;
        let post = connection.post;
        self.receive_answers(slot);
        if let Some(number) = post {
            self.send_post(slot, number);
        }
    }

    fn receive_answers(&mut self, slot: Slot) {
        if let Some(connection) = self.posts.connections.get_mut(slot) {
            connection.receiving = true;
            let token = token(Kind::PostReceive, slot);
            self.io.receive(&connection.socket, Group::Http, token);
        }
    }

    fn send_post(&mut self, slot: Slot, number: u64) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        let Some(link) = self.posts.links.get_mut(&connection.link) else {
            return;
        };
        let Some(post) = link.post_mut(number) else {
            return;
        };
        let request = std::mem::take(&mut post.request);
        link.report.posts += 1;
        debug_assert!(!request.is_empty(), "its request came back");
        connection.post = Some(number);
        connection.carried = Some(number);
        connection.stage = Stage::Sending;
        connection.sending = true;
        connection.since_ns = self.now_ns;
        self.engine.counters.sends += 1;
        self.engine.counters.sent_bytes += request.len() as u64;
        let token = token(Kind::PostSend, slot);
        self.io.send_bytes(&connection.socket, request, token);
    }

    pub(super) fn on_post_sent(&mut self, slot: Slot, completion: Completion) {
        let request = self.io.sent_bytes(completion.token);
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        connection.sending = false;
        let (epoch, number) = (connection.link, connection.carried.take());
        let failed = connection.failed.take();
        let stage = connection.stage;
        let is_whole = completion.count().is_ok_and(|sent| sent == request.len());
        if let Some(link) = self.posts.links.get_mut(&epoch) {
            let post = number.and_then(|number| link.post_mut(number));
            if let Some(post) = post.filter(|post| !post.is_done) {
                post.request = request;
            }
        }
        if let Some((number, is_stale, why)) = failed {
            self.post_not_acked(epoch, number, is_stale, &why);
        }
        match stage {
            Stage::Closing => self.bury_post_connection(slot),
            Stage::Sending if is_whole => {
                if let Some(connection) = self.posts.connections.get_mut(slot) {
                    connection.stage = Stage::Answering;
                }
            }
            Stage::Sending => {
                let why = match completion.count() {
                    Ok(_) => "send cut short".to_owned(),
                    Err(error) => format!("send: {error}"),
                };
                self.close_post_connection(slot, &why);
            }
            _ => {}
        }
    }

    pub(super) fn on_post_receive(&mut self, slot: Slot, completion: Completion) {
        let chunk = self.io.chunk(Group::Http, &completion);
        let mut outcome = None;
        if let Some(connection) = self.posts.connections.get_mut(slot) {
            connection.receiving = completion.more();
            if let Some(chunk) = chunk {
                let mut bytes = self.io.bytes_of(Group::Http, chunk);
                let answer = connection.reader.next(&mut bytes);
                let has_more = !bytes.is_empty();
                outcome = match answer {
                    Ok(answer) => answer.map(|answer| Ok((answer, has_more))),
                    Err(error) => Some(Err(format!("answer: {}", error.detail))),
                };
            } else if completion.result == 0 {
                outcome = match connection.reader.closed() {
                    Some(answer) => Some(Ok((answer, false))),
                    None => Some(Err("closed by the analyzer".to_owned())),
                };
            } else if let Err(error) = completion.count() {
                let goes_on = matches!(
                    error.raw_os_error(),
                    Some(libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN)
                );
                if !goes_on {
                    outcome = Some(Err(error.to_string()));
                }
            }
        }
        if let Some(chunk) = chunk {
            self.io.release(Group::Http, chunk);
        }
        match outcome {
            Some(Ok((answer, has_more))) => self.on_answer(slot, answer, has_more),
            Some(Err(why)) => self.close_post_connection(slot, &why),
            None => {}
        }
        let Some(connection) = self.posts.connections.get(slot) else {
            return;
        };
        if connection.stage == Stage::Closing {
            self.bury_post_connection(slot);
        } else if !connection.receiving {
            self.receive_answers(slot);
        }
    }

    fn on_answer(&mut self, slot: Slot, answer: http::Answer, has_more: bool) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        let (epoch, post) = (connection.link, connection.post);
        if connection.stage == Stage::Closing {
            return;
        }
        let Some(number) = post else {
            self.close_post_connection(slot, "an answer that nothing was asked for");
            return;
        };
        let is_ack = (200..300).contains(&answer.status);
        // An answer before the request was sent to its end leaves the connection in doubt.
        let is_reusable = answer.reusable && !has_more && connection.stage == Stage::Answering;
        connection.post = None;
        connection.is_used = true;
        if is_reusable {
            connection.stage = Stage::Idle;
            connection.since_ns = self.now_ns;
        } else {
            self.close_post_connection(slot, "not to be used again");
        }
        if is_ack {
            self.post_done(epoch, number);
        } else {
            self.fail_when_sent(
                slot,
                epoch,
                number,
                false,
                format!("status {}", answer.status),
            );
        }
        self.posts.want_pump(epoch);
    }

    /// A post that a connection carried was not ACKed. Its request comes back when the send completes:
    /// not before then is it sent again.
    fn fail_when_sent(
        &mut self,
        slot: Slot,
        epoch: LinkEpoch,
        number: u64,
        is_stale: bool,
        why: String,
    ) {
        match self.posts.connections.get_mut(slot) {
            Some(connection) if connection.sending => {
                connection.failed = Some((number, is_stale, why));
            }
            _ => self.post_not_acked(epoch, number, is_stale, &why),
        }
    }

    fn post_not_acked(&mut self, epoch: LinkEpoch, number: u64, is_stale: bool, why: &str) {
        if !is_stale {
            self.post_failed(epoch, number, why);
        } else if let Some(link) = self.posts.links.get_mut(&epoch) {
            link.retries.push((number, self.now_ns));
        }
        self.posts.want_pump(epoch);
    }

    /// The analyzer has ACKed a post: what is done from the front on is ACKed in the lane.
    fn post_done(&mut self, epoch: LinkEpoch, number: u64) {
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        let post = link.post_mut(number).filter(|post| !post.is_done);
        if let Some(post) = post {
            post.is_done = true;
            post.request = Vec::new();
            link.open -= 1;
        }
        let mut messages = 0;
        while link.posts.front().is_some_and(|post| post.is_done) {
            messages += link.posts.pop_front().map_or(0, |post| post.messages);
            link.first_post += 1;
        }
        if messages == 0 {
            return;
        }
        if let Some(lane) = self.engine.lane_of(epoch) {
            self.engine.acked(lane, messages, self.now_ns);
        }
    }

    /// A post was not ACKed: again, after a pause that doubles; too often, and the analyzer is down.
    fn post_failed(&mut self, epoch: LinkEpoch, number: u64, why: &str) {
        let http = &self.config.http;
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        link.report.failures += 1;
        link.report.consecutive_failures += 1;
        let Some(post) = link.post_mut(number) else {
            return;
        };
        post.failures += 1;
        let failures = post.failures;
        log::warn!(
            "analyzer {}: POST failed, try {failures} of {}: {why}",
            link.target.name,
            http.push_retries + 1
        );
        if failures > http.push_retries {
            let why = format!("POST failed {failures} times: {why}");
            let generation = link.generation;
            self.http_link_down(epoch, &why);
            let change = Change::HttpDown { generation };
            self.mesh.post(0, Message::Change(change));
            return;
        }
        // Full jitter over the upper half, so that analyzers that failed together are not met together.
        let pause = http.backoff.saturating_mul(1 << (failures - 1).min(16));
        let [jitter, ..] = self.posts.ids.next();
        let part = 0.5 + f64::from(jitter) / 512.0;
        let pause_ns = u64::try_from(pause.mul_f64(part).as_nanos()).unwrap_or(u64::MAX);
        link.retries
            .push((number, self.now_ns.saturating_add(pause_ns)));
    }

    /// A connection is over; the post that it carried is tried again.
    fn close_post_connection(&mut self, slot: Slot, why: &str) {
        let Some(connection) = self.posts.connections.get_mut(slot) else {
            return;
        };
        if connection.stage == Stage::Closing {
            return;
        }
        let was_connecting = connection.stage == Stage::Connecting;
        // An idle connection that the analyzer closed before it saw the request: no failure of its.
        let is_stale = connection.is_used && connection.reader.is_idle();
        connection.stage = Stage::Closing;
        self.io.drop_unsent_on_close(&connection.socket);
        self.io.shutdown(&connection.socket, Shutdown::Both);
        if was_connecting {
            self.io
                .cancel(token(Kind::PostConnect, slot), bare(Kind::Cancel));
        }
        let (epoch, post) = (connection.link, connection.post.take());
        if let Some(link) = self.posts.links.get_mut(&epoch) {
            link.connections.retain(|other| *other != slot);
            if let Some(number) = post {
                self.fail_when_sent(slot, epoch, number, is_stale, why.to_owned());
            }
            self.posts.want_pump(epoch);
        }
        self.bury_post_connection(slot);
    }

    fn bury_post_connection(&mut self, slot: Slot) {
        let Some(connection) = self.posts.connections.get(slot) else {
            return;
        };
        let is_idle = !connection.receiving && !connection.sending && !connection.connecting;
        if is_idle && connection.stage == Stage::Closing {
            self.posts.connections.remove(slot);
        }
    }

    /// The analyzer is down: what it has not ACKed goes to others.
    fn http_link_down(&mut self, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.posts.links.remove(&epoch) else {
            return;
        };
        log::info!(
            "analyzer down link={} analyzer={} why=\"{why}\" posts={}",
            epoch.0,
            link.target.name,
            link.posts.len()
        );
        self.engine.counters.links_down += 1;
        if let Some(lane) = self.engine.lane_of(epoch) {
            let mut before = 0;
            for post in &link.posts {
                if post.is_done {
                    self.engine.delivered(lane, before, post.messages);
                }
                before += post.messages;
            }
        }
        self.engine.link_down(epoch, self.now_ns);
        for slot in link.connections {
            self.close_post_connection(slot, why);
        }
    }

    /// Posts that get no answer, and those whose pause is over.
    pub(super) fn check_posts(&mut self) {
        let timeout = self.live.http.push_timeout;
        let now_ns = self.now_ns;
        let is_late = |connection: &PostConnection<I::Socket>| {
            let waits = !matches!(connection.stage, Stage::Idle | Stage::Closing);
            let since = Duration::from_nanos(now_ns.saturating_sub(connection.since_ns));
            waits && since >= timeout
        };
        let connections = self.posts.connections.iter();
        let late: Vec<Slot> = connections
            .filter(|(_, connection)| is_late(connection))
            .map(|(slot, _)| slot)
            .collect();
        for slot in late {
            if let Some(connection) = self.posts.connections.get_mut(slot) {
                connection.is_used = false; // silence is a failure
            }
            self.close_post_connection(slot, &format!("no answer within {timeout:?}"));
        }
        let is_due = |link: &HttpLink| link.retries.iter().any(|(_, at_ns)| *at_ns <= now_ns);
        let links = self.posts.links.iter();
        let due: Vec<LinkEpoch> = links
            .filter(|(_, link)| is_due(link))
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in due {
            self.posts.want_pump(epoch);
        }
        self.send_posts();
    }
}

impl HttpLink {
    fn post_mut(&mut self, number: u64) -> Option<&mut Post> {
        let index = number.checked_sub(self.first_post)?;
        self.posts.get_mut(usize::try_from(index).ok()?)
    }
}
