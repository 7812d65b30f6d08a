//! The HTTP side over real sockets: packets in, HTTP analyzers out. The analyzers are Python programs in
//! the shape of the reference (`testkit/http_analyzer.py`), so that nothing of Weir's own is on both ends.

mod abuse;
mod analyzers;
mod answers;
mod clients;
mod crowd;
mod ledger;
mod limits;
mod packets;
mod refusals;
mod rig;
mod senders;
mod split;
