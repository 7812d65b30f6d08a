//! Packets in an engine: units that stay together, are cut for TCP analyzers and move on when refused.

mod moves;
mod units;
