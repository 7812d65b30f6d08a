//! What crosses cores: changes of the roster, links, whole batches for an analyzer with only one
//! link, and their ACKs. Never a message at a time.
//!
//! ```text
//! post -> outbox (bounded by windows) -> glommio channel, bounded -> inbox of the peer's turn
//!                                        Wake: count, then eventfd if it sleeps
//! ```
//!
//! A receiver is polled exactly as often as its sender has sent, so it is never pending: no glommio
//! waker is registered, and the executor need not run for a message to arrive.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_engine::{Change, LinkEpoch, Roster, Span, Window};
use weir_sink::Sink;

/// An analyzer's connection that another shard shall own.
#[derive(Debug)]
pub struct HandOver<S> {
    pub(super) socket: S,
    pub(super) sink: Sink,
    pub(super) name: Arc<str>,
    pub(super) instance: Option<u64>,
    pub(super) weight: f64,
    pub(super) window: Window,
    /// Control bytes that were read behind the first word.
    pub(super) unread: Vec<u8>,
}

/// A range of the sender's arena, to be put on the wire by the link's owner.
#[derive(Debug)]
pub struct ForwardedBatch {
    pub(super) epoch: LinkEpoch,
    pub(super) span: Span,
    pub(super) messages: u64,
    pub(super) continues: bool,
}

/// What one shard tells another.
#[derive(Debug)]
pub enum Message<S> {
    /// To shard 0, which keeps the roster.
    Change(Change),
    /// From shard 0 to all.
    Roster(Arc<Roster>),
    /// To the shard that an analyzer asked for.
    HandOver(Box<HandOver<S>>),
    /// To the owner of a link.
    ForwardedBatch(ForwardedBatch),
    /// From the owner of a link: the next `messages` of your forwarded batches are ACKed.
    Credit {
        /// The link.
        epoch: LinkEpoch,
        /// How many.
        messages: u64,
    },
    /// From the owner of a link: the next `messages` of your forwarded batches behind the ACKed ones are presumed to
    /// have arrived, see `Engine::presumed`.
    Presumed {
        /// The link.
        epoch: LinkEpoch,
        /// How many.
        messages: u64,
    },
    /// To the owner of a link: a lane of mine is full and gets no ACK.
    Stalled {
        /// The link.
        epoch: LinkEpoch,
    },
    /// From the owner of a link to all: nobody reads your forwarded batches any more.
    LinkDown {
        /// The link.
        epoch: LinkEpoch,
    },
}

/// Messages that have arrived, each with its sender.
pub type Inbox<S> = VecDeque<(usize, Message<S>)>;

/// Messages that wait to be sent: bounded by the lanes' windows.
pub struct Outbox<S> {
    /// This shard.
    pub own: usize,
    /// By receiver; nothing is queued for this shard itself here.
    pub queues: Vec<VecDeque<Message<S>>>,
    /// To this shard itself.
    pub local: VecDeque<Message<S>>,
}

impl<S> Outbox<S> {
    /// Of shard `own` of `shards`.
    pub fn new(own: usize, shards: usize) -> Outbox<S> {
        Outbox {
            own,
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            local: VecDeque::new(),
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.queues.iter().all(VecDeque::is_empty)
    }

    fn post(&mut self, to: usize, message: Message<S>) {
        if to == self.own {
            self.local.push_back(message);
        } else {
            self.queues[to].push_back(message);
        }
    }

    fn post_roster(&mut self, roster: &Arc<Roster>) {
        let newest = || Message::Roster(Arc::clone(roster));
        let queues = self.queues.iter_mut().enumerate();
        for (_, queue) in queues.filter(|(to, _)| *to != self.own) {
            queue.retain(|message| !matches!(message, Message::Roster(_)));
            queue.push_back(newest());
        }
        self.local.push_back(newest());
    }
}

/// One shard's end of the mesh. Messages from one shard to another arrive in order; nothing is said
/// about the order among shards.
pub trait Mesh<S> {
    /// What waits to be sent.
    fn outbox(&mut self) -> &mut Outbox<S>;
    /// Sends what fits and wakes the receivers.
    fn flush(&mut self);
    /// Something waits to be sent or handled.
    fn is_busy(&self) -> bool;
    /// A message has been posted to this shard and not yet been received.
    fn has_mail(&self) -> bool;

    /// Leaves a message for a shard, this one included; `flush` sends it.
    fn post(&mut self, to: usize, message: Message<S>) {
        self.outbox().post(to, message);
    }

    /// Leaves a roster for every shard, in place of an older one that has not been sent yet.
    fn post_roster(&mut self, roster: &Arc<Roster>) {
        self.outbox().post_roster(roster);
    }
}
