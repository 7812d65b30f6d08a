//! Shares over all distributors: what each analyzer was due anywhere against what it got anywhere.
//!
//! Each distributor divides by itself and keeps its own bound, so that the sums keep the sum of the bounds
//! (`docs/SHARES.md`).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::run_report::{Distributor, Share};

/// One analyzer, all distributors added up. In messages unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterShare {
    /// Id (native) or address.
    pub analyzer: String,
    /// Distributors that knew it.
    pub distributors: usize,
    /// Given to it, re-routed ones included.
    pub assigned: u64,
    /// Of those: ACKed.
    pub acked: u64,
    /// Due to it.
    pub target: f64,
    /// `target` of the sum of all targets, 0 to 1.
    pub target_share: f64,
    /// `assigned` of the sum of all, 0 to 1.
    pub real_share: f64,
    /// `assigned` less `target`.
    pub error: f64,
    /// What the error may be: the sum of the distributors' bounds.
    pub bound: f64,
}

/// In the order of the analyzers' names.
pub(super) fn shares<'a>(distributors: impl Iterator<Item = &'a Distributor>) -> Vec<ClusterShare> {
    let mut by_name: BTreeMap<&str, ClusterShare> = BTreeMap::new();
    for share in distributors.flat_map(|one| &one.ledger.analyzers) {
        by_name.entry(&share.analyzer).or_default().add(share);
    }
    let assigned_all = by_name
        .values()
        .fold(0_u64, |sum, one| sum.saturating_add(one.assigned));
    let target_all: f64 = by_name.values().map(|one| one.target).sum();
    let part = |part: f64, all: f64| if all > 0.0 { part / all } else { 0.0 };
    let finish = |(name, share): (&str, ClusterShare)| ClusterShare {
        analyzer: name.to_owned(),
        target_share: part(share.target, target_all),
        real_share: part(share.assigned as f64, assigned_all as f64),
        error: share.assigned as f64 - share.target,
        ..share
    };
    by_name.into_iter().map(finish).collect()
}

impl ClusterShare {
    fn add(&mut self, share: &Share) {
        self.distributors += 1;
        self.assigned = self.assigned.saturating_add(share.assigned);
        self.acked = self.acked.saturating_add(share.acked);
        self.target += share.target;
        self.bound += share.bound;
    }
}
