//! The HTTP side over real sockets: packets in, HTTP analyzers out. The analyzers are Python programs in
//! the shape of the reference (`analyzer.py`), so that nothing of Weir's own is on both ends.

mod abuse;
mod analyzers;
mod answers;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod crowd;
mod ledger;
mod limits;
mod packets;
mod refusals;
#[allow(dead_code)] // tests/operate has the other half of it
mod rig;
mod senders;
