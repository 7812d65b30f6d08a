//! Packets that go in a circle: an analyzer over HTTP that is this distributor, or another one that leads
//! back to it.
//!
//! ```text
//! POST  Via: 1.1 weir-<instance>   whoever finds its own name there answers 508: nobody sends to himself
//!       Weir-Hops: n               distributors that the packet came through, this one included
//! ```
//!
//! A packet keeps the number, not the names: a ring of two ends after [`HOPS_MAX`] rounds at the latest.
//! The answer to a health check is 508 as well, so that a distributor never takes itself for an analyzer.

use super::port::Io;
use super::slab::Slot;
use super::worker::Worker;
use weir_http::Request;

/// Distributors that a packet may come through.
const HOPS_MAX: u8 = 8;
/// Name of the header that counts them.
pub(super) const HOPS_HEADER: &str = "Weir-Hops";

/// What a distributor calls itself in `Via` (RFC 9110, 7.6.3).
pub fn pseudonym(instance: u64) -> String {
    format!("weir-{instance:016x}")
}

/// Distributors that a request came through; one that says nonsense came through all.
fn hops(request: &Request) -> u8 {
    let value = request.header(HOPS_HEADER);
    value.map_or(0, |value| value.parse().unwrap_or(u8::MAX))
}

impl<I: Io> Worker<I> {
    /// How many distributors a request has come through. None: too many, or this one; it is answered.
    pub(super) fn hops_of(&mut self, slot: Slot, request: &Request) -> Option<u8> {
        let own = &self.posts.pseudonym;
        let is_own = |value: &str| value.split([' ', ',']).any(|word| word == own);
        let comes_back = request.headers("via").any(is_own);
        let hops = hops(request);
        if !comes_back && hops < HOPS_MAX {
            return Some(hops);
        }
        self.clients.refuse("loop_detected");
        let detail = match comes_back {
            true => {
                "header Via names this distributor: an endpoint of an analyzer is its own address"
                    .into()
            }
            false => {
                format!("header {HOPS_HEADER}: {hops} distributors; allowed: fewer than {HOPS_MAX}")
            }
        };
        self.answer_error(slot, 508, "Loop detected", &detail, &[]);
        None
    }
}
