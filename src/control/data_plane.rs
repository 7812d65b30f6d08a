//! What the control side needs of the shards: reports, and orders to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_engine::Order;
use weir_shard::{HttpTarget, Operator, OrderRefused, RefusedCounts, RefusedPackets, ShardReport};

/// What controls the shards; [`Operator`], or a fake of a test.
pub trait DataPlane: Send + Sync {
    /// As [`Operator::reports`].
    fn reports(&self) -> Vec<ShardReport>;
    /// As [`Operator::order`].
    ///
    /// # Errors
    /// As there.
    fn order(&self, order: Order) -> Result<u64, OrderRefused>;
    /// As [`Operator::http_up`].
    ///
    /// # Errors
    /// As there.
    fn http_up(&self, target: HttpTarget, weight: f64) -> Result<u64, OrderRefused>;
    /// As [`Operator::http_down`].
    ///
    /// # Errors
    /// As there.
    fn http_down(&self, generation: u64) -> Result<u64, OrderRefused>;
    /// As [`Operator::http_move`].
    fn http_move(&self, generation: u64, target: HttpTarget);
    /// As [`Operator::claim`].
    fn claim(&self, _id: &Arc<str>, _endpoint: String) -> Option<String> {
        None
    }
    /// As [`Operator::unclaim`].
    fn unclaim(&self, _id: &str) {}
    /// As [`Operator::refused_counts`].
    fn refused_counts(&self) -> RefusedCounts {
        RefusedCounts::default()
    }
    /// As [`Operator::certificates`].
    fn certificates(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        BTreeMap::new()
    }
    /// As [`Operator::why_down`].
    fn why_down(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        BTreeMap::new()
    }
    /// As [`Operator::refused`].
    fn refused(&self) -> RefusedPackets {
        RefusedPackets::default()
    }
}

impl DataPlane for Operator {
    fn reports(&self) -> Vec<ShardReport> {
        Operator::reports(self)
    }
    fn order(&self, order: Order) -> Result<u64, OrderRefused> {
        Operator::order(self, order)
    }
    fn http_up(&self, target: HttpTarget, weight: f64) -> Result<u64, OrderRefused> {
        Operator::http_up(self, target, weight)
    }
    fn http_down(&self, generation: u64) -> Result<u64, OrderRefused> {
        Operator::http_down(self, generation)
    }
    fn http_move(&self, generation: u64, target: HttpTarget) {
        Operator::http_move(self, generation, target);
    }
    fn claim(&self, id: &Arc<str>, endpoint: String) -> Option<String> {
        Operator::claim(self, id, endpoint)
    }
    fn unclaim(&self, id: &str) {
        Operator::unclaim(self, id);
    }
    fn refused_counts(&self) -> RefusedCounts {
        Operator::refused_counts(self)
    }
    fn certificates(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        Operator::certificates(self)
    }
    fn why_down(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        Operator::why_down(self)
    }
    fn refused(&self) -> RefusedPackets {
        Operator::refused(self)
    }
}
