//! Room: how many batch buffers must be free before something is appended to a lane, whatever its
//! sizes and wherever the lane's tail stands. Each caller of [`super::lane::Lane::append`] asks here first,
//! and waits when there are fewer.
//!
//! **One message** of `len` bytes takes at most ceil((len + 40) / B) buffers of B bytes: it starts a fresh one
//! when it does not fit behind the tail, with the header of its batch (32) and its origin (8) before it.
//!
//! **A unit** of several messages can take about twice what its bytes need, because a message that does not
//! fit leaves the rest of a buffer empty. Let L be the bytes of its messages, the origin of each included, and
//! h = 32. A unit takes at most 2 L / (B - 2 h) + 1 buffers:
//!
//! ```text
//!   old tail    | split message of k buffers      |    run of r openings
//!   [........][h|first... ][          ][ at|first ][h|first|..  ][h|first|.. ]
//!                                        `--> B-h <--'   `-> B-h <-'     two neighbours hold more than B - h
//! ```
//!
//! 1. A message that opens a buffer did not fit into the one before, which has at most one header of its own:
//!    what the two hold of messages, that one included, is more than B - h.
//! 2. Take a run of r buffers that whole messages open, one each. Its pairs of neighbours, from the first on,
//!    weigh more than B - h each: L of the run is more than floor(r / 2) (B - h), so 2 L / (B - 2 h) >= r - 1.
//! 3. A message that is split over k >= 2 buffers has (k - 1) B - h bytes before its last buffer, and `at` bytes
//!    in it. The run behind it pairs from that last buffer on, so that split message and run weigh more than
//!    (k - 1) B - h + ceil(r / 2) (B - h) when r is odd, else (k - 1) B - h + (r / 2) (B - h). Twice that is at
//!    least (2 (k - 1) + r) (B - 2 h), and 2 (k - 1) + r >= k + r: they pay for all their buffers.
//! 4. Only the first run has no split message before it; what it lacks is the 1.
//!
//! Lanes of frames have no headers, and a record is one message: both take no more.

use weir_protocol::native::{BATCH_HEADER_BYTES, ORIGIN_BYTES};

/// Smallest batch buffer in bytes. The bound needs more than two headers.
pub(super) const BUFFER_BYTES_MIN: u32 = 4096;
const _: () = assert!(BUFFER_BYTES_MIN as usize > 4 * (BATCH_HEADER_BYTES + ORIGIN_BYTES));

/// Buffers that a message of `len` bytes takes at most, re-routed or not.
pub(super) fn for_message(len: usize, buffer_bytes: u32) -> usize {
    (len + BATCH_HEADER_BYTES + ORIGIN_BYTES).div_ceil(buffer_bytes as usize)
}

/// Buffers that messages of `bytes` bytes in all take at most, one behind the other on one lane. Where
/// each carries its origin, `bytes` includes these.
pub(super) fn for_unit(bytes: usize, buffer_bytes: u32) -> usize {
    2 * bytes / (buffer_bytes as usize - 2 * BATCH_HEADER_BYTES) + 1
}

/// Bytes of the largest unit for which so many buffers are enough: [`for_unit`] the other way round.
pub(super) fn unit_bytes(buffers: usize, buffer_bytes: u32) -> usize {
    buffers.saturating_sub(1) * (buffer_bytes as usize - 2 * BATCH_HEADER_BYTES) / 2
}

/// Bytes that a unit of `bytes` bytes may have on its new lane: as a record it grows by a head, as
/// messages each may carry its origin.
pub(super) fn bytes_moved(bytes: usize, messages: u64) -> usize {
    use weir_protocol::record::RECORD_COUNT_BYTES;
    bytes + RECORD_COUNT_BYTES + messages as usize * ORIGIN_BYTES // in memory
}

#[cfg(test)]
mod tests;
