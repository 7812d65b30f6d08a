//! Deficits: out of the tree as it was, and back into the tree as it is.

use super::scale::{to_f64, to_i64};
use super::shape::Ref;
use super::Tree;

/// Nodes hold back at most this many largest units of deficit that their error has no room for.
const PENDING_UNITS_MAX: f64 = 16.0;

impl Tree {
    /// Sets every leaf's `deficit` from the nodes, from the root down.
    pub(super) fn collect_deficits(&mut self) {
        let mut deficits = vec![0.0; self.nodes.len()];
        if self.root != Ref::NONE {
            self.keep_deficit(self.root, self.deficit, &mut deficits);
        }
        for index in 0..self.nodes.len() {
            let [right, left] = self.joints[index].sides;
            let (left_deficit, right_deficit) = self.divide(index, deficits[index]);
            self.keep_deficit(left, left_deficit, &mut deficits);
            self.keep_deficit(right, right_deficit, &mut deficits);
        }
    }

    fn keep_deficit(&mut self, of: Ref, deficit: f64, nodes: &mut [f64]) {
        match of.leaf() {
            Some(leaf) => self.leaves[leaf as usize].deficit = deficit,
            None => nodes[of.index()] = deficit,
        }
    }

    /// The sides' deficits, left and right, of a node whose own deficit is `deficit`.
    fn divide(&self, index: usize, deficit: f64) -> (f64, f64) {
        let node = &self.nodes[index];
        let own = node.left_deficit() + self.joints[index].pending;
        let left = own + node.left_share() * deficit;
        (left, deficit - left)
    }

    /// Sets every node from its leaves' deficits, from the bottom up.
    pub(super) fn place_deficits(&mut self) {
        let mut deficits = vec![0.0; self.nodes.len()];
        for index in (0..self.nodes.len()).rev() {
            let [right, left] = self.joints[index]
                .sides
                .map(|side| self.deficit(side, &deficits));
            deficits[index] = left + right;
            self.set_error(
                index,
                left - self.nodes[index].left_share() * deficits[index],
            );
        }
        self.deficit = match self.root {
            Ref::NONE => 0.0,
            root => self.deficit(root, &deficits),
        };
    }

    fn deficit(&self, of: Ref, nodes: &[f64]) -> f64 {
        match of.leaf() {
            Some(leaf) => self.leaves[leaf as usize].deficit,
            None => nodes[of.index()],
        }
    }

    /// Gives a node its left deficit. What exceeds the invariant waits for the next change, so that
    /// a change neither breaks the bound nor forgives anybody anything.
    fn set_error(&mut self, index: usize, left_deficit: f64) {
        let node = &mut self.nodes[index];
        // Before the first unit nobody is owed anything, and the phase may be chosen.
        let (unit_max, left_deficit) = match self.unit_max {
            0 => (1, self.phase),
            unit_max => (unit_max, left_deficit),
        };
        node.error = 0;
        if node.has_choice() {
            let error = to_i64(left_deficit * 2.0 * to_f64(node.weight));
            let limit = i64::from(unit_max) * node.weight;
            node.error = error.clamp(-limit, limit);
        }
        let limit = PENDING_UNITS_MAX * f64::from(unit_max);
        self.joints[index].pending = match self.unit_max {
            0 => 0.0,
            _ => (left_deficit - node.left_deficit()).clamp(-limit, limit),
        };
    }

    /// Fills `path` from `parent` up to the root with the deficits as they are.
    pub(super) fn read_path(&mut self, leaf: Ref, parent: Ref) {
        self.path.clear();
        let mut at = parent;
        while at != Ref::NONE {
            self.path.push((at.index(), 0.0, 0.0));
            at = self.joints[at.index()].parent;
        }
        let mut deficit = self.deficit;
        for step in (0..self.path.len()).rev() {
            let index = self.path[step].0;
            let (left, right) = self.divide(index, deficit);
            self.path[step] = (index, deficit, left);
            let below = step
                .checked_sub(1)
                .map_or(leaf, |i| Ref::of_node(self.path[i].0));
            let is_left = self.joints[index].sides[1] == below;
            deficit = if is_left { left } else { right };
        }
    }

    /// Recomputes the nodes in `path`; each keeps the deficits that `read_path` found.
    pub(super) fn rewrite_path(&mut self) {
        for step in 0..self.path.len() {
            let (index, deficit, left) = self.path[step];
            self.refresh(index);
            self.set_error(index, left - self.nodes[index].left_share() * deficit);
        }
        self.find_entry();
    }

    pub(super) fn assert_invariant(&self) {
        let unit_max = i64::from(self.unit_max.max(1));
        for (node, joint) in self.nodes.iter().zip(&self.joints) {
            assert!(
                node.error.abs() <= unit_max * node.weight,
                "{node:?} {joint:?}"
            );
            assert!(joint.pending.is_finite());
        }
    }
}
