//! Analyzers over HTTP: records out of their lanes go as POSTs over a pool of connections.
//!
//! ```text
//! lane -> records -> posts  [ through | on its way | through | to be tried again | on its way ]
//!                      ^ ACKed up to here: posts end in any order, a lane is ACKed from its front
//! post -> idle connection, or a new one while the pool has room
//!      <- 2xx: ACKed             <- 4xx, 3xx, no answer of HTTP: another analyzer, then aside (posts/refused.rs)
//!      <- 408, 425, 429: nothing for a while, then again
//!      <- anything else, or silence: again, later; too often: the analyzer is down
//!      <- nobody listens there: the analyzer is down
//! ```
//!
//! A post has the lane's number of its first message: one that is halved (413) becomes two.
//!
//! A post keeps its request until it is done, so that it can be sent again: at most as many requests as
//! the pool has connections, each of at most the largest frame.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::hops;
use super::mesh::{Mesh, Message};
use super::operator::HttpTarget;
use super::port::Io;
use super::shared::HttpAnalyzerReport;
use super::slab::{Slab, Slot};
use super::worker::Worker;
use weir_engine::{Change, LinkEpoch, Passed, Reach, Roster};
use weir_http as http;
use weir_http::{AnswerHead, Ids, SeededIds};
use weir_protocol::record::Record;
use weir_protocol::text::{Field, Quoted};
use weir_protocol::WeightText;

mod aside;
mod bytes;
mod connections;
mod refused;

use aside::Aside;
pub use aside::{open_refused, refused_file_name};
use bytes::{join_frames, write_request, Envelope};
use connections::{End, PostConnection, Stage};

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Acked,
    /// By all analyzers that were asked; it is set aside.
    Refused,
    /// By this analyzer; another has it.
    Moved,
}

/// Why a post was not ACKed.
enum Nack {
    /// The connection had been closed before the analyzer saw the request: no failure of its.
    Stale,
    Failed(String),
    /// The connection broke: the first time it is tried again at once.
    Lost(String),
    /// Nobody listens at the analyzer's address.
    Gone(String),
    /// 4xx: this analyzer does not take the packet.
    Refused(u16),
    /// A redirect, a status that HTTP does not have, or what cannot be read, and its description.
    Odd(u16, String),
    /// It asks for patience, and for how long; whether that counts as a failure.
    Patience(AnswerHead, bool),
}

/// One packet on its way.
struct Post {
    messages: u64,
    /// Last message of the lane's unit that it is, or is a part of: units are through as a whole.
    unit_end: u64,
    /// Head and body; with the kernel while it is sent, empty when it is through.
    request: Vec<u8>,
    fate: Fate,
    /// Times that it failed.
    failures: u32,
    /// Times that every analyzer was asked.
    rounds: u32,
    /// Which of the link's requests carried it last; 0: none has.
    sent_as: u64,
    /// Requests that had gone to this analyzer when this post began to wait for it to be mended.
    waits_since: Option<u64>,
    /// It was sent, and no answer said that it was not taken.
    maybe_taken: bool,
}

/// This shard's way to one analyzer.
pub(super) struct HttpLink {
    generation: u64,
    analyzer: u32,
    target: Arc<HttpTarget>,
    /// Bytes of the lane that are in no post yet, from `read` on.
    unposted: Vec<u8>,
    read: usize,
    /// By the lane's number of their first message.
    posts: BTreeMap<u64, Post>,
    /// Of them: open.
    open: usize,
    /// Number of the next one.
    next_post: u64,
    /// The units up to this message are through.
    taken_until: u64,
    /// Posts that wait to be tried again, and when.
    retries: Vec<(u64, u64)>,
    /// Posts that were refused and wait for room in another lane, and their statuses.
    homeless: Vec<(u64, u16)>,
    /// Nothing is sent to it before this; 0: at once.
    paused_until_ns: u64,
    /// The newest request, by number, whose post it took.
    taken_newest: u64,
    /// Times that it asked for patience since it took a POST.
    patience: u32,
    /// What was said of its answers that are none of HTTP.
    odd_said: Option<String>,
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
    /// What this distributor calls itself on its requests.
    pub(super) pseudonym: String,
    /// Moves of analyzers that were looked at.
    moves_seen: u64,
}

impl<S> Posts<S> {
    pub(super) fn new(seed: u64, instance: u64) -> Posts<S> {
        Posts {
            links: BTreeMap::new(),
            ended: VecDeque::new(),
            connections: Slab::new(),
            aside: Aside::new(),
            pump: Vec::new(),
            ids: SeededIds::from_u64(seed),
            pseudonym: hops::pseudonym(instance),
            moves_seen: 0,
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

    fn is_open(&self, epoch: LinkEpoch, number: u64) -> bool {
        let post = self
            .links
            .get(&epoch)
            .and_then(|link| link.posts.get(&number));
        post.is_some_and(|post| post.fate == Fate::Open && !post.request.is_empty())
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
                "analyzer up link={} analyzer={} dialect=http weight={} address={address} shard={}",
                epoch.0,
                Field(name),
                WeightText(entry.weight),
                self.index
            );
            self.engine.counters.links_up += 1;
            let link = HttpLink {
                generation,
                analyzer: entry.analyzer,
                target,
                unposted: Vec::new(),
                read: 0,
                posts: BTreeMap::new(),
                open: 0,
                next_post: 1,
                taken_until: 0,
                retries: Vec::new(),
                homeless: Vec::new(),
                paused_until_ns: 0,
                taken_newest: 0,
                patience: 0,
                odd_said: None,
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
        if link.paused_until_ns > now_ns {
            return false;
        }
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
        debug_assert!(self.posts.is_open(epoch, number), "it can be sent");
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
        let limits = self.config.http.joined;
        let messages = record.messages() as u64; // a packet's
        let mut request = Vec::new();
        let mut left = rest.len();
        let messages = match (record.body(), record.packet_id(), record.emitter_id()) {
            (Some(body), Some(packet), Some(emitter)) => {
                let envelope = Envelope {
                    via: &self.posts.pseudonym,
                    hops: record.hops(),
                    packet,
                    emitter,
                };
                write_request(&mut request, &link.target, &envelope, body);
                messages
            }
            _ => {
                let now = http::iso8601(self.io.unix_ms());
                let joined = join_frames(
                    &link.unposted[link.read..],
                    limits,
                    &mut self.posts.ids,
                    &now,
                );
                let (packet, rest) = joined?;
                left = rest;
                let envelope = Envelope {
                    via: &self.posts.pseudonym,
                    hops: 0,
                    packet: std::str::from_utf8(&packet.packet_id).unwrap_or_default(),
                    emitter: packet.emitter_id,
                };
                write_request(&mut request, &link.target, &envelope, &packet.body);
                packet.messages as u64 // a few
            }
        };
        link.read = link.unposted.len() - left;
        link.open += 1;
        let number = link.next_post;
        link.next_post += messages;
        let rounds = self.engine.lane_of(epoch);
        let rounds = rounds.map_or(0, |lane| self.engine.rounds(lane, number));
        let post = Post {
            messages,
            unit_end: number + messages - 1,
            request,
            fate: Fate::Open,
            failures: 0,
            rounds,
            sent_as: 0,
            waits_since: None,
            maybe_taken: false,
        };
        link.posts.insert(number, post);
        Some(number)
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
            let bytes = weir_engine::Memory::read(self.engine.memory(), range.span);
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
        if matches!(nack, Nack::Refused(_) | Nack::Patience(..)) {
            let link = self.posts.links.get_mut(&epoch);
            if let Some(post) = link.and_then(|link| link.post_mut(number)) {
                post.maybe_taken = false;
            }
        }
        match nack {
            Nack::Failed(why) => self.post_failed(epoch, number, &why, None),
            Nack::Lost(why) => self.post_failed(epoch, number, &why, Some(self.awake_ns)),
            Nack::Gone(why) => self.give_up(epoch, &why),
            Nack::Refused(status) => self.post_refused(epoch, number, status),
            Nack::Odd(status, why) => self.post_odd(epoch, number, status, why),
            Nack::Patience(head, is_failure) => {
                self.post_put_off(epoch, number, head, is_failure);
            }
            Nack::Stale => {
                if let Some(link) = self.posts.links.get_mut(&epoch) {
                    link.retries.push((number, self.awake_ns));
                }
            }
        }
        self.posts.want_pump(epoch);
    }

    /// A post has been ACKed, or refused and moved or set aside: what is through from the front on is
    /// through in the lane.
    fn post_through(&mut self, epoch: LinkEpoch, number: u64, fate: Fate) {
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        link.report.consecutive_failures = 0;
        let post = link.post_mut(number);
        if let Some(post) = post.filter(|post| post.fate == Fate::Open) {
            post.fate = fate;
            post.request = Vec::new();
            let sent_as = post.sent_as;
            link.open -= 1;
            if fate == Fate::Acked {
                link.report.acked += 1;
                link.taken_newest = link.taken_newest.max(sent_as);
                link.patience = 0;
            }
            // One more may be in memory, also where no connection became free: what was refused found its home.
            self.posts.want_pump(epoch);
        }
        let Some(link) = self.posts.links.get_mut(&epoch) else {
            return;
        };
        let Some(lane) = self.engine.lane_of(epoch) else {
            return;
        };
        while let Some((messages, fate)) = link.take_front() {
            match fate {
                Fate::Refused => self.engine.refused(lane, messages, self.now_ns),
                Fate::Moved => self.engine.moved_past(lane, messages, self.now_ns),
                Fate::Acked | Fate::Open => self.engine.acked(lane, messages, self.now_ns),
            }
        }
    }

    /// A post was not ACKed: again, after a pause that doubles, or the first time at `soon_ns`; too often,
    /// and the analyzer is down.
    fn post_failed(&mut self, epoch: LinkEpoch, number: u64, why: &str, soon_ns: Option<u64>) {
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
            Field(&link.target.name),
            http.push_retries + 1
        );
        if failures > http.push_retries {
            let why = format!("POST failed {failures} times: {why}");
            self.give_up(epoch, &why);
            return;
        }
        let at_ns = match soon_ns {
            Some(at_ns) if failures == 1 => at_ns,
            _ => self.awake_ns.saturating_add(self.pause_ns(failures)),
        };
        self.retry(epoch, number, at_ns);
    }

    fn retry(&mut self, epoch: LinkEpoch, number: u64, at_ns: u64) {
        if let Some(link) = self.posts.links.get_mut(&epoch) {
            link.retries.push((number, at_ns));
            self.posts.want_pump(epoch);
        }
    }

    /// The pause before the n-th try after the first.
    fn pause_ns(&mut self, nth: u32) -> u64 {
        let pause = self
            .config
            .http
            .backoff
            .saturating_mul(1 << (nth - 1).min(16));
        // Full jitter over the upper half, so that analyzers that failed together are not met together.
        let [jitter, ..] = self.posts.ids.next();
        let part = 0.5 + f64::from(jitter) / 512.0;
        u64::try_from(pause.mul_f64(part).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The analyzer is down, and all shards shall know.
    fn give_up(&mut self, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.posts.links.get(&epoch) else {
            return;
        };
        let generation = link.generation;
        self.http_link_down(epoch, why);
        // A roster that is on its way has it still: no shard opens a link to it again.
        self.shared.desk.forget_target(generation);
        let change = Change::HttpDown { generation };
        self.mesh.post(0, Message::Change(change));
    }

    /// The analyzer is down: what it has not ACKed goes to others.
    fn http_link_down(&mut self, epoch: LinkEpoch, why: &str) {
        let Some(link) = self.posts.links.remove(&epoch) else {
            return;
        };
        log::info!(
            "analyzer down link={} analyzer={} why={} posts={}",
            epoch.0,
            Field(&link.target.name),
            Quoted(why),
            link.posts.len()
        );
        self.posts.note_end(&link);
        self.engine.counters.links_down += 1;
        if let Some(lane) = self.engine.lane_of(epoch) {
            let mut before = 0;
            for post in link.posts.values() {
                let passed = match post.fate {
                    Fate::Open => None,
                    Fate::Acked => Some(Passed::Acked),
                    Fate::Refused => Some(Passed::Refused),
                    Fate::Moved => Some(Passed::Moved),
                };
                if let Some(passed) = passed {
                    self.engine.through(lane, before, post.messages, passed);
                }
                before += post.messages;
            }
        }
        self.ended.push(epoch);
        for slot in link.connections {
            self.close_post_connection(slot, End::Fault, why);
        }
    }

    /// Analyzers that are at another address by now: their idle connections are closed, the others when they
    /// have been answered.
    fn follow_moves(&mut self) {
        let moves = self.shared.desk.target_moves();
        if moves == std::mem::replace(&mut self.posts.moves_seen, moves) {
            return;
        }
        let mut left = Vec::new();
        for link in self.posts.links.values_mut() {
            let Some(target) = self.shared.desk.target(link.generation) else {
                continue;
            };
            if target.address != link.target.address {
                link.target = target;
                left.extend(link.connections.iter().copied());
            }
        }
        for slot in left {
            let connection = self.posts.connections.get(slot);
            if connection.is_some_and(|connection| connection.stage == Stage::Idle) {
                self.close_post_connection(slot, End::Over, "the analyzer has moved");
            }
        }
    }

    /// Posts that get no answer, and those whose pause is over.
    pub(super) fn check_posts(&mut self) {
        self.follow_moves();
        let timeout = self.live.http.push_timeout;
        let pool = usize::from(self.config.http.pool_connections);
        let now_ns = self.awake_ns;
        let late = |connection: &PostConnection<I::Socket>| {
            let since = Duration::from_nanos(now_ns.saturating_sub(connection.since_ns));
            let link = self.posts.links.get(&connection.link());
            let crowded = link.is_some_and(|link| link.connections.len() >= pool);
            connection.late(since, timeout, crowded)
        };
        let connections = self.posts.connections.iter();
        let late: Vec<(Slot, String)> = connections
            .filter_map(|(slot, connection)| Some((slot, late(connection)?)))
            .collect();
        for (slot, why) in late {
            if let Some(connection) = self.posts.connections.get_mut(slot) {
                connection.is_used = false; // silence is a failure
            }
            self.close_post_connection(slot, End::Fault, &why);
        }
        self.end_long_pauses();
        self.end_pauses();
        self.find_homes();
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
        self.posts.get_mut(&number)
    }

    /// Takes the oldest post out if it is through: its messages and its fate. A unit goes as a whole.
    fn take_front(&mut self) -> Option<(u64, Fate)> {
        let (first, post) = self.posts.first_key_value()?;
        if *first > self.taken_until {
            let unit = (Bound::Included(*first), Bound::Included(post.unit_end));
            let mut parts = self.posts.range(unit);
            if parts.any(|(_, part)| part.fate == Fate::Open) {
                return None;
            }
            self.taken_until = post.unit_end;
        }
        let (_, post) = self.posts.pop_first()?;
        Some((post.messages, post.fate))
    }
}
