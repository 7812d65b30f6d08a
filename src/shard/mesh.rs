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
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use futures_lite::future::poll_once;
use glommio::channels::channel_mesh::{FullMesh, Senders};
use glommio::channels::shared_channel::ConnectedReceiver;
use glommio::{GlommioError, ResourceType};

use crate::engine::{Change, LinkEpoch, Roster, Span, Window};
use crate::protocol::Dialect;
use crate::uring::Wake;

/// Messages in flight between two shards. When full, more wait in the sender's outbox, which the
/// lanes' windows bound.
pub(super) const CHANNEL_MESSAGES: usize = 1024;

/// An analyzer's connection that another shard shall own.
#[derive(Debug)]
pub(crate) struct HandOver<S> {
    pub(super) socket: S,
    pub(super) dialect: Dialect,
    pub(super) name: Arc<str>,
    pub(super) instance: Option<u64>,
    pub(super) weight: f64,
    pub(super) window: Window,
    /// Control bytes that were read behind the first word.
    pub(super) unread: Vec<u8>,
}

/// A range of the sender's arena, to be put on the wire by the link's owner.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(super) epoch: LinkEpoch,
    pub(super) span: Span,
    pub(super) messages: u64,
    pub(super) continues: bool,
}

#[derive(Debug)]
pub(crate) enum Message<S> {
    /// To shard 0, which keeps the roster.
    Change(Change),
    /// From shard 0 to all.
    Roster(Arc<Roster>),
    /// To the shard that an analyzer asked for.
    HandOver(Box<HandOver<S>>),
    /// To the owner of a link.
    Parcel(Parcel),
    /// From the owner of a link: the next `messages` of your parcels are ACKed.
    Credit { epoch: LinkEpoch, messages: u64 },
    /// To the owner of a link: a lane of mine is full and gets no ACK.
    Stalled { epoch: LinkEpoch },
    /// From the owner of a link to all: nobody reads your parcels any more.
    LinkDown { epoch: LinkEpoch },
}

/// Messages that have arrived, each with its sender.
pub(crate) type Inbox<S> = VecDeque<(usize, Message<S>)>;

/// Messages posted from each shard to each, counted so that receivers know what is there.
pub(super) struct Postbox {
    shards: usize,
    posted: Vec<AtomicU64>,
    wakes: Vec<Arc<Wake>>,
}

impl Postbox {
    pub(super) fn new(wakes: Vec<Arc<Wake>>) -> Postbox {
        let shards = wakes.len();
        let posted = (0..shards * shards).map(|_| AtomicU64::new(0)).collect();
        Postbox {
            shards,
            posted,
            wakes,
        }
    }

    fn posted(&self, from: usize, to: usize) -> &AtomicU64 {
        &self.posted[from * self.shards + to]
    }
}

/// Messages that wait to be sent: bounded by the lanes' windows.
pub(crate) struct Outbox<S> {
    own: usize,
    /// By receiver; nothing is queued for this shard itself here.
    pub(crate) queues: Vec<VecDeque<Message<S>>>,
    /// To this shard itself.
    pub(crate) local: VecDeque<Message<S>>,
}

impl<S> Outbox<S> {
    pub(crate) fn new(own: usize, shards: usize) -> Outbox<S> {
        Outbox {
            own,
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            local: VecDeque::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
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
pub(crate) trait Mesh<S> {
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

/// The mesh between threads.
pub(crate) struct GlommioMesh {
    senders: Senders<Message<OwnedFd>>,
    receivers: Vec<(usize, ConnectedReceiver<Message<OwnedFd>>)>,
    received: Vec<u64>,
    outbox: Outbox<OwnedFd>,
    postbox: Arc<Postbox>,
}

impl GlommioMesh {
    /// Joins; completes when all shards have.
    pub(super) async fn join(
        builder: FullMesh<Message<OwnedFd>>,
        postbox: Arc<Postbox>,
    ) -> GlommioMesh {
        let (senders, mut receivers) = builder
            .join()
            .await
            .expect("as many shards join as the mesh was made for");
        let shards = postbox.shards;
        GlommioMesh {
            outbox: Outbox::new(senders.peer_id(), shards),
            senders,
            receivers: receivers.streams(),
            received: vec![0; shards],
            postbox,
        }
    }

    /// Index of this shard.
    pub(super) fn own(&self) -> usize {
        self.outbox.own
    }

    /// Moves what has arrived into `inbox`, with its sender.
    pub(super) async fn receive(&mut self, inbox: &mut Inbox<OwnedFd>) {
        let own = self.outbox.own;
        inbox.extend(self.outbox.local.drain(..).map(|message| (own, message)));
        for (from, receiver) in &self.receivers {
            let posted = self.postbox.posted(*from, own).load(Ordering::Acquire);
            while self.received[*from] < posted {
                match poll_once(receiver.recv()).await {
                    Some(Some(message)) => inbox.push_back((*from, message)),
                    _ => return, // the peer has ended
                }
                self.received[*from] += 1;
            }
        }
    }
}

impl Mesh<OwnedFd> for GlommioMesh {
    fn outbox(&mut self) -> &mut Outbox<OwnedFd> {
        &mut self.outbox
    }

    fn flush(&mut self) {
        for (to, queue) in self.outbox.queues.iter_mut().enumerate() {
            let mut sent = 0;
            while let Some(message) = queue.pop_front() {
                match self.senders.try_send_to(to, message) {
                    Ok(()) => sent += 1,
                    Err(GlommioError::WouldBlock(ResourceType::Channel(message))) => {
                        queue.push_front(message);
                        break;
                    }
                    Err(_) => break, // the peer has ended; so will this shard
                }
            }
            if sent > 0 {
                self.postbox
                    .posted(self.outbox.own, to)
                    .fetch_add(sent, Ordering::Release);
                self.postbox.wakes[to].wake();
            }
        }
    }

    fn is_busy(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn has_mail(&self) -> bool {
        let own = self.outbox.own;
        !self.outbox.local.is_empty()
            || self.receivers.iter().any(|(from, _)| {
                self.postbox.posted(*from, own).load(Ordering::Acquire) > self.received[*from]
            })
    }
}
