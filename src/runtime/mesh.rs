//! The mesh between threads, on glommio's channels.
//!
//! ```text
//! post -> outbox (bounded by windows) -> glommio channel, bounded -> inbox of the peer's turn
//!                                        Wake: count, then eventfd if it sleeps
//! ```
//!
//! A receiver is polled exactly as often as its sender has sent, so it is never pending: no glommio
//! waker is registered, and the executor need not run for a message to arrive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::secured::Socket;
use futures_lite::future::poll_once;
use glommio::channels::channel_mesh::{FullMesh, Senders};
use glommio::channels::shared_channel::ConnectedReceiver;
use glommio::{GlommioError, ResourceType};
use weir_shard::mesh::{Inbox, Mesh, Message, Outbox};
use weir_shard::port::Wake;

/// Messages in flight between two shards. When full, more wait in the sender's outbox, which the
/// lanes' windows bound.
pub(super) const CHANNEL_MESSAGES: usize = 1024;

/// Messages posted from each shard to each, counted so that receivers know what is there.
pub(super) struct Mailbox {
    shards: usize,
    posted: Vec<AtomicU64>,
    wakes: Vec<Arc<Wake>>,
}

impl Mailbox {
    pub(super) fn new(wakes: Vec<Arc<Wake>>) -> Mailbox {
        let shards = wakes.len();
        let posted = (0..shards * shards).map(|_| AtomicU64::new(0)).collect();
        Mailbox {
            shards,
            posted,
            wakes,
        }
    }

    fn posted(&self, from: usize, to: usize) -> &AtomicU64 {
        &self.posted[from * self.shards + to]
    }
}

/// The mesh between threads.
pub struct GlommioMesh {
    senders: Senders<Message<Socket>>,
    receivers: Vec<(usize, ConnectedReceiver<Message<Socket>>)>,
    received: Vec<u64>,
    outbox: Outbox<Socket>,
    mailbox: Arc<Mailbox>,
}

impl GlommioMesh {
    /// Joins; completes when all shards have.
    pub(super) async fn join(
        builder: FullMesh<Message<Socket>>,
        mailbox: Arc<Mailbox>,
    ) -> GlommioMesh {
        let (senders, mut receivers) = builder
            .join()
            .await
            .expect("as many shards join as the mesh was made for");
        let shards = mailbox.shards;
        GlommioMesh {
            outbox: Outbox::new(senders.peer_id(), shards),
            senders,
            receivers: receivers.streams(),
            received: vec![0; shards],
            mailbox,
        }
    }

    /// Index of this shard.
    pub(super) fn own(&self) -> usize {
        self.outbox.own
    }

    /// Moves what has arrived into `inbox`, with its sender.
    pub(super) async fn receive(&mut self, inbox: &mut Inbox<Socket>) {
        let own = self.outbox.own;
        inbox.extend(self.outbox.local.drain(..).map(|message| (own, message)));
        for (from, receiver) in &self.receivers {
            let posted = self.mailbox.posted(*from, own).load(Ordering::Acquire);
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

impl Mesh<Socket> for GlommioMesh {
    fn outbox(&mut self) -> &mut Outbox<Socket> {
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
                self.mailbox
                    .posted(self.outbox.own, to)
                    .fetch_add(sent, Ordering::Release);
                self.mailbox.wakes[to].wake();
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
                self.mailbox.posted(*from, own).load(Ordering::Acquire) > self.received[*from]
            })
    }
}
