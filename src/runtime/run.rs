//! The loop of a shard's thread: waits in the data ring, and gives each turn what has come.

use std::sync::Arc;

use weir_shard::mesh::{Inbox, Mesh};
use weir_shard::port::{Completion, Io};
use weir_shard::{Shard, ShardReport, TURN_COMPLETIONS};

use crate::kernel::Kernel;

/// Runs until the distributor stops; the last report balances the books.
///
/// # Errors
/// The data ring failed in a way that cannot be waited out.
pub(super) async fn run(mut shard: Shard<Kernel>) -> std::io::Result<ShardReport> {
    shard.start();
    let mut completions: Vec<Completion> = Vec::with_capacity(TURN_COMPLETIONS);
    let mut inbox = Inbox::new();
    loop {
        if let Err(error) = wait(&mut shard) {
            shard.cx.io.quiesce();
            return Err(error);
        }
        let is_full = shard.cx.io.begin_turn(TURN_COMPLETIONS);
        shard.begin_turn(is_full);
        while shard.cx.io.next(&mut completions) {
            shard.handle(&mut completions);
        }
        if shard.cx.mesh.has_mail() {
            shard.cx.mesh.receive(&mut inbox).await;
        }
        // No yield to glommio, ever: see PREEMPT_AFTER in start.rs.
        shard.conclude_turn(&mut inbox);
        if shard.finished() {
            return Ok(shard.end());
        }
    }
}

fn wait(shard: &mut Shard<Kernel>) -> std::io::Result<()> {
    let wake = Arc::clone(shard.wake());
    wake.announce_sleep();
    let wait = shard.next_wait();
    let waited = shard.cx.io.wait(wait);
    wake.announce_awake();
    waited
}
