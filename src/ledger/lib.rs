//! What programs write down, and what can be proved from it.
//!
//! ```text
//! certificate  what each program says at its end, as JSON
//! journal      which messages an analyzer received, one bit each
//! audit        joins certificates and journals into one verdict
//! ```
#![forbid(unsafe_code)]

pub mod audit;
pub mod certificate;
pub mod journal;
