//! Analyzers over HTTP: records out of their lanes go as POSTs over a pool of connections.
//!
//! ```text
//! lane -> records -> posts  [ through | on its way | through | to be tried again | on its way ]
//!                      ^ ACKed up to here: posts end in any order, a lane is ACKed from its front
//! post -> idle connection, or a new one while the pool has room
//!      <- 2xx: ACKed             <- 4xx, 3xx, no answer of HTTP: another analyzer, then aside (refused.rs)
//!      <- 408, 425, 429: nothing for a while, then again
//!      <- anything else, or silence: again, later; too often: the analyzer is down
//!      <- nobody listens there: the analyzer is down
//! ```
//!
//! A post has the lane's number of its first message: one that is halved (413) becomes two.
//!
//! A packet keeps its request until it is done, so that it can be sent again: at most as many requests as
//! the pool has connections, each of at most the largest frame. A request in another format is kept until it is sent;
//! if it is wanted again it is made again, out of the lane.
//!
//! ```text
//! pump.rs      lane -> records -> posts -> connections    answers.rs  what a connection brings, what that means
//! draft.rs     a request in another format than packets   items.rs    answers that say more than a status
//! links.rs     analyzers come and go                      refused.rs  4xx and their like; dead_letter.rs: set aside
//! through.rs   from the front on, and tried again         check.rs    what takes too long
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::hops;
use crate::operator::HttpTarget;
use crate::port::Io;
use crate::shared::HttpAnalyzerReport;
use crate::slab::{Slab, Slot};
use crate::spare::Spare;
use weir_engine::{LinkEpoch, Transmit};
use weir_http::{AnswerHead, ResponseReader, SeededIds};
use weir_sink::request::{Format, Reply, Verdict};

mod answers;
mod bytes;
mod check;
mod connection;
pub(crate) mod dead_letter;
mod draft;
mod items;
mod links;
mod pump;
mod refused;
#[cfg(test)]
mod tests;
mod through;

/// Stands for the status where there is none that could be read.
const UNREADABLE: u16 = 0;

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Open,
    Acked,
    /// By all analyzers that were asked; it is set aside.
    Refused,
    /// By this analyzer; another has it.
    Moved,
}

/// What became of a post on its connection.
enum Ending {
    /// Its answer says that it was taken.
    Acked(u16),
    /// The connection had been closed before the analyzer saw the request: no failure of its.
    Stale,
    Failed(String),
    /// The connection broke: the first time it is tried again at once, the second time soon.
    Lost(String),
    /// Nobody listens at the analyzer's address.
    Gone(String),
    /// 4xx: this analyzer does not take the packet.
    Refused(u16),
    /// A redirect, a status that HTTP does not have, or what cannot be read, and its description.
    Odd(u16, String),
    /// It was taken, but for what its answer says.
    Judged(AnswerHead, Verdict),
    /// It asks for a retry, and after how long; whether that counts as a failure.
    RetryLater(AnswerHead, bool),
}

/// One packet on its way.
struct Post {
    messages: u64,
    /// Last message of the lane's unit that it is, or is a part of: units are through as a whole.
    unit_end: u64,
    /// Head and body; with the kernel while it is sent, empty when it is through, or can be made again.
    request: Vec<u8>,
    /// When it was made, in milliseconds since 1970: made again it says the same. 0: it was not.
    made_ms: u64,
    outcome: Outcome,
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
    /// Runs of its messages that have arrived while others have not, in order: where they begin in it, from 0, and how
    /// many.
    arrived: Vec<(u64, u64)>,
    /// Messages that are set aside in its place, first and how many: those of the request that it was a part of.
    aside: Option<(u64, u64)>,
    /// Its last refusal blames it, and not the analyzer.
    is_at_fault: bool,
}

impl Post {
    /// One that was not sent yet, of so many messages.
    fn new(messages: u64, unit_end: u64, request: Vec<u8>, rounds: u32) -> Post {
        Post {
            messages,
            unit_end,
            request,
            made_ms: 0,
            outcome: Outcome::Open,
            failures: 0,
            rounds,
            sent_as: 0,
            waits_since: None,
            maybe_taken: false,
            arrived: Vec::new(),
            aside: None,
            is_at_fault: false,
        }
    }
}

/// This shard's way to one analyzer.
struct HttpLink {
    generation: u64,
    analyzer: u32,
    target: Arc<HttpTarget>,
    /// A range of the lane whose records are in no post yet, from `offset` on: those of formats.
    range: Option<(Transmit, u32)>,
    /// Bytes of the lane that are in no post yet, from `read` on: those of packets; of formats the beginning of a record
    /// whose rest lies in the next range.
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
    /// Times in a row that it asked for a retry instead of taking a POST.
    retry_requests: u32,
    /// What was said of its answers that are none of HTTP.
    odd_said: Option<String>,
    connections: Vec<Slot>,
    /// How its requests are written; none: packets.
    format: Option<Format>,
    /// Names it to an analyzer whose answers are asked for by number; empty: it is none.
    channel: String,
    /// Numbers of answers that are asked for, the posts that they are of, and since when.
    numbered: BTreeMap<u64, (u64, u64)>,
    /// When it was asked last.
    polled_ns: u64,
    report: HttpAnalyzerReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Idle,
    Sending,
    /// Sent; the answer is awaited.
    Answering,
    /// Answered; the rest of the answer's body is thrown away.
    Draining,
    /// Waits for the kernel to be through with it.
    Closing,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Silence, or no connection.
    Fault,
    /// What came is no answer.
    Unreadable,
    /// The peer closed or reset it.
    Lost,
    /// Nobody listens at its address.
    Gone,
    /// It is not needed any more.
    Over,
}

/// A connection to an analyzer.
struct PostConnection<S> {
    socket: S,
    link: LinkEpoch,
    /// Where it leads.
    address: SocketAddr,
    stage: Stage,
    /// Number of the post that it carries.
    post: Option<u64>,
    reader: ResponseReader,
    /// Reads the body of the answer, if the status is not all.
    reply: Option<Reply>,
    /// It has been answered on before: it may have been closed meanwhile.
    is_used: bool,
    receiving: bool,
    sending: bool,
    connecting: bool,
    /// Number of the post whose request the kernel has.
    carried: Option<u64>,
    /// That post was not ACKed, but the kernel still has its request.
    ending: Option<(u64, Ending)>,
    since_ns: u64,
}

/// A refused packet whose line is being written, or waits for that.
struct Line {
    link: LinkEpoch,
    post: u64,
    status: u16,
    /// It is no post of ours: a message that an analyzer with an outlet refused, as a packet.
    foreign: Option<Foreign>,
}

/// A packet that lies with nobody else.
struct Foreign {
    analyzer: Arc<str>,
    packet: Vec<u8>,
}

/// The place for refused packets: one line at a time, the others wait. At most as many as posts are open.
struct DeadLetters<S> {
    file: Option<S>,
    writing: Slab<Line>,
    waiting: VecDeque<Line>,
    /// Messages of outlets that are set aside: link and message.
    set_aside: Vec<(LinkEpoch, u64)>,
    /// The file ends within a line, of this run or an earlier one: the next begins on a line of its own.
    is_torn: bool,
    /// Of this second's refusals only the first of each end is logged.
    logged: [Logged; 5],
}

/// What became of a refused packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    Moved,
    /// Nobody takes it, and that may be their fault.
    Waits,
    InFile,
    InMemory,
    /// There is a file, and it is in memory all the same.
    NotInFile,
}

#[derive(Clone, Copy, Default)]
struct Logged {
    at_ns: u64,
    unlogged: u64,
}

impl<S> DeadLetters<S> {
    fn new() -> DeadLetters<S> {
        DeadLetters {
            file: None,
            writing: Slab::new(),
            waiting: VecDeque::new(),
            set_aside: Vec::new(),
            is_torn: false,
            logged: [Logged::default(); 5],
        }
    }
}

/// Links that ended and are still reported. Reports go out ten times a second; so many do not end in between,
/// except when everything does.
const ENDED_MAX: usize = 16;

/// A shard's side towards analyzers over HTTP.
pub(super) struct HttpEgress<I: Io> {
    links: BTreeMap<LinkEpoch, HttpLink>,
    /// The last that ended, as they were then: whoever adds up would miss what came after his last look.
    ended: VecDeque<HttpAnalyzerReport>,
    connections: Slab<PostConnection<I::Socket>>,
    dead_letters: DeadLetters<I::Socket>,
    /// Links that may have something to post.
    pump: Vec<LinkEpoch>,
    /// For requests.
    spare: Spare,
    ids: SeededIds,
    /// Random number of this run.
    instance: u64,
    /// What this distributor calls itself on its requests.
    pseudonym: String,
    /// Moves of analyzers that were looked at.
    moves_seen: u64,
}

impl<I: Io> HttpEgress<I> {
    pub(crate) fn new(seed: u64, instance: u64) -> HttpEgress<I> {
        HttpEgress {
            links: BTreeMap::new(),
            ended: VecDeque::new(),
            connections: Slab::new(),
            dead_letters: DeadLetters::new(),
            pump: Vec::new(),
            spare: Spare::default(),
            ids: SeededIds::from_u64(seed),
            instance,
            pseudonym: hops::pseudonym(instance),
            moves_seen: 0,
        }
    }

    /// What the shard reports of each analyzer.
    pub(crate) fn reports(&self) -> Vec<HttpAnalyzerReport> {
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
    pub(crate) fn link_of(&self, generation: u64) -> Option<LinkEpoch> {
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| link.generation == generation);
        found.map(|(epoch, _)| *epoch)
    }

    /// A link may have something to post.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pump.is_empty()
    }

    fn is_open(&self, epoch: LinkEpoch, number: u64) -> bool {
        let post = self
            .links
            .get(&epoch)
            .and_then(|link| link.posts.get(&number));
        post.is_some_and(|post| post.outcome == Outcome::Open && !post.request.is_empty())
    }

    fn want_pump(&mut self, epoch: LinkEpoch) {
        if !self.pump.contains(&epoch) {
            self.pump.push(epoch);
        }
    }
}

impl HttpLink {
    fn post_mut(&mut self, number: u64) -> Option<&mut Post> {
        self.posts.get_mut(&number)
    }
}
