//! Nobody starves others: what a greedy, a silent, a dead or a hidden peer can take from everybody else.
//!
//! ```text
//! addresses.rs     peers that have no address any more
//! partial.rs       frames that never end
//! ```

#[path = "../common/mod.rs"]
mod common;

mod addresses;
mod partial;
