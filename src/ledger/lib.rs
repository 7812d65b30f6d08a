//! What programs write down, and what can be proved from it.
//!
//! ```text
//! run_report   what each program says at its end, as JSON
//! journal      which messages an analyzer received, one bit each
//! audit        joins run reports and journals into one verdict
//! ```
#![forbid(unsafe_code)]

pub mod audit;
pub mod journal;
pub mod run_report;
