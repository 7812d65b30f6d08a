//! What the control side asks of the shards, and what the shards ask of it. Nothing of it is on the
//! path of a message.
//!
//! ```text
//! operator thread -- Order ----> commands, wake --> shard 0's registrar --> roster to all shards
//!                 <- result ----'
//! shard -- Question (anything over HTTP but POST /logs) --> control thread
//!       <-- Reply, in pieces if it streams -- replies, wake
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::local::At;
use super::refused::{RefusedCounts, RefusedPackets};
use super::shared::{Live, ShardReport, Shared};
use super::tap::TappedMessage;
use weir_clock::Limit;
use weir_engine::{Order, OrderError};
use weir_http::Ask;
use weir_protocol::text::Time;
use weir_sink::outlet::OutletOptions;
use weir_sink::request::RequestOptions;
use weir_sink::Sink;
use weir_tls::SecuredLink;

/// Orders that may wait for shard 0; it takes them every turn.
const COMMANDS_MAX: usize = 1024;
/// Questions that may wait for the control thread; beyond, the shard answers 503 itself.
const QUESTIONS_MAX: usize = 1024;
/// Shard 0 answers within a turn; when it does not, something is wrong with it.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum OrderRefused {
    /// What it asks for cannot be done.
    Order(OrderError),
    /// Too many wait already.
    Busy,
    /// The shards did not answer; the order may still be carried out.
    NoAnswer,
    /// The id of an analyzer over HTTP is another's, who is named.
    InUse(String),
}

impl fmt::Display for OrderRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OrderRefused::Order(error) => error.fmt(f),
            OrderRefused::Busy => write!(f, "{COMMANDS_MAX} orders wait already"),
            OrderRefused::InUse(holder) => write!(f, "its id is in use by {holder}"),
            OrderRefused::NoAnswer => {
                write!(f, "no answer from shard 0 within {}", Time(ORDER_TIMEOUT))
            }
        }
    }
}

impl std::error::Error for OrderRefused {}

/// What became of an order: the epoch of the roster that has it.
pub type OrderDone = Result<u64, OrderError>;

/// An order on its way, and where its result goes.
pub(super) struct Command {
    pub(super) order: Order,
    pub(super) result: SyncSender<OrderDone>,
}

/// Where an analyzer over HTTP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Its id.
    pub name: Arc<str>,
    /// Where it is.
    pub at: At,
    /// For the Host header: name and port as configured.
    pub host: String,
    /// Path before `/logs`; empty or with a leading slash, without one at its end.
    pub path: String,
    /// What it takes.
    pub sink: Sink,
    /// What its outlet is told, if it has one.
    pub outlet: Arc<OutletOptions>,
    /// Messages say there what they are and where they came from.
    pub forms: bool,
    /// What its requests are made with, if it takes such.
    pub request: Arc<RequestOptions>,
    /// How TLS is begun with it, if it is spoken there.
    pub secured: Option<Arc<SecuredLink>>,
}

/// A request that a shard leaves to the control side.
#[derive(Debug)]
pub struct Question {
    /// Shard that asks.
    pub shard: u16,
    /// Which connection, and which of its requests: names it to the shard.
    pub(super) token: u64,
    /// What is asked.
    pub ask: Ask,
    /// The connection stays after the answer.
    pub keep_alive: bool,
}

/// A piece of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) token: u64,
    pub(super) bytes: Vec<u8>,
    /// Nothing follows.
    pub(super) is_last: bool,
    /// A newer one will follow: not for a client that has not taken what was sent before.
    pub(super) is_newest: bool,
}

/// Replies on their way to one shard.
#[derive(Default)]
struct Replies {
    waiting: Mutex<VecDeque<Reply>>,
    any: AtomicBool,
}

/// What both sides share.
pub(super) struct ControlPort {
    commands: Mutex<VecDeque<Command>>,
    any_commands: AtomicBool,
    targets: Mutex<BTreeMap<u64, Arc<HttpTarget>>>,
    /// How often one of them moved.
    target_moves: AtomicU64,
    generations: AtomicU64,
    /// Where they go, and who is woken for each.
    questions: Mutex<Option<(SyncSender<Question>, Waker)>>,
    replies: Vec<Replies>,
}

impl ControlPort {
    pub(super) fn new(shards: usize) -> ControlPort {
        ControlPort {
            commands: Mutex::default(),
            any_commands: AtomicBool::new(false),
            targets: Mutex::default(),
            target_moves: AtomicU64::new(0),
            generations: AtomicU64::new(0),
            questions: Mutex::default(),
            replies: (0..shards).map(|_| Replies::default()).collect(),
        }
    }

    /// Shard 0: orders have come.
    pub(super) fn has_commands(&self) -> bool {
        self.any_commands.load(Ordering::Acquire)
    }

    pub(super) fn take_commands(&self) -> VecDeque<Command> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        self.any_commands.store(false, Ordering::Release);
        std::mem::take(&mut commands)
    }

    pub(super) fn target(&self, generation: u64) -> Option<Arc<HttpTarget>> {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(&generation).cloned()
    }

    /// How often an analyzer has moved to another address.
    pub(super) fn target_moves(&self) -> u64 {
        self.target_moves.load(Ordering::Acquire)
    }

    /// It is down: shards open no links to it any more.
    pub(super) fn forget_target(&self, generation: u64) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.remove(&generation);
    }

    /// Leaves a question; given back when nobody takes it, or too many wait.
    pub(super) fn ask(&self, question: Question) -> Result<(), Box<Question>> {
        let questions = self
            .questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((sender, waker)) = questions.as_ref() else {
            return Err(Box::new(question));
        };
        sender.try_send(question).map_err(|error| match error {
            TrySendError::Full(question) | TrySendError::Disconnected(question) => {
                Box::new(question)
            }
        })?;
        waker.wake_by_ref();
        Ok(())
    }

    pub(super) fn has_replies(&self, shard: usize) -> bool {
        self.replies[shard].any.load(Ordering::Acquire)
    }

    pub(super) fn take_replies(&self, shard: usize) -> VecDeque<Reply> {
        let replies = &self.replies[shard];
        let mut waiting = replies
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        replies.any.store(false, Ordering::Release);
        std::mem::take(&mut waiting)
    }
}

/// Controls running shards, from any thread.
#[derive(Clone)]
pub struct Operator {
    pub(super) shared: Arc<Shared>,
}

impl Operator {
    /// Of a distributor's shards.
    pub fn new(shared: Arc<Shared>) -> Operator {
        Operator { shared }
    }

    /// Newest report of each shard; a tenth of a second old at most.
    pub fn reports(&self) -> Vec<ShardReport> {
        self.shared.reports(ShardReport::clone)
    }

    /// Carries out an order. Returns the epoch of the roster that has it: a shard follows it as soon
    /// as its report's roster has that epoch or a later one.
    ///
    /// # Errors
    /// What cannot be done, or nobody answers.
    pub fn order(&self, order: Order) -> Result<u64, OrderRefused> {
        let answer = self.order_later(order)?;
        let mut limit = Limit::new(ORDER_TIMEOUT);
        while let Some(slice) = limit.slice() {
            match answer.recv_timeout(slice) {
                Ok(done) => return done.map_err(OrderRefused::Order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(OrderRefused::NoAnswer)
    }

    /// Leaves an order for shard 0; what became of it comes out of the channel.
    ///
    /// # Errors
    /// Too many wait already.
    pub fn order_later(&self, order: Order) -> Result<Receiver<OrderDone>, OrderRefused> {
        let (result, answer) = sync_channel(1);
        {
            let control_port = &self.shared.control_port;
            let mut commands = control_port
                .commands
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if commands.len() >= COMMANDS_MAX {
                return Err(OrderRefused::Busy);
            }
            commands.push_back(Command { order, result });
            control_port.any_commands.store(true, Ordering::Release);
        }
        if let Some(wake) = self.shared.wakes.first() {
            wake.wake();
        }
        Ok(answer)
    }

    /// An analyzer over HTTP can be reached: shards connect and route to it. Returns its generation,
    /// which [`Operator::http_down`] takes, and a roster's entry names.
    ///
    /// # Errors
    /// As [`Operator::order`].
    pub fn http_up(&self, target: HttpTarget, weight: f64) -> Result<u64, OrderRefused> {
        if let Some(in_use) = self.shared.names.holder(&target.name) {
            return Err(OrderRefused::InUse(in_use.holder));
        }
        let (name, sink) = (Arc::clone(&target.name), target.sink);
        // Before: shards may give it up again before the order is answered.
        self.shared.names.http_up(&name);
        let generation = self.announce(target);
        let ordered = self.order(Order::HttpUp {
            name,
            sink,
            weight,
            generation,
        });
        // Without an answer it may still be carried out, and shards would look for it.
        if matches!(ordered, Err(OrderRefused::Order(_) | OrderRefused::Busy)) {
            self.shared.control_port.forget_target(generation);
        }
        ordered.map(|_| generation)
    }

    /// It is at another address by now: POSTs go there as soon as each shard has looked, a tenth of a second.
    /// Those under way end where they are.
    pub fn http_move(&self, generation: u64, target: HttpTarget) {
        let control_port = &self.shared.control_port;
        let mut targets = control_port
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = targets.get_mut(&generation) {
            *known = Arc::new(target);
            control_port.target_moves.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Tells the shards where an analyzer over HTTP is, before the order that it is up. Its generation.
    pub fn announce(&self, target: HttpTarget) -> u64 {
        let control_port = &self.shared.control_port;
        let generation = control_port.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let mut targets = control_port
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        targets.insert(generation, Arc::new(target));
        generation
    }

    /// It is down, or about to be: no shard opens links to it any more.
    pub fn forget(&self, generation: u64) {
        self.shared.control_port.forget_target(generation);
    }

    /// An analyzer over HTTP is configured: from now on its id is nobody else's. Who has it already, if anybody
    /// does, keeps it; the analyzer comes up when he has gone.
    pub fn claim(&self, id: &Arc<str>, endpoint: String) -> Option<String> {
        let in_use = self.shared.names.http_added(id, endpoint);
        in_use.map(|in_use| in_use.holder)
    }

    /// It is not any more.
    pub fn unclaim(&self, id: &str) {
        self.shared.names.http_removed(id);
    }

    /// Whom the certificates name of analyzers that are connected and have shown one, by the names of the analyzers.
    pub fn certificates(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.shared.names.certificates()
    }

    /// Why shards gave up analyzers over HTTP that have not come up since, by the names of the analyzers.
    pub fn why_down(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        self.shared.names.why_down()
    }

    /// It cannot be reached any more: what it has not ACKed goes to others.
    ///
    /// # Errors
    /// As [`Operator::order`].
    pub fn http_down(&self, generation: u64) -> Result<u64, OrderRefused> {
        let epoch = self.order(Order::HttpDown { generation });
        self.forget(generation);
        epoch
    }

    /// Packets that nobody took and that are in no file.
    pub fn refused(&self) -> RefusedPackets {
        self.shared.refused.look()
    }

    /// How many those are.
    pub fn refused_counts(&self) -> RefusedCounts {
        self.shared.refused.counts()
    }

    /// The settings that are in force.
    pub fn live(&self) -> Live {
        (*self.shared.live().1).clone()
    }

    /// Puts other settings in force; shards take them over within a tenth of a second.
    pub fn set_live(&self, live: Live) {
        self.shared.set_live(live);
    }

    /// The questions of all shards, from now on; for one thread that answers them, and is woken for each.
    pub fn questions(&self, waker: Waker) -> Receiver<Question> {
        let (sender, receiver) = sync_channel(QUESTIONS_MAX);
        let questions = &self.shared.control_port.questions;
        *questions.lock().unwrap_or_else(PoisonError::into_inner) = Some((sender, waker));
        receiver
    }

    /// Answers a question with a whole HTTP response, or pieces of one.
    pub fn reply(&self, question: &Question, bytes: Vec<u8>, is_last: bool) {
        self.leave(question, bytes, is_last, false);
    }

    /// A piece that is left out while the client has not taken the one before: a newer one will follow.
    pub fn reply_newest(&self, question: &Question, bytes: Vec<u8>) {
        self.leave(question, bytes, false, true);
    }

    fn leave(&self, question: &Question, bytes: Vec<u8>, is_last: bool, is_newest: bool) {
        let shard = usize::from(question.shard);
        let replies = &self.shared.control_port.replies[shard];
        {
            let mut waiting = replies
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            waiting.push_back(Reply {
                token: question.token,
                bytes,
                is_last,
                is_newest,
            });
            replies.any.store(true, Ordering::Release);
        }
        self.shared.wakes[shard].wake();
    }

    /// Wants so many messages a second from now on, of all shards together. Whoever looked before does no
    /// more: a client that has died without a word locks nobody out. Returns the number of this look.
    pub fn begin_tap(&self, rate: u32) -> u64 {
        self.shared.tap.begin(rate)
    }

    /// What has passed since the last call, or a part of it; none: somebody else looks now.
    pub fn tapped(&self, look: u64) -> Option<Vec<TappedMessage>> {
        self.shared.tap.take(look)
    }

    /// Nobody looks any more, unless somebody else does.
    pub fn end_tap(&self, look: u64) {
        self.shared.tap.end(look);
    }
}
