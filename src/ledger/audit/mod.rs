//! The audit: joins run reports and journals of all programs into one verdict.
//!
//! ```text
//! load.rs      files -> run reports and journals          each bad file named
//! streams.rs   one stream: what was given against what came
//! cluster.rs   shares of all distributors added up
//! join.rs      run reports + journals -> verdict
//! verdict.rs   the verdict as a table or as JSON
//! ```

mod cluster;
mod join;
mod load;
mod streams;
mod verdict;

pub use cluster::ClusterShare;
pub use join::audit;
pub use load::{load, BadFile, Evidence};
pub use streams::{Listed, Range};
pub use verdict::{Finding, Found, Link, Verdict};
