//! Analyzers over HTTP: records out of their lanes go as POSTs over a pool of connections.
//!
//! ```text
//! lane -> records -> posts  [ through | on its way | through | to be tried again | on its way ]
//!                      ^ ACKed up to here: posts end in any order, a lane is ACKed from its front
//! post -> idle connection, or a new one while the pool has room
//!      <- 2xx: ACKed     <- 400, 413, 415, 422: set aside, if there is a place (posts/aside.rs)
//!      <- anything else, or silence: again, later; too often: the analyzer is down
//! ```
//!
//! A post keeps its request until it is done, so that it can be sent again: at most as many requests as
//! the pool has connections, each of at most the largest frame.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::io::Io;
use super::mesh::{Mesh, Message};
use super::operator::HttpTarget;
use super::shared::HttpAnalyzerReport;
use super::slab::{Slab, Slot};
use super::worker::Worker;
use crate::engine::{Change, LinkEpoch, Reach, Roster};
use crate::http::{self, Ids, Record, SeededIds};

mod aside;
mod bytes;
mod connections;

use aside::Aside;
pub(super) use aside::{open_refused, refused_file_name};
use bytes::{join_frames, write_request};
use connections::{PostConnection, Stage};

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Acked,
    /// By the analyzer, for good; it is set aside.
    Refused,
}

/// Why a post was not ACKed.
enum Nack {
    /// The connection had been closed before the analyzer saw the request: no failure of its.
    Stale,
    Failed(String),
    /// The answer says that it is the packet's fault.
    Refused(u16),
}

/// One packet on its way.
struct Post {
    messages: u64,
    /// Head and body; with the kernel while it is sent, empty when it is through.
    request: Vec<u8>,
    fate: Fate,
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
    /// In the order of the lane; the first is open.
    posts: VecDeque<Post>,
    /// Of them: open.
    open: usize,
    /// Number of the first of them.
    first_post: u64,
    /// Posts that wait to be tried again, and when.
    retries: Vec<(u64, u64)>,
    connections: Vec<Slot>,
    report: HttpAnalyzerReport,
}

/// Links that ended and are still reported. Reports go out ten times a second; so many do not end in between,
/// except when everything does.
const ENDED_MAX: usize = 16;

/// A shard's side towards analyzers over HTTP.
pub(super) struct Posts<S> {
    links: BTreeMap<LinkEpoch, HttpLink>,
    /// The last that ended, as they were then: whoever adds up would miss what came after his last look.
    ended: VecDeque<HttpAnalyzerReport>,
    connections: Slab<PostConnection<S>>,
    aside: Aside<S>,
    /// Links that may have something to post.
    pump: Vec<LinkEpoch>,
    ids: SeededIds,
}

impl<S> Posts<S> {
    pub(super) fn new(seed: u64) -> Posts<S> {
        Posts {
            links: BTreeMap::new(),
            ended: VecDeque::new(),
            connections: Slab::new(),
            aside: Aside::new(),
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
        let living = self.links.values().map(report);
        living.chain(self.ended.iter().cloned()).collect()
    }

    fn note_end(&mut self, link: &HttpLink) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(HttpAnalyzerReport {
            analyzer: link.analyzer,
            consecutive_failures: 0,
            ..link.report.clone()
        });
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
                epoch.0, crate::protocol::WeightText(entry.weight), self.index
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
        let now_ns = self.awake_ns;
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
            fate: Fate::Open,
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

    /// A post that a connection carried was not ACKed. Its request comes back when the send completes:
    /// not before then is it sent again.
    fn nack_when_sent(&mut self, slot: Slot, epoch: LinkEpoch, number: u64, nack: Nack) {
        match self.posts.connections.get_mut(slot) {
            Some(connection) if connection.sending => connection.nack = Some((number, nack)),
            _ => self.post_not_acked(epoch, number, nack),
        }
    }

    fn post_not_acked(&mut self, epoch: LinkEpoch, number: u64, nack: Nack) {
        match nack {
            Nack::Failed(why) => self.post_failed(epoch, number, &why),
            Nack::Refused(status) => self.post_refused(epoch, number, status),
            Nack::Stale => {
                if let Some(link) = self.posts.links.get_mut(&epoch) {
                    link.retries.push((number, self.awake_ns));
                }
            }
        }
        self.posts.want_pump(epoch);
    }

    /// A post has been ACKed, or refused and set aside: what is through from the front on is through in
    /// the lane.
    fn post_through(&mut self, epoch: LinkEpoch, number: u64, fate: Fate) {
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        let post = link.post_mut(number);
        if let Some(post) = post.filter(|post| post.fate == Fate::Open) {
            post.fate = fate;
            post.request = Vec::new();
            link.open -= 1;
            match fate {
                Fate::Refused => link.report.refused += 1,
                _ => link.report.acked += 1,
            }
        }
        let lane = self.engine.lane_of(epoch);
        while let Some(post) = link.posts.front() {
            match (post.fate, lane) {
                (Fate::Open, _) => break,
                (_, None) => {}
                (Fate::Acked, Some(lane)) => self.engine.acked(lane, post.messages, self.now_ns),
                (Fate::Refused, Some(lane)) => {
                    self.engine.refused(lane, post.messages, self.now_ns);
                }
            }
            link.posts.pop_front();
            link.first_post += 1;
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
            // A roster that is on its way has it still: no shard opens a link to it again.
            self.shared.desk.forget_target(generation);
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
            .push((number, self.awake_ns.saturating_add(pause_ns)));
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
        self.posts.note_end(&link);
        self.engine.counters.links_down += 1;
        if let Some(lane) = self.engine.lane_of(epoch) {
            let mut before = 0;
            for post in &link.posts {
                if post.fate != Fate::Open {
                    let is_refused = post.fate == Fate::Refused;
                    self.engine.through(lane, before, post.messages, is_refused);
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
        let now_ns = self.awake_ns;
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
