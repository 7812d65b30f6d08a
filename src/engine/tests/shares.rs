//! What the routing tree promises about shares, measured message by message.

use proptest::prelude::*;
use weir_engine::tree::{phase, Tree, UnitSize, BOUND_TARGET};
use weir_testkit::Random;

/// Counted from a change of weights, membership or availability: both ends within the bound.
const SINCE_CHANGE: f64 = 2.7;
const ROUNDING: f64 = 1e-6;

/// What each leaf should have got since the last reset, and what it got.
struct Count {
    /// By leaf id; 0 = must not be chosen.
    weights: Vec<f64>,
    got: Vec<f64>,
    total: f64,
    sum: f64,
    /// Largest distance at any prefix so far, in messages.
    worst: f64,
}

impl Count {
    fn new(weights: Vec<f64>) -> Self {
        let sum = weights.iter().sum();
        Count {
            got: vec![0.0; weights.len()],
            weights,
            total: 0.0,
            sum,
            worst: 0.0,
        }
    }

    fn distance(&self, leaf: usize) -> f64 {
        (self.total * self.weights[leaf] / self.sum - self.got[leaf]).abs()
    }

    /// A leaf's distance is extreme just before and just after it is chosen (and at the end):
    /// looking there is looking at every prefix.
    fn add(&mut self, leaf: u32, unit: u32) {
        let leaf = leaf as usize;
        assert!(self.weights[leaf] > 0.0, "leaf {leaf} must not be chosen");
        self.worst = self.worst.max(self.distance(leaf));
        self.total += f64::from(unit);
        self.got[leaf] += f64::from(unit);
        self.worst = self.worst.max(self.distance(leaf));
    }

    /// Routes `unit` and counts it.
    fn route(&mut self, tree: &mut Tree, unit: u32) -> u32 {
        let size = UnitSize::new(unit).expect("units are in range");
        let leaf = tree.route(size).expect("a leaf can be chosen");
        self.add(leaf, unit);
        leaf
    }

    fn worst(&self) -> f64 {
        (0..self.got.len())
            .map(|leaf| self.distance(leaf))
            .fold(self.worst, f64::max)
    }
}

fn table(weights: &[f64]) -> Vec<(u32, f64)> {
    (0..).zip(weights.iter().copied()).collect()
}

fn tree_of(phase: u64, weights: &[f64]) -> Tree {
    let mut tree = Tree::new(phase);
    tree.set_weights(&table(weights));
    tree
}

/// Weights that trees find hard, and ordinary ones.
fn weights(kind: u32, count: usize, random: &mut Random) -> Vec<f64> {
    let mut weight = |i: i32| match kind {
        0 => random.unit() + 0.001,
        1 => (20.0 * random.unit() - 10.0).exp(),
        2 => 1.0,
        3 => 2_f64.powi(-(i % 40)),
        4 => 1.618_034_f64.powi(-(i % 60)),
        5 => 1.0 / (1.0 + f64::from(i)),
        // One that dwarfs the rest; equals and crumbs; pairs of a weight and a crumb at each size.
        6 => [1.0, 1e-7 * (1.0 + random.unit())][usize::from(i > 0)],
        7 => [1.0, 1e-9][usize::from(i % 7 == 3)],
        8 => 1.7_f64.powi(-(i / 2 % 30)) * [1.0, 1e-6][usize::from(i % 2 == 1)],
        _ => 1.0 + f64::from(random.below(4)),
    };
    (0..).take(count).map(&mut weight).collect()
}

const KINDS: u32 = 10;

#[test]
fn a_million_single_messages_are_split_4_3_2_1() {
    let weights = [0.4, 0.3, 0.2, 0.1];
    let mut tree = tree_of(0, &weights);
    let mut count = Count::new(weights.to_vec());
    for _ in 0..1_000_003 {
        count.route(&mut tree, 1);
    }
    for leaf in 0..4 {
        assert!(
            count.distance(leaf) < 2.0,
            "leaf {leaf} is off by {}",
            count.distance(leaf)
        );
    }
    assert!(tree.bound() <= BOUND_TARGET);
    assert!(
        count.worst() <= tree.bound() + ROUNDING,
        "{} at worst",
        count.worst()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_prefix_is_within_the_bound(
        kind in 0..KINDS, leaves in 1_usize..=512, unit_max in 1_u32..=64, seed in 1_u64..
    ) {
        let mut random = Random::new(seed);
        let weights = weights(kind, leaves, &mut random);
        let mut tree = tree_of(0, &weights);
        prop_assert!(tree.bound() <= BOUND_TARGET + ROUNDING, "certified {}", tree.bound());
        let mut count = Count::new(weights);
        for _ in 0..8 * leaves {
            count.route(&mut tree, 1 + random.below(unit_max));
        }
        // All of one size is the hardest load: errors reach their limits.
        for _ in 0..8 * leaves {
            count.route(&mut tree, unit_max);
        }
        let worst = count.worst() / f64::from(unit_max);
        prop_assert!(worst <= tree.bound() + ROUNDING, "{worst} units, bound {}", tree.bound());
    }

    #[test]
    fn every_change_leaves_the_rest_within_twice_the_bound(
        kinds in proptest::collection::vec(0..KINDS, 1..12), leaves in 2_usize..=512,
        unit_max in 1_u32..=64, phase in 0_u64..8, seed in 1_u64..
    ) {
        let mut random = Random::new(seed);
        let mut tree = Tree::new(phase);
        let mut present = weights(kinds[0], leaves, &mut random);
        tree.set_weights(&table(&present));
        for kind in kinds {
            change(kind, &mut tree, &mut present, &mut random);
            let available: Vec<f64> = (0..).zip(&present)
                .map(|(id, &weight)| if tree.is_available(id) { weight } else { 0.0 })
                .collect();
            prop_assert!(tree.bound() <= BOUND_TARGET + ROUNDING, "certified {}", tree.bound());
            if available.iter().sum::<f64>() == 0.0 {
                prop_assert_eq!(tree.route(UnitSize::ONE), None);
                continue;
            }
            let mut count = Count::new(available);
            for _ in 0..random.below(1000) {
                count.route(&mut tree, 1 + random.below(unit_max));
            }
            let worst = count.worst() / f64::from(unit_max);
            prop_assert!(worst <= SINCE_CHANGE, "{worst} units since the change");
        }
    }
}

/// One change of any sort: of all weights, of one, of membership, of availability.
fn change(kind: u32, tree: &mut Tree, present: &mut Vec<f64>, random: &mut Random) {
    let count = u32::try_from(present.len()).expect("a few leaves");
    let one = random.below(count);
    match random.below(6) {
        0 => *present = weights(kind, present.len(), random),
        1 => present[one as usize] *= 4.0 * random.unit(),
        2 => present[one as usize] = 0.0,
        3 => {
            for weight in present.iter_mut() {
                *weight = if random.below(2) == 0 {
                    0.0
                } else {
                    random.unit()
                };
            }
        }
        4 => return tree.set_available(one, !tree.is_available(one)),
        _ => {
            for id in 0..count {
                tree.set_available(id, random.below(3) > 0);
            }
            return;
        }
    }
    // A leaf without weight is listed as such or not at all.
    let mut listed = table(present);
    if random.below(2) == 0 {
        listed.retain(|&(_, weight)| weight > 0.0);
    }
    tree.set_weights(&listed);
}

/// Routes `messages` single messages with a change of weights before each, and returns how far each
/// leaf ended from the sum of its shares, in messages and as a fraction of it.
fn route_under_change(
    leaves: usize,
    messages: u32,
    mut next: impl FnMut(&mut Vec<f64>, Option<u32>),
) -> (f64, f64) {
    let mut weights = vec![1.0; leaves];
    let mut tree = Tree::new(0);
    let (mut due, mut got) = (vec![0.0; leaves], vec![0.0; leaves]);
    let mut last = None;
    for _ in 0..messages {
        next(&mut weights, last);
        let list: Vec<_> = table(&weights)
            .into_iter()
            .filter(|&(_, w)| w > 0.0)
            .collect();
        tree.set_weights(&list);
        let sum: f64 = weights.iter().sum();
        for (due, weight) in due.iter_mut().zip(&weights) {
            *due += weight / sum;
        }
        last = tree.route(UnitSize::ONE);
        got[last.expect("some leaf has a weight") as usize] += 1.0;
    }
    let off = |leaf: usize| f64::abs(due[leaf] - got[leaf]);
    let worst = (0..leaves).map(off).fold(0.0, f64::max);
    (
        worst,
        (0..leaves)
            .map(|leaf| off(leaf) / due[leaf])
            .fold(0.0, f64::max),
    )
}

const MILLION: u32 = 1_000_000;

#[test]
fn small_changes_after_every_message_do_not_bias_shares() {
    let mut random = Random::new(1);
    let (messages, fraction) = route_under_change(4, MILLION, |weights, _| {
        for (weight, base) in weights.iter_mut().zip([0.4, 0.3, 0.2, 0.1]) {
            *weight = base * (1.0 + 0.1 * random.unit());
        }
    });
    println!("small changes: off by {messages} messages, {fraction}");
    assert!(fraction < 0.005, "off by {fraction}");
    assert!(messages < 8.0, "off by {messages} messages");
}

#[test]
fn changes_of_shape_and_membership_after_every_message_do_not_bias_shares() {
    let mut random = Random::new(2);
    let (messages, fraction) = route_under_change(5, MILLION, |weights, _| {
        for weight in weights.iter_mut() {
            *weight = [0.0, 1.0, 3.0 * random.unit(), 30.0][random.below(4) as usize];
        }
        weights[random.below(5) as usize] = 1.0;
    });
    println!("changes of shape: off by {messages} messages, {fraction}");
    assert!(fraction < 0.005, "off by {fraction}");
}

#[test]
fn changes_that_follow_the_choice_do_not_bias_shares() {
    let (messages, fraction) = route_under_change(4, MILLION / 2, |weights, last| {
        weights.copy_from_slice(&[4.0, 3.0, 2.0, 1.0]);
        if let Some(last) = last {
            weights[last as usize] *= 0.25;
        }
    });
    println!("changes that follow the choice: off by {messages} messages, {fraction}");
    assert!(fraction < 0.005, "off by {fraction}");
}

#[test]
fn a_leaf_that_leaves_the_choice_after_each_message_keeps_the_others_in_proportion() {
    let weights = [4.0, 3.0, 2.0, 1.0, 5.0];
    let mut tree = tree_of(0, &weights);
    let (mut due, mut got) = ([0.0; 5], [0.0; 5]);
    let mut out: Vec<(u32, u32)> = Vec::new();
    for message in 0..400_000 {
        out.retain(|&(leaf, until)| {
            tree.set_available(leaf, until <= message);
            until > message
        });
        let sum: f64 = (0..5)
            .filter(|&id| tree.is_available(id))
            .map(|id| weights[id as usize])
            .sum();
        for id in (0..5).filter(|&id| tree.is_available(id)) {
            due[id as usize] += weights[id as usize] / sum;
        }
        let leaf = tree.route(UnitSize::ONE).expect("the last two always stay");
        got[leaf as usize] += 1.0;
        if leaf < 3 {
            tree.set_available(leaf, false);
            out.push((leaf, message + 3 + leaf));
        }
    }
    for id in 0..5 {
        let off = f64::abs(due[id] - got[id]);
        println!("leaf {id}: off by {off} of {}", due[id]);
        assert!(off < 16.0, "leaf {id} is off by {off} of {}", due[id]);
    }
}

#[test]
fn unavailable_leaves_are_not_chosen_and_the_others_keep_their_proportion() {
    let weights = [8.0, 5.0, 3.0, 2.0, 1.0, 1.0];
    let mut tree = tree_of(0, &weights);
    for out in 0_u32..64 {
        let mut available = weights.to_vec();
        for id in 0..6 {
            let taken_out = out >> id & 1 == 1;
            tree.set_available(id, !taken_out);
            if taken_out {
                available[id as usize] = 0.0;
            }
        }
        if out == 63 {
            assert_eq!(tree.route(UnitSize::ONE), None);
            break;
        }
        let mut count = Count::new(available);
        for _ in 0..1000 {
            count.route(&mut tree, 1);
        }
        assert!(
            count.worst() <= SINCE_CHANGE,
            "{} for {out:b}",
            count.worst()
        );
    }
}

/// Four shards that take messages in turn: the worst distance of their sum, and its mean square
/// after each round.
fn four_shards(phases: [u64; 4], weights: &[f64]) -> (f64, f64) {
    let mut shards = phases.map(|phase| tree_of(phase, weights));
    let mut count = Count::new(weights.to_vec());
    let mut squares = 0.0;
    for _ in 0..500 {
        for shard in &mut shards {
            count.route(shard, 1);
        }
        let off = |leaf| count.distance(leaf);
        squares += (0..weights.len())
            .map(|leaf| off(leaf).powi(2))
            .sum::<f64>();
    }
    (count.worst(), squares / 500.0)
}

#[test]
fn errors_of_shards_with_different_phases_cancel() {
    let mut random = Random::new(4);
    let (mut apart, mut together) = ((0.0_f64, 0.0), (0.0_f64, 0.0));
    for leaves in [2, 3, 4, 7, 16, 64] {
        for kind in [0, 1, 2, 5, 9] {
            let weights = weights(kind, leaves, &mut random);
            let (worst, squares) = four_shards([0, 1, 2, 3], &weights);
            apart = (apart.0.max(worst), apart.1 + squares);
            // Proved: four bounds, and what phases 1 to 3 start with.
            assert!(worst <= 4.0 * BOUND_TARGET + BOUND_TARGET, "{worst}");
            assert!(leaves > 2 || worst <= 2.0, "{worst} for two leaves");
            let (worst, squares) = four_shards([0; 4], &weights);
            together = (together.0.max(worst), together.1 + squares);
        }
    }
    println!("worst, squares: {apart:?} apart, {together:?} in step");
    assert!(
        apart.0 < together.0 && apart.1 < 0.6 * together.1,
        "{apart:?} {together:?}"
    );
}

/// Three replicas of two shards that take messages in turn: worst distance of the sum, and its mean square.
fn six_trees(instances: [u64; 3], weights: &[f64]) -> (f64, f64) {
    let phases = instances.map(|instance| [0, 1].map(|shard| phase(shard, instance)));
    let mut trees: Vec<Tree> = phases
        .iter()
        .flatten()
        .map(|it| tree_of(*it, weights))
        .collect();
    let mut count = Count::new(weights.to_vec());
    let mut squares = 0.0;
    for _ in 0..300 {
        for tree in &mut trees {
            count.route(tree, 1);
        }
        let off = |leaf| count.distance(leaf);
        let all = 0..weights.len();
        squares += all.map(|leaf| off(leaf).powi(2)).sum::<f64>();
    }
    (count.worst(), squares / 300.0)
}

#[test]
fn errors_of_replicas_cancel_as_those_of_shards_do() {
    let mut random = Random::new(14);
    let (mut apart, mut together) = (0.0, 0.0);
    for leaves in [2, 3, 4, 7, 16, 64] {
        for kind in [0, 1, 2, 5, 9] {
            let weights = weights(kind, leaves, &mut random);
            let instances = [(); 3].map(|()| random.next_u64());
            let (worst, squares) = six_trees(instances, &weights);
            // Proved: twice the bound for each tree, whatever it starts with.
            assert!(worst <= 6.0 * 2.0 * BOUND_TARGET, "{worst}");
            apart += squares;
            together += six_trees([0; 3], &weights).1;
        }
    }
    println!("mean squares: {apart} apart, {together} in step");
    assert!(apart < 0.6 * together, "{apart} {together}");
}

#[test]
fn every_size_of_every_hard_family_is_certified() {
    let mut random = Random::new(5);
    for kind in 0..KINDS {
        for leaves in (1..=64).chain([100, 127, 128, 129, 200, 300, 400, 511, 512]) {
            let bound = tree_of(0, &weights(kind, leaves, &mut random)).bound();
            assert!(
                bound <= BOUND_TARGET + ROUNDING,
                "{bound} for {leaves} of kind {kind}"
            );
        }
    }
}
