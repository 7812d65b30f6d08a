//! Pure decisions of a shard: routing, batches, delivery ledger. No I/O, no clock, no unsafe.

pub mod tree;
