//! Input that breaks a rule: it is refused with all that is wrong with it, and changes nothing.

use serde_json::{Value, json};

use crate::harness::{TestServer, places_of};

mod bodies;
mod ids;
mod queries;
mod sql;
mod transport;
mod values;

/// A registered node that bad input must leave as it is.
const VICTIM: &str = "/v1/nodes/victim";

async fn register_victim(server: &TestServer) {
    server.register("victim", json!({"node_type": "effect", "metadata": {"n": 1}})).await;
}

/// Each of these registrations (bodies without an id) is refused with 422 for these places and no others, alone and as
/// an item of a batch, and nothing changes.
async fn each_is_refused(server: &TestServer, cases: &[(&str, &[&str])]) {
    register_victim(server).await;
    let before = server.everything().await;
    for (body, places) in cases {
        let mut expected: Vec<String> = places.iter().map(ToString::to_string).collect();
        expected.sort();
        let mut alone = server.put(VICTIM, body).await.problem(422, "validation");
        alone.sort();
        assert_eq!(alone, expected, "{body}");

        // Places are in the item. Unless it is no object at all, it lacks an id there.
        if expected != [""] {
            expected.push("/node_id".to_owned());
            expected.sort();
        }
        let mut in_body = server.post("/v1/nodes", body).await.problem(422, "validation");
        in_body.sort();
        assert_eq!(in_body, expected, "{body}");
        let batch = server.post("/v1/batch/nodes", format!(r#"{{"nodes":[{body}]}}"#)).await;
        assert_eq!(batch.status, 200, "{}", batch.text);
        let item: Value = batch.json()["results"][0].take();
        assert_eq!((&item["status"], &item["revision"]), (&json!(422), &Value::Null), "{body}: {item}");
        let mut in_batch = places_of(&item["problem"]);
        in_batch.sort();
        assert_eq!(in_batch, expected, "{body}");
    }
    assert_eq!(server.everything().await, before);
}
