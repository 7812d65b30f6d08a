//! Packets that go in a circle: an analyzer over HTTP that is this distributor, or another one that leads
//! back to it.
//!
//! ```text
//! POST  Via: 1.1 weir-<instance>   whoever finds its own name there answers 508: nobody sends to himself
//!       Weir-Hops: n               distributors that the packet came through, this one included
//! ```
//!
//! A packet keeps the number, not the names: a ring of two ends after [`MAX`] rounds at the latest.
//! The answer to a health check is 508 as well, so that a distributor never takes itself for an analyzer.

use weir_http::Request;

/// Distributors that a packet may come through.
pub(super) const MAX: u8 = 8;
/// Name of the header that counts them.
pub(super) const HEADER: &str = "Weir-Hops";

/// What a distributor calls itself in `Via` (RFC 9110, 7.6.3).
pub fn pseudonym(instance: u64) -> String {
    format!("weir-{instance:016x}")
}

/// Distributors that a request came through; one that says nonsense came through all.
pub(super) fn of(request: &Request) -> u8 {
    let value = request.header(HEADER);
    value.map_or(0, |value| value.parse().unwrap_or(u8::MAX))
}
