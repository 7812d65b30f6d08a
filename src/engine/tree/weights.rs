//! Changing weights: the table of leaves, the shape, and what each node knows of both.

use super::scale::{scale_of, to_f64};
use super::shape::{self, Pair, Ref, Sum, Weighted};
use super::{Joint, Leaf, Node, Tree, LEAF_COUNT_MAX};

impl Tree {
    /// Writes the table into `leaves`. True if the leaves with a weight are those in the tree.
    pub(super) fn store_weights(&mut self, table: &[(u32, f64)]) -> bool {
        for leaf in &mut self.leaves {
            leaf.present = false;
            leaf.weight = 0;
        }
        let scale = scale_of(table);
        for &(id, weight) in table {
            let id = id as usize;
            assert!(
                id < LEAF_COUNT_MAX,
                "leaf id {id}, the limit is {LEAF_COUNT_MAX}"
            );
            if id >= self.leaves.len() {
                self.leaves.resize(id + 1, Leaf::ABSENT);
            }
            self.leaves[id].present = true;
            self.leaves[id].weight = scale.apply(weight);
        }
        let mut same = true;
        for leaf in &mut self.leaves {
            same &= (leaf.weight > 0) == leaf.inside;
            leaf.available |= !leaf.present;
        }
        same
    }

    /// A removed leaf leaves the opposite of its deficit with the others, a returning one brings its
    /// own back: the others share it in proportion to weight. It is kept for the next user of the
    /// id, because leaves that came and went after each message would all start level each time,
    /// and light ones would never be chosen.
    pub(super) fn spread_imbalance(&mut self) {
        let present = || self.leaves.iter().filter(|leaf| leaf.present);
        let imbalance: f64 = present().map(|leaf| leaf.deficit).sum();
        let weight: i64 = present().map(|leaf| leaf.weight).sum();
        if weight == 0 {
            return;
        }
        for leaf in &mut self.leaves {
            leaf.deficit -= imbalance * to_f64(leaf.weight) / to_f64(weight);
        }
    }

    /// Builds a certified shape: for all leaves with a weight if that serves, so that availability
    /// can change without another build; else for the available ones, the rest beside them.
    pub(super) fn reshape(&mut self) {
        let (inside, outside) = self.weighted_leaves();
        let all: Vec<_> = inside.iter().chain(&outside).copied().collect();
        self.adopt(&all, &shape::build(&all));
        if !self.is_certified() && !outside.is_empty() {
            self.adopt(&all, &shape::build_beside(&inside, &outside));
        }
    }

    /// Leaves with a weight: available, unavailable.
    fn weighted_leaves(&self) -> (Weighted, Weighted) {
        (0_u32..)
            .zip(&self.leaves)
            .filter(|(_, leaf)| leaf.weight > 0)
            .map(|(id, leaf)| (Ref::of_leaf(id), leaf.weight))
            .partition(|(at, _)| self.sum_of(*at).weight > 0)
    }

    /// Makes a tree of `leaves` with the shape `pairs`, parents first, without errors.
    fn adopt(&mut self, leaves: &[(Ref, i64)], pairs: &[Pair]) {
        let node = Node {
            error: 0,
            lean: 0,
            weight: 0,
            next: [Ref::NONE; 2],
        };
        self.nodes.clear();
        self.nodes.resize(pairs.len(), node);
        self.joints.clear();
        self.joints.extend(pairs.iter().map(|&sides| Joint {
            sides,
            parent: Ref::NONE,
            sum: Sum::NOTHING,
            pending: 0.0,
        }));
        self.root = match (leaves, pairs) {
            ([], _) => Ref::NONE,
            ([(leaf, _)], _) => *leaf,
            _ => Ref::of_node(0),
        };
        for leaf in &mut self.leaves {
            leaf.inside = leaf.weight > 0;
            leaf.parent = Ref::NONE;
        }
        for (index, sides) in pairs.iter().enumerate() {
            for &side in sides {
                self.set_parent(side, Ref::of_node(index));
            }
        }
        self.refresh_all();
    }

    fn set_parent(&mut self, of: Ref, parent: Ref) {
        match of.leaf() {
            Some(leaf) => self.leaves[leaf as usize].parent = parent,
            None => self.joints[of.index()].parent = parent,
        }
    }

    pub(super) fn refresh_all(&mut self) {
        for index in (0..self.nodes.len()).rev() {
            self.refresh(index);
        }
        self.find_entry();
    }

    /// Recomputes one node from its two sides.
    pub(super) fn refresh(&mut self, index: usize) {
        let [right, left] = self.joints[index].sides.map(|side| self.sum_of(side));
        let node = &mut self.nodes[index];
        node.weight = left.weight + right.weight;
        node.lean = left.weight - right.weight;
        node.next = [right.entry, left.entry];
        self.joints[index].sum = Sum::of_node(Ref::of_node(index), left, right);
    }

    fn sum_of(&self, at: Ref) -> Sum {
        match at.leaf() {
            None => self.joints[at.index()].sum,
            Some(id) => {
                let leaf = &self.leaves[id as usize];
                if leaf.available {
                    Sum::of_leaf(at, leaf.weight)
                } else {
                    Sum::NOTHING
                }
            }
        }
    }

    pub(super) fn find_entry(&mut self) {
        self.entry = match self.root {
            Ref::NONE => Ref::NONE,
            root => self.sum_of(root).entry,
        };
    }

    /// Whether [`Tree::bound`] is at most [`BOUND_TARGET`].
    pub(super) fn is_certified(&self) -> bool {
        let Some(joint) = self.joints.get(self.entry.index()) else {
            return true;
        };
        let [right, left] = joint.sides.map(|side| self.sum_of(side));
        Sum::is_certified(left, right)
    }
}
