//! The mesh without threads: what a shard sends is taken by the world, and arrives when it likes, in
//! order between any two shards.

use crate::net::SimSocket;
use weir_shard::mesh::{Inbox, Mesh, Message, Outbox};

/// One shard's end.
pub(crate) struct SimMesh {
    outbox: Outbox<SimSocket>,
    /// Messages that a receiver has not taken yet, at most `capacity`.
    under_way: Vec<usize>,
    capacity: usize,
    /// Sent, for the world to deliver.
    pub(super) sent: Vec<(usize, Message<SimSocket>)>,
    /// Delivered by the world.
    pub(super) arrived: Inbox<SimSocket>,
    own: usize,
}

impl SimMesh {
    pub(super) fn new(own: usize, shards: usize, capacity: usize) -> SimMesh {
        SimMesh {
            outbox: Outbox::new(own, shards),
            under_way: vec![0; shards],
            capacity,
            sent: Vec::new(),
            arrived: Inbox::new(),
            own,
        }
    }

    /// A receiver has taken a message of this shard.
    pub(super) fn taken_by(&mut self, to: usize) {
        self.under_way[to] -= 1;
    }

    /// What is there to be handled, the shard's own messages first.
    pub(super) fn receive(&mut self, inbox: &mut Inbox<SimSocket>) {
        let own = self.own;
        inbox.extend(self.outbox.local.drain(..).map(|message| (own, message)));
        inbox.append(&mut self.arrived);
    }
}

impl Mesh<SimSocket> for SimMesh {
    fn outbox(&mut self) -> &mut Outbox<SimSocket> {
        &mut self.outbox
    }

    fn flush(&mut self) {
        for (to, queue) in self.outbox.queues.iter_mut().enumerate() {
            while self.under_way[to] < self.capacity {
                let Some(message) = queue.pop_front() else {
                    break;
                };
                self.under_way[to] += 1;
                self.sent.push((to, message));
            }
        }
    }

    fn is_busy(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn has_mail(&self) -> bool {
        !self.outbox.local.is_empty() || !self.arrived.is_empty()
    }
}
