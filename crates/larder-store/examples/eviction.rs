//! Replays months of jobs against larder's order of eviction and against the least recently used: the figures of
//! `docs/eviction.md`.
//!
//! ```sh
//! cargo run --release -p larder-store --example eviction [SEED…]
//! ```

#![expect(clippy::disallowed_methods, reason = "its arguments are seeds")]

#[path = "../tests/support/history.rs"]
mod history;

use history::{Order, month, replay};

const ORDERS: [(&str, Order); 3] = [
    ("least recently used", Order::LeastRecentlyUsed),
    ("larder", Order::Worth),
    ("larder, defaults", Order::Defaults),
];

fn hours(ms: u64) -> f64 {
    ms as f64 / 3_600_000.0
}

fn main() {
    let seeds: Vec<u64> = std::env::args().skip(1).filter_map(|seed| seed.parse().ok()).collect();
    let seeds = if seeds.is_empty() { vec![1] } else { seeds };
    println!("| seed | budget | nobody evicted | least recently used | larder | larder, defaults |");
    println!("|---|---|---|---|---|---|");
    for seed in seeds {
        let jobs = month(seed, 200);
        let all = replay(&jobs, u64::MAX, Order::Nobody);
        for percent in [3, 5, 10, 20, 40] {
            let budget = all.held / 100 * percent;
            let cells: Vec<String> = ORDERS
                .iter()
                .map(|(_, order)| replay(&jobs, budget, *order))
                .map(|outcome| format!("{:.2} h ({} evicted)", hours(outcome.spared_ms), outcome.evicted))
                .collect();
            let gigabytes = budget as f64 / 1e9;
            println!(
                "| {seed} | {gigabytes:.1} GB ({percent} %) | {:.2} h | {} |",
                hours(all.spared_ms),
                cells.join(" | ")
            );
        }
    }
}
