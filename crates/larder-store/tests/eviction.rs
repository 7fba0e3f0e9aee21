//! The order of eviction against the least recently used, on months that a recipe makes.

#[path = "support/history.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "the example uses all of it")]
mod history;

use history::{Order, month, replay};

#[test]
fn larder_spares_more_than_the_least_recently_used_would() {
    let (mut ours, mut theirs) = (0, 0);
    for seed in 1..=3 {
        let jobs = month(seed, 200);
        assert_eq!(jobs.len(), 200);
        let all = replay(&jobs, u64::MAX, Order::Nobody);
        for percent in [5, 10, 20] {
            let budget = all.held / 100 * percent;
            let worth = replay(&jobs, budget, Order::Worth);
            let lru = replay(&jobs, budget, Order::LeastRecentlyUsed);
            assert_eq!(worth.spared_ms + worth.built_ms, all.spared_ms + all.built_ms);
            assert!(worth.held <= budget && lru.held <= budget);
            assert!(worth.spared_ms >= lru.spared_ms, "seed {seed}, {percent} %: {worth:?}, {lru:?}");
            (ours, theirs) = (ours + worth.spared_ms, theirs + lru.spared_ms);
        }
    }
    assert!(ours > theirs);
}
