//! What choosing a leaf and changing the weights cost: `cargo run --release --example route_cost`.
//!
//! Prints the fastest and the median of many interleaved rounds, in nanoseconds per call.

use std::hint::black_box;
use std::time::Instant;
use weir::engine::tree::{Tree, UnitSize};

const ROUNDS: usize = 41;

fn main() {
    let cases: Vec<_> = [4, 64, 512]
        .into_iter()
        .flat_map(|count| {
            [
                ("equal", count),
                ("4:3:2:1", count),
                ("1/rank", count),
                ("crumb", count),
            ]
        })
        .map(|(name, count)| (name, count, table(name, count)))
        .collect();
    println!(
        "{:>8} {:>7}  {:>14}  {:>14}  {:>14}",
        "leaves", "weights", "route ns", "weights ns", "rebuild ns"
    );
    for (name, count, table) in &cases {
        let mut tree = Tree::new(0);
        tree.set_weights(table);
        let routes = measure(200_000, || {
            black_box(tree.route(UnitSize::ONE));
        });
        let mut flip = false;
        let mut nudged = table.clone();
        nudged[0].1 *= 1.01;
        let weights = measure(200, || {
            flip = !flip;
            tree.set_weights(if flip { &nudged } else { table });
        });
        let rebuilds = measure(200, || {
            flip = !flip;
            tree.set_weights(if flip {
                &table[..table.len() - 1]
            } else {
                table
            });
        });
        println!("{count:>8} {name:>7}  {routes:>14}  {weights:>14}  {rebuilds:>14}");
    }
}

fn table(name: &str, count: u32) -> Vec<(u32, f64)> {
    let weight = |id: u32| match name {
        "equal" => 1.0,
        "1/rank" => 1.0 / f64::from(id + 1),
        // A crumb under a Fibonacci series: Huffman's tree is not certified, `halving` builds.
        "crumb" => [1e-3, 1.618_f64.powf(f64::from(id.min(24)))][usize::from(id > 0)],
        _ => f64::from(4 - id % 4),
    };
    (0..count).map(|id| (id, weight(id))).collect()
}

/// "fastest / median" nanoseconds of `call`.
fn measure(calls: u32, mut call: impl FnMut()) -> String {
    let mut round = || {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    times.sort_by(f64::total_cmp);
    format!("{:.1} / {:.1}", times[0], times[ROUNDS / 2])
}
