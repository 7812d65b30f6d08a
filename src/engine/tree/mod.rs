//! Routing tree: picks the analyzer for each unit of messages, exactly in proportion to the weights.
//!
//! Every inner node splits its messages between two sides and remembers, in integers, by how much
//! the left side is behind. `docs/SHARES.md` derives the bound.
//!
//! ```text
//!            [0]  error, weight            route(k): error += k * (left - right)
//!           /   \                                    error > 0 ? go left, error -= k * weight
//!        [1]     leaf 7                                        : go right, error += k * weight
//!       /   \                              error counts twice the left side's deficit * weight,
//!  leaf 3   leaf 9                         so |error| <= K * weight, K the largest unit so far
//! ```
//!
//! A leaf's *deficit* is its exact share minus what it got, in messages. Deficits belong to leaves,
//! not to nodes: each change of weights, availability or shape reads the leaves' deficits from the
//! tree as it was and writes the same deficits into the tree as it is.

#![deny(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod deficits;
mod scale;
mod shape;
mod weights;

pub use shape::BOUND_TARGET;

use scale::{to_f64, WEIGHT_SUM_LOG2};
use shape::{Pair, Ref, Sum};

/// Largest unit, in messages: what the errors of the tree have room for.
pub const UNIT_MAX: u32 = 1 << 16;

/// Messages that are routed together, 1 to [`UNIT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitSize(u32);

impl UnitSize {
    /// A message of its own.
    pub const ONE: UnitSize = UnitSize(1);
    /// The largest unit.
    pub const MAX: UnitSize = UnitSize(UNIT_MAX);

    /// None for 0 and for more than [`UNIT_MAX`].
    pub const fn new(messages: u32) -> Option<UnitSize> {
        match messages {
            1..=UNIT_MAX => Some(UnitSize(messages)),
            _ => None,
        }
    }
}
/// Leaf ids are below this, so a table of leaves indexed by id stays small.
pub const LEAF_COUNT_MAX: usize = 1 << 16;

/// After `unit * lean` the error is at most 2 * UNIT_MAX * weight; every leaf may round up to 1.
const _: () = assert!(17 + WEIGHT_SUM_LOG2 + 1 < 63 && UNIT_MAX == 1 << 16);
const _: () = assert!(LEAF_COUNT_MAX < 1 << (WEIGHT_SUM_LOG2 - 8));

/// Chooses leaves so that each stays within [`Tree::bound`] units of its exact share.
///
/// A leaf can be chosen if it is present, available and has a weight above zero.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where routing starts: the root once nodes without a choice are skipped.
    entry: Ref,
    /// The first node, or the only leaf, or nothing.
    root: Ref,
    /// Largest unit so far; what the errors are bounded by.
    unit_max: u32,
    /// Parents before children, the root first.
    nodes: Vec<Node>,
    /// The rest of each node, kept apart so that routing touches only `nodes`.
    joints: Vec<Joint>,
    /// Indexed by leaf id.
    leaves: Vec<Leaf>,
    /// The root's: the leaves' outside the tree, negated.
    deficit: f64,
    /// Left deficit every node starts with, in messages: differs between shards.
    phase: f64,
    /// Reused by `set_available`: nodes from a leaf up, with their deficit and their left side's.
    path: Vec<(usize, f64, f64)>,
}

/// What routing reads and writes: 32 bytes, two nodes to a cache line.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Twice the left side's deficit within this node, times `weight`.
    error: i64,
    /// Left minus right weight of what is available.
    lean: i64,
    /// Left plus right weight of what is available.
    weight: i64,
    /// Where right (0) and left (1) lead, nodes without a choice skipped.
    next: [Ref; 2],
}

#[derive(Debug, Clone, Copy)]
struct Joint {
    /// Right, left: as `Node::next`, but nothing skipped.
    sides: Pair,
    /// The node above; the root's is [`Ref::NONE`].
    parent: Ref,
    /// The available part of this subtree, as its parent sees it.
    sum: Sum,
    /// Left deficit that `Node::error` has no room for, in messages.
    pending: f64,
}

#[derive(Debug, Clone, Copy)]
struct Leaf {
    present: bool,
    available: bool,
    /// Scaled; 0 when absent.
    weight: i64,
    /// Whether it is in the tree: its weight was above 0 when the shape was built.
    inside: bool,
    /// The node above, if any.
    parent: Ref,
    /// Valid outside the tree and while the tree is being changed, in messages.
    deficit: f64,
}

impl Leaf {
    const ABSENT: Leaf = Leaf {
        present: false,
        available: true,
        weight: 0,
        inside: false,
        parent: Ref::NONE,
        deficit: 0.0,
    };
}

impl Tree {
    /// An empty tree. Trees of different [`phase`] start at different points of their cycle, so that shards and replicas
    /// do not all favour the same leaf at the same time.
    pub fn new(phase: u64) -> Self {
        Tree {
            entry: Ref::NONE,
            root: Ref::NONE,
            unit_max: 0,
            nodes: Vec::new(),
            joints: Vec::new(),
            leaves: Vec::new(),
            deficit: 0.0,
            phase: phase_offset(phase),
            path: Vec::new(),
        }
    }

    /// Picks the leaf for a unit. `None` when no leaf can be chosen.
    #[inline]
    pub fn route(&mut self, UnitSize(unit): UnitSize) -> Option<u32> {
        self.unit_max = self.unit_max.max(unit);
        let mut at = self.entry;
        while let Some(node) = self.nodes.get_mut(at.index()) {
            at = node.route(i64::from(unit));
        }
        at.leaf()
    }

    /// Largest unit so far, in messages; 1 before the first.
    pub fn unit_max(&self) -> u32 {
        self.unit_max.max(1)
    }

    /// Replaces the table of weights: `(leaf id, weight)`, ids below [`LEAF_COUNT_MAX`], weights
    /// relative to each other. Leaves not listed are removed; new ones are available.
    ///
    /// Keeps every remaining leaf's deficit. Keeps the shape while it stays certified and its
    /// leaves the same. A weight of 0 keeps the leaf but never chooses it; so does any weight that
    /// is not finite or is negative.
    ///
    /// # Panics
    /// If a leaf id is out of range.
    pub fn set_weights(&mut self, leaves: &[(u32, f64)]) {
        self.collect_deficits();
        let same_leaves = self.store_weights(leaves);
        self.spread_imbalance();
        if same_leaves {
            self.refresh_all();
        }
        if !same_leaves || !self.is_certified() {
            self.reshape();
        }
        self.place_deficits();
        self.assert_invariant();
    }

    /// Takes `leaf` out of the choice or back in. Deficits stay as they are. Without effect on a
    /// leaf that is not present.
    ///
    /// Costs the leaf's depth, unless the available rest is no longer certified in this shape.
    pub fn set_available(&mut self, leaf: u32, available: bool) {
        let Some(entry) = self.leaves.get_mut(leaf as usize) else {
            return;
        };
        if !entry.present || entry.available == available {
            return;
        }
        let parent = entry.parent;
        self.read_path(Ref::of_leaf(leaf), parent);
        self.leaves[leaf as usize].available = available;
        self.rewrite_path();
        if !self.is_certified() {
            self.collect_deficits();
            self.reshape();
            self.place_deficits();
        }
    }

    /// Whether `leaf` is present and not taken out by [`Tree::set_available`].
    pub fn is_available(&self, leaf: u32) -> bool {
        self.leaves
            .get(leaf as usize)
            .is_some_and(|leaf| leaf.present && leaf.available)
    }

    /// Certified bound for the present weights, in largest units: no leaf's deficit exceeds it.
    ///
    /// Counted from an empty start with phase 0 this is the distance from the exact share at every
    /// prefix; counted from any other moment the distance is at most twice this. Costs a walk over
    /// the tree.
    pub fn bound(&self) -> f64 {
        let mut worst = 0.0_f64;
        let mut open = vec![(self.entry, 0.0)];
        while let Some((at, reach)) = open.pop() {
            let Some(node) = self.nodes.get(at.index()) else {
                worst = worst.max(reach);
                continue;
            };
            let left = node.left_share();
            open.push((node.next[0], 1.0 + (1.0 - left) * reach));
            open.push((node.next[1], 1.0 + left * reach));
        }
        worst / 2.0
    }
}

impl Node {
    /// Takes the side that is further behind and charges it for the unit.
    #[inline]
    fn route(&mut self, unit: i64) -> Ref {
        let error = self.error + unit * self.lean;
        let charge = unit * self.weight;
        let left = error > 0;
        self.error = if left { error - charge } else { error + charge };
        self.next[usize::from(left)]
    }

    fn has_choice(&self) -> bool {
        self.lean.abs() < self.weight
    }

    /// Left weight over weight; 0 when nothing is available.
    fn left_share(&self) -> f64 {
        if self.weight == 0 {
            return 0.0;
        }
        (to_f64(self.lean) / to_f64(self.weight) + 1.0) / 2.0
    }

    /// The left side's deficit within this node, in messages.
    fn left_deficit(&self) -> f64 {
        if self.error == 0 {
            return 0.0;
        }
        to_f64(self.error) / (2.0 * to_f64(self.weight))
    }
}

/// Phase of a shard's tree: shards of one distributor divide the cycle, and replicas are turned against each other by
/// a part of it that their instance decides. An instance of 0 is not turned: the phase is the shard's index.
pub fn phase(shard: u16, instance: u64) -> u64 {
    // SplitMix64's mixing: instances that differ in one bit are turned as far apart as any.
    let mut turn = instance;
    turn = (turn ^ (turn >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    turn = (turn ^ (turn >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    turn ^= turn >> 31;
    u64::from(shard)
        .reverse_bits()
        .wrapping_add(turn)
        .reverse_bits()
}

/// Bit-reversed `phase` as a fraction of a message in (-1/2, 1/2]: 0, 1/2, 1/4, -1/4, 1/8, ...
fn phase_offset(phase: u64) -> f64 {
    // Not `powi`, whose precision is unspecified.
    const TURN: f64 = 18_446_744_073_709_551_616.0;
    #[allow(clippy::cast_precision_loss)] // A fraction: the low bits do not matter.
    let fraction = phase.reverse_bits() as f64 / TURN;
    if fraction > 0.5 {
        fraction - 1.0
    } else {
        fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repetitions of a test; an interpreter gets a hundredth of them.
    const fn times(count: u32) -> u32 {
        if cfg!(miri) {
            count / 100
        } else {
            count
        }
    }

    fn routed(tree: &mut Tree, messages: usize) -> Vec<Option<u32>> {
        (0..messages).map(|_| tree.route(UnitSize::ONE)).collect()
    }

    #[test]
    fn a_unit_is_what_the_tree_can_count() {
        for (messages, is_one) in [
            (0, false),
            (1, true),
            (UNIT_MAX, true),
            (UNIT_MAX + 1, false),
        ] {
            assert_eq!(UnitSize::new(messages).is_some(), is_one, "{messages}");
        }
    }

    #[test]
    fn nothing_to_choose_from() {
        let mut tree = Tree::new(0);
        assert_eq!(tree.route(UnitSize::ONE), None);
        tree.set_weights(&[(3, 0.0), (4, f64::NAN), (5, -1.0), (6, f64::INFINITY)]);
        assert_eq!(tree.route(UnitSize::ONE), None);
        assert!(tree.is_available(3) && !tree.is_available(2) && !tree.is_available(70_000));
        tree.set_weights(&[]);
        assert!(!tree.is_available(3));
        assert_eq!((tree.route(UnitSize::ONE), tree.bound()), (None, 0.0));
    }

    #[test]
    #[should_panic(expected = "the limit is 65536")]
    fn leaf_ids_have_a_limit() {
        Tree::new(0).set_weights(&[(1 << 16, 1.0)]);
    }

    #[test]
    fn one_leaf_gets_everything_and_may_come_and_go() {
        let mut tree = Tree::new(0);
        tree.set_weights(&[(9, 1e-300)]);
        assert_eq!(routed(&mut tree, 3), [Some(9); 3]);
        tree.set_available(9, false);
        assert_eq!(
            (tree.route(UnitSize::ONE), tree.is_available(9)),
            (None, false)
        );
        tree.set_weights(&[(9, 2.0)]);
        assert_eq!(
            tree.route(UnitSize::ONE),
            None,
            "a new weight does not make it available"
        );
        tree.set_available(9, true);
        assert_eq!(tree.route(UnitSize::ONE), Some(9));
        tree.set_available(9, false);
        tree.set_weights(&[]);
        tree.set_weights(&[(9, 2.0)]);
        assert_eq!(
            tree.route(UnitSize::ONE),
            Some(9),
            "a leaf that returns is available"
        );
    }

    #[test]
    fn weights_three_to_one_in_order() {
        let mut tree = Tree::new(0);
        tree.set_weights(&[(0, 3.0), (1, 1.0)]);
        let expected = [0, 1, 0, 0, 0, 1, 0, 0].map(Some);
        assert_eq!(routed(&mut tree, 8), expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "65,536 leaves are too many for an interpreter")]
    fn the_largest_units_and_most_distant_weights_do_not_overflow() {
        let mut tree = Tree::new(1);
        tree.set_weights(&[
            (0, f64::MAX),
            (1, f64::MAX),
            (2, 5e-324),
            (3, 1.0),
            (65_535, 1e300),
        ]);
        for message in 0..10_000 {
            assert!(tree.route(UnitSize(UNIT_MAX - message % 3)).is_some());
        }
        tree.assert_invariant();
    }

    #[test]
    #[cfg_attr(miri, ignore = "65,536 leaves are too many for an interpreter")]
    fn as_many_leaves_as_there_may_be() {
        let mut tree = Tree::new(0);
        let table: Vec<_> = (0..1 << 16).map(|id| (id, f64::from(1 + id % 7))).collect();
        tree.set_weights(&table);
        assert!(tree.bound() <= BOUND_TARGET);
        assert!(routed(&mut tree, 1000).iter().all(Option::is_some));
    }

    #[test]
    fn an_availability_that_spoils_the_certificate_builds_another_shape() {
        // Without the half, the crumb becomes the sibling of a 3 deep in Huffman's tree.
        let mut tree = Tree::new(0);
        let hard = [8.0, 4.0, 3.0, 3.0, 0.5, 0.001];
        tree.set_weights(&(0..).zip(hard).collect::<Vec<_>>());
        for out in (0..64_u32).map(|out| out ^ 16) {
            for id in 0..6 {
                tree.set_available(id, out >> id & 1 == 0);
            }
            assert!(tree.bound() <= BOUND_TARGET, "{} for {out:b}", tree.bound());
            tree.assert_invariant();
        }
    }

    #[test]
    fn the_shape_stays_while_it_is_certified() {
        let shape = |tree: &Tree| {
            tree.joints
                .iter()
                .map(|joint| joint.sides)
                .collect::<Vec<_>>()
        };
        let mut tree = Tree::new(0);
        tree.set_weights(&[(0, 4.0), (1, 3.0), (2, 2.0), (3, 1.0)]);
        let before = shape(&tree);
        tree.set_weights(&[(0, 3.0), (1, 4.0), (2, 1.0), (3, 2.0)]);
        assert_eq!(shape(&tree), before);
    }

    #[test]
    fn the_same_weights_again_change_nothing() {
        let table = [(0, 5.0), (1, 4.0), (2, 2.0), (3, 1.0), (4, 0.3)];
        let (mut left_alone, mut set_again) = (Tree::new(0), Tree::new(0));
        left_alone.set_weights(&table);
        for message in 0..times(2000) {
            set_again.set_weights(&table);
            let unit = 1 + message * message % 64;
            assert_eq!(
                left_alone.route(UnitSize(unit)),
                set_again.route(UnitSize(unit)),
                "message {message}"
            );
            assert!(set_again
                .joints
                .iter()
                .all(|joint| joint.pending.abs() < 1e-6));
        }
    }

    #[test]
    fn leaves_that_come_and_go_leave_no_deficit_behind() {
        let mut tree = Tree::new(0);
        for round in 0..times(1000) {
            let ids = [0, 1, 2 + round, 3 + round];
            tree.set_weights(&ids.map(|id| (id, f64::from(1 + id % 3))));
            routed(&mut tree, 5);
        }
        tree.collect_deficits();
        let sum: f64 = tree
            .leaves
            .iter()
            .filter(|leaf| leaf.present)
            .map(|leaf| leaf.deficit)
            .sum();
        assert!(sum.abs() < 1e-6, "{sum}");
    }

    #[test]
    fn a_change_keeps_every_deficit() {
        let mut tree = Tree::new(0);
        tree.set_weights(&[(0, 5.0), (1, 3.0), (2, 2.0), (3, 1.0)]);
        routed(&mut tree, 17);
        tree.collect_deficits();
        let before: Vec<f64> = tree.leaves.iter().map(|leaf| leaf.deficit).collect();
        tree.set_weights(&[(0, 0.0), (1, 1.0), (2, 9.0), (3, 4.0), (4, 2.0)]);
        tree.set_available(2, false);
        tree.set_weights(&[(0, 7.0), (1, 1.0), (2, 9.0), (3, 4.0), (4, 2.0)]);
        tree.set_available(2, true);
        tree.collect_deficits();
        for (leaf, before) in tree.leaves.iter().zip(before) {
            assert!(
                (leaf.deficit - before).abs() < 1e-9,
                "{leaf:?}, was {before}"
            );
        }
    }

    /// One half for the root, and for each node below half of what the side's share of it adds.
    #[test]
    fn the_bound_is_that_of_the_deepest_reach() {
        for (weights, bound) in [
            (&[7.0][..], 0.0),
            (&[3.0, 1.0], 0.5),
            (&[1.0, 1.0, 1.0, 1.0], (1.0 + 1.0 / 2.0) / 2.0),
            (&[5.0, 3.0, 2.0], (1.0 + 3.0 / 5.0) / 2.0),
            (&[8.0, 5.0, 2.0, 2.0], (1.0 + (1.0 + 4.0 / 9.0) / 2.0) / 2.0),
        ] {
            let mut tree = Tree::new(0);
            tree.set_weights(&(0..).zip(weights.iter().copied()).collect::<Vec<_>>());
            assert!(
                (tree.bound() - bound).abs() < 1e-9,
                "{weights:?}: {}",
                tree.bound()
            );
        }
    }

    #[test]
    fn a_leaf_that_is_not_there_cannot_be_taken_out() {
        let mut tree = Tree::new(0);
        tree.set_weights(&[(0, 1.0), (2, 1.0)]);
        tree.set_available(1, false);
        tree.set_available(7, false);
        tree.set_weights(&[(0, 1.0), (1, 1.0), (2, 1.0)]);
        assert!(tree.is_available(1));
    }

    #[test]
    fn a_phase_is_nobodys_debt() {
        for phase in [1, 2, 3] {
            let mut tree = Tree::new(phase);
            tree.set_weights(&[(0, 1.0), (1, 1.0), (2, 2.0)]);
            tree.set_available(0, false);
            tree.set_available(2, false);
            assert_eq!(routed(&mut tree, 3), [Some(1); 3]);
            tree.set_available(2, true);
            tree.set_available(0, true);
            tree.collect_deficits();
            for leaf in &tree.leaves {
                assert!(leaf.deficit.abs() < 1e-9, "{leaf:?} in phase {phase}");
            }
        }
    }

    #[test]
    fn phases_divide_the_cycle() {
        let offsets = [0, 1, 2, 3, 4].map(phase_offset);
        assert_eq!(offsets, [0.0, 0.5, 0.25, -0.25, 0.125]);
    }

    #[test]
    fn an_instance_turns_all_shards_of_a_distributor_by_the_same_part() {
        assert_eq!([0, 1, 2, 3].map(|shard| phase(shard, 0)), [0, 1, 2, 3]);
        for instance in [1, 2, 3, u64::MAX] {
            let offsets = [0, 1, 2, 3].map(|shard| phase_offset(phase(shard, instance)));
            assert!(offsets
                .iter()
                .all(|offset| *offset > -0.5 && *offset <= 0.5));
            let apart = |shard: usize| (offsets[shard] - offsets[0]).rem_euclid(1.0);
            for (shard, part) in [(1, 0.5), (2, 0.25), (3, 0.75)] {
                assert!(
                    (apart(shard) - part).abs() < 1e-9,
                    "{instance}: {offsets:?}"
                );
            }
            assert!(offsets[0] != 0.0, "{instance}");
        }
    }
}
