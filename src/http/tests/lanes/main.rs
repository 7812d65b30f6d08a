//! Packets in an engine: units that stay together, are cut for TCP analyzers and move on when refused.

mod moves;
#[allow(dead_code)] // its other users need the rest
#[path = "../../../engine/tests/engine/rig.rs"]
mod rig;
mod units;
