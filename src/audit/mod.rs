//! The public ledger: a distributor's books out of its shards' reports, and the audit that joins
//! certificates and journals of all programs into one verdict.
//!
//! ```text
//! books.rs     shards' reports -> ledger, certificate      live and at the end
//! settings.rs  a distributor's settings -> text          for its certificate
//! load.rs      files -> certificates and journals          each bad file named
//! streams.rs   one stream: what was given against what came
//! join.rs      certificates + journals -> verdict
//! verdict.rs   the verdict as a table or as JSON
//! ```

mod books;
mod join;
mod load;
mod settings;
mod streams;
mod verdict;

pub use books::{certificate, check_law, ledger, Closing};
pub use join::audit;
pub use load::{load, BadFile, Evidence};
pub use settings::configuration;
pub use streams::{Listed, Range};
pub use verdict::{Finding, Found, Verdict};
