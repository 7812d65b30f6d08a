//! The routing tree against counting: whatever weights, membership and availability do, only leaves
//! that may be chosen are, one is whenever one may be, and each leaf stays within the certified bound
//! of `docs/SHARES.md` of its exact share: the bound from an empty start (theorem 1), twice the bound
//! from any change (theorem 2).
//!
//! Input: u8 phase of the tree, u8 largest unit, operations.

use weir::engine::tree::{Tree, UnitSize, BOUND_TARGET, UNIT_MAX};
use weir_testkit::Random;

use super::input::Input;

const LEAVES_MAX: usize = 256;
/// Messages that one input may route.
const ROUTES_MAX: u32 = 5_000;
const ROUNDING: f64 = 1e-6;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let phase = u64::from(input.u8() % 8);
    let unit_max = input.pick(&[1, 1, 2, 64, 1000, UNIT_MAX]);
    let mut bench = Bench {
        tree: Tree::new(phase),
        leaves: Vec::new(),
        unit_max,
        unit_seen: 1,
        routed: 0.0,
        largest: 0.0,
        sum: 0.0,
        rounded: 0.0,
        routes_left: ROUTES_MAX,
        // Phase 0 starts without deficits; after the first change nothing is known of them.
        starts_level: phase == 0,
        bound: 0.0,
    };
    while !input.is_empty() {
        bench.step(&mut input);
    }
}

/// What is known of a leaf, by its id.
#[derive(Clone, Copy, Default)]
struct Leaf {
    present: bool,
    weight: f64,
    /// Set apart from `present`, because the tree keeps it while the leaf is present only.
    taken_out: bool,
    /// Messages since the last change.
    got: f64,
}

impl Leaf {
    /// Weight in the table; none if it makes no sense.
    fn table_weight(&self) -> f64 {
        if self.present && self.weight.is_finite() {
            self.weight.max(0.0)
        } else {
            0.0
        }
    }

    /// Weight that counts now.
    fn open_weight(&self) -> f64 {
        if self.taken_out {
            0.0
        } else {
            self.table_weight()
        }
    }
}

struct Bench {
    tree: Tree,
    leaves: Vec<Leaf>,
    unit_max: u32,
    unit_seen: u32,
    /// Messages since the last change.
    routed: f64,
    /// The largest weight that is open, and the sum of all in units of it.
    largest: f64,
    sum: f64,
    /// By how much of itself the sum of the open weights may be off, because the tree rounds each to
    /// 2^-43 of the sum of the table, what is not available included.
    rounded: f64,
    routes_left: u32,
    starts_level: bool,
    bound: f64,
}

impl Bench {
    fn step(&mut self, input: &mut Input) {
        match input.below(8) {
            0 => self.new_table(input),
            1 => self.one_weight(input),
            2 => self.membership(input),
            3 => self.availability(input),
            4 => {
                // Whichever was chosen leaves, as one does whose window is full.
                if let Some(leaf) = self.route(1) {
                    self.set_available(leaf, false);
                }
            }
            5 => {
                let units = 1 + u32::from(input.u16() % 1024);
                for _ in 0..units {
                    self.route(self.unit_max);
                }
            }
            6 => {
                let mut random = Random::new(input.u64());
                let units = 1 + input.below(256);
                for _ in 0..units {
                    let unit = 1 + random.below(self.unit_max as usize) as u32;
                    self.route(unit);
                }
            }
            _ => {
                self.route(1);
            }
        }
    }

    // Changes -----------------------------------------------------------------------------------

    fn new_table(&mut self, input: &mut Input) {
        let count = input.pick(&[1, 2, 3, 4, 5, 7, 16, 40, 100, LEAVES_MAX]);
        let (kind, mut random) = (input.below(10), Random::new(input.u64()));
        let leaf = |index: usize| Leaf {
            present: true,
            weight: weight(kind, index, &mut random),
            ..Leaf::default()
        };
        let fresh: Vec<_> = (0..count).map(leaf).collect();
        self.leaves
            .resize(self.leaves.len().max(count), Leaf::default());
        for (index, old) in self.leaves.iter_mut().enumerate() {
            let new = fresh.get(index).copied().unwrap_or_default();
            let taken_out = old.taken_out && new.present;
            *old = Leaf { taken_out, ..new };
        }
        self.publish();
    }

    fn one_weight(&mut self, input: &mut Input) {
        if self.leaves.is_empty() {
            return;
        }
        let leaf = input.below(self.leaves.len());
        let weight = match input.below(4) {
            0 => f64::from_bits(input.u64()),
            1 => f64::from(input.u8()),
            2 => self.leaves[leaf].weight * f64::from(input.u8()) / 64.0,
            _ => 2_f64.powi(i32::from(input.u8()) - 128),
        };
        self.leaves[leaf].weight = weight;
        self.publish();
    }

    fn membership(&mut self, input: &mut Input) {
        // Mostly small numbers; the table of leaves is as long as the largest.
        let leaf = input.below(LEAVES_MAX) % input.pick(&[4, 8, 64, LEAVES_MAX]);
        if leaf >= self.leaves.len() {
            self.leaves.resize(leaf + 1, Leaf::default());
        }
        let known = &mut self.leaves[leaf];
        known.present = !known.present;
        known.taken_out = false;
        known.weight = f64::from(input.u8()) / 10.0;
        self.publish();
    }

    fn availability(&mut self, input: &mut Input) {
        let flags = input.u8();
        let leaf = input.below(self.leaves.len() + 2) as u32;
        if flags < 200 {
            return self.set_available(leaf, flags & 1 == 0);
        }
        // Everybody's at once.
        for leaf in 0..self.leaves.len() as u32 {
            self.set_available(leaf, (u32::from(flags) >> (leaf % 5)) & 1 == 0);
        }
    }

    fn set_available(&mut self, leaf: u32, available: bool) {
        self.tree.set_available(leaf, available);
        if let Some(known) = self
            .leaves
            .get_mut(leaf as usize)
            .filter(|leaf| leaf.present)
        {
            if known.taken_out == available {
                known.taken_out = !available;
                self.changed();
            }
        }
        self.check_availability();
    }

    fn publish(&mut self) {
        let leaves = (0..).zip(&self.leaves).filter(|(_, leaf)| leaf.present);
        let table: Vec<_> = leaves.map(|(id, leaf)| (id, leaf.weight)).collect();
        self.tree.set_weights(&table);
        self.changed();
        self.check_availability();
    }

    /// Counting begins anew.
    fn changed(&mut self) {
        self.starts_level &= self.unit_seen_is_none();
        self.routed = 0.0;
        // Scaled, so that no sum of weights overflows; the tree divides by its largest, too.
        let leaves = &self.leaves;
        self.largest = leaves.iter().map(Leaf::open_weight).fold(0.0, f64::max);
        // Scaled, so that no sum of open weights overflows.
        let sum_of = |weight: fn(&Leaf) -> f64| -> f64 {
            leaves.iter().map(|leaf| weight(leaf) / self.largest).sum()
        };
        let count = leaves
            .iter()
            .filter(|leaf| leaf.open_weight() > 0.0)
            .count();
        self.sum = if count > 0 {
            sum_of(Leaf::open_weight)
        } else {
            0.0
        };
        self.rounded = (count + 1) as f64 * 2_f64.powi(-43) * sum_of(Leaf::table_weight)
            / sum_of(Leaf::open_weight);
        self.leaves.iter_mut().for_each(|leaf| leaf.got = 0.0);
        self.bound = self.tree.bound();
        assert!(
            self.bound <= BOUND_TARGET + ROUNDING,
            "certified {}",
            self.bound
        );
    }

    fn unit_seen_is_none(&self) -> bool {
        self.routes_left == ROUTES_MAX
    }

    fn check_availability(&self) {
        for (id, leaf) in (0..).zip(&self.leaves) {
            assert_eq!(
                self.tree.is_available(id),
                leaf.present && !leaf.taken_out,
                "{id}"
            );
        }
    }

    // Routing -----------------------------------------------------------------------------------

    fn route(&mut self, unit: u32) -> Option<u32> {
        self.routes_left = self.routes_left.checked_sub(1)?;
        self.unit_seen = self.unit_seen.max(unit);
        let chosen = self
            .tree
            .route(UnitSize::new(unit).expect("units are in range"));
        assert_eq!(
            chosen.is_some(),
            self.sum > 0.0,
            "one is chosen if one can be"
        );
        let leaf = chosen?;
        let known = self.leaves[leaf as usize];
        assert!(known.open_weight() > 0.0, "leaf {leaf} must not be chosen");
        // A leaf is furthest from its share just before and just after it is chosen.
        self.check_share(leaf);
        self.routed += f64::from(unit);
        self.leaves[leaf as usize].got += f64::from(unit);
        self.check_share(leaf);
        Some(leaf)
    }

    fn check_share(&self, leaf: u32) {
        let known = &self.leaves[leaf as usize];
        let exact = self.routed * (known.open_weight() / self.largest / self.sum);
        let off = (exact - known.got).abs();
        let bounds = if self.starts_level { 1.0 } else { 2.0 };
        let rounding = ROUNDING * f64::from(self.unit_seen) + self.routed * self.rounded;
        let most = bounds * self.bound * f64::from(self.unit_seen) + rounding;
        // Not a number: the weights that are left are nothing beside those that are not available.
        assert!(
            off <= most || most.is_nan(),
            "leaf {leaf} is off by {off}, bound {most}"
        );
    }
}

/// Families that trees find hard, and ordinary ones.
fn weight(kind: usize, index: usize, random: &mut Random) -> f64 {
    let fraction = random.below(1 << 30) as f64 / f64::from(1 << 30);
    let index = i32::try_from(index).expect("few leaves");
    match kind {
        0 => fraction + 0.001,
        1 => (20.0 * fraction - 10.0).exp(),
        2 => 1.0,
        3 => 2_f64.powi(-(index % 40)),
        4 => 1.618_034_f64.powi(-(index % 60)),
        5 => 1.0 / (1.0 + f64::from(index)),
        6 => [1.0, 1e-7 * (1.0 + fraction)][usize::from(index > 0)],
        7 => [1.0, 1e-9][usize::from(index % 7 == 3)],
        8 => [0.0, 1e300, f64::MIN_POSITIVE, f64::NAN, -1.0][random.below(5)],
        _ => f64::from(1 + index % 4),
    }
}
