//! Who is overdue, and who is nobody to blame.

use std::time::Duration;

use onex_registry::store::Store as _;
use onex_registry::store::health::Rules;
use serde_json::json;

use super::super::ages;
use super::{Bench, RULES, key};

impl Bench {
    async fn overdue(&self, rules: Rules) -> Vec<String> {
        let census = self.store.census(&rules).await.unwrap();
        let mut ids: Vec<_> = census.overdue.iter().map(|id| id.as_str().to_owned()).collect();
        ids.sort();
        ids
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_overdue_before_this_server_has_been_up_for_his_ttl() {
    let mut bench = Bench::new().await;
    bench.leader().await;
    bench.register("minute", true, &json!({"node_type": "effect"})).await;
    bench.register("second", true, &json!({"node_type": "effect", "ttl_seconds": 1})).await;
    bench.register("hour", true, &json!({"node_type": "effect", "ttl_seconds": 3_600})).await;
    ages(&mut bench.owner, "TRUE", "3 hours").await;
    for (uptime, expected) in [
        (Duration::from_micros(999_999), [].as_slice()),
        (Duration::from_secs(1), &["second"]),
        (Duration::from_micros(59_999_999), &["second"]),
        (Duration::from_mins(1), &["minute", "second"]),
        (Duration::from_secs(3_599), &["minute", "second"]),
        (Duration::from_hours(1), &["hour", "minute", "second"]),
    ] {
        assert_eq!(bench.overdue(Rules { uptime, ..RULES }).await, expected, "{uptime:?}");
    }
    assert_eq!(bench.overdue(Rules { expire_after: None, ..RULES }).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_never_seen_alive_is_overdue_only_if_somebody_looks() {
    let mut bench = Bench::new().await;
    let leader = bench.leader().await;
    let probed = json!({"node_type": "effect", "health_endpoint": "http://127.0.0.1:9/health"});
    bench.register("probed", false, &probed).await;
    bench.register("silent", false, &json!({"node_type": "effect"})).await;
    bench.register("seen", true, &probed).await;
    ages(&mut bench.owner, "TRUE", "62 minutes").await;
    assert_eq!(bench.overdue(RULES).await, ["seen"]);
    let looking = Rules { probing: true, ..RULES };
    assert_eq!(bench.overdue(looking).await, ["probed", "seen"]);
    // And so it is for who removes them.
    let horizon = bench.store.census(&RULES).await.unwrap().horizon;
    for (rules, expected) in [(RULES, false), (looking, true)] {
        let gone = bench.store.expire(&leader, &[key("probed"), key("silent")], &horizon, &rules).await;
        let gone: Vec<bool> = gone.into_iter().map(Result::unwrap).collect();
        assert_eq!(gone, [expected, false]);
    }
}
