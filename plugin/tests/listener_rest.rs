//! The listener's REST interface in front of the embedded store: every operation and every refusal.

mod listening;

use listening::{Listening, filled, ids, point_ids};
use serde_json::{Value, json};
use whyrank_plugin::ListenerSettings;

#[tokio::test]
async fn the_service_says_what_it_is() {
    let listening = Listening::start(ListenerSettings::default()).await;
    let (status, root) = listening.call("GET", "/", Value::Null).await;
    assert_eq!((status, &root["version"]), (200, &json!("1.18.3")));
    for (path, words) in [
        ("/healthz", "healthz check passed"),
        ("/livez", "healthz check passed"),
        ("/readyz", "all shards are ready"),
    ] {
        assert_eq!(listening.call("GET", path, Value::Null).await, (200, json!(words)));
    }
}

#[tokio::test]
async fn collections_are_made_described_and_deleted() {
    let listening = Listening::start(ListenerSettings::default()).await;
    let body = json!({"vectors": {"size": 3, "distance": "Manhattan"}});
    let made = listening.result("PUT", "/collections/one?wait=true&timeout=5", body.clone()).await;
    assert_eq!(made, true);
    let (status, answer) = listening.call("PUT", "/collections/one", body).await;
    assert_eq!(status, 409);
    assert_eq!(answer["status"]["error"], "Wrong input: Collection `one` already exists!");
    let body = json!({"field_name": "kind", "field_schema": {"type": "keyword"}});
    let written = listening.result("PUT", "/collections/one/index?wait=true", body).await;
    assert_eq!(written["status"], "completed");
    let info = listening.result("GET", "/collections/one", Value::Null).await;
    assert_eq!(info["config"]["params"]["vectors"], json!({"size": 3, "distance": "Manhattan"}));
    assert_eq!(info["payload_schema"]["kind"], json!({"data_type": "keyword", "points": 0}));
    let exists = listening.result("GET", "/collections/one/exists", Value::Null).await;
    assert_eq!(exists, json!({"exists": true}));
    let list = listening.result("GET", "/collections", Value::Null).await;
    assert_eq!(list, json!({"collections": [{"name": "one"}]}));
    assert_eq!(listening.result("DELETE", "/collections/one", Value::Null).await, true);
    assert_eq!(listening.result("DELETE", "/collections/one", Value::Null).await, false);
    let exists = listening.result("GET", "/collections/one/exists", Value::Null).await;
    assert_eq!(exists, json!({"exists": false}));
}

#[tokio::test]
async fn points_are_written_read_changed_and_deleted() {
    let listening = Listening::start(ListenerSettings::default()).await;
    let post = async |path: &str, body: Value| {
        listening.result("POST", &format!("/collections/one{path}"), body).await
    };
    let body = json!({"vectors": {"size": 2, "distance": "Dot"}});
    listening.result("PUT", "/collections/one", body).await;
    let uuid = "0539e7ca-dfd6-5cc6-ad1f-2720cd983682";
    let payload = json!({"a": 0.1, "b": [1, null, {"c": 18446744073709551615_u64}]});
    let body = json!({"points": [
        {"id": 1, "vector": [0.1, 0.2], "payload": payload},
        {"id": uuid, "vector": [1, 2], "payload": null},
    ]});
    listening.result("PUT", "/collections/one/points?wait=true", body).await;
    let one = listening.result("GET", "/collections/one/points/1", Value::Null).await;
    // In text, as the client gets it: 0.1 and not the double next to the 32-bit 0.1.
    assert_eq!(
        one.to_string(),
        json!({"id": 1, "payload": payload, "vector": [0.1, 0.2]}).to_string()
    );
    let body = json!({"ids": [uuid, 7], "with_payload": {"exclude": ["a"]}});
    assert_eq!(post("/points", body).await, json!([{"id": uuid, "payload": {}}]));
    let body = json!({"batch": {"ids": [2, 3], "vectors": [[1, 1], [2, 2]],
        "payloads": [{"k": 1}, {"k": 2}]}});
    listening.result("PUT", "/collections/one/points", body).await;
    post("/points/payload", json!({"payload": {"a": null, "n": 5}, "points": [1]})).await;
    let body = json!({"payload": {"big": true}, "filter":
        {"must": [{"key": "k", "range": {"gte": 1}}]}});
    post("/points/payload", body).await;
    let page = post("/points/scroll", json!({"limit": 3, "with_payload": ["n", "big"]})).await;
    let expected = json!({"points": [
        {"id": 1, "payload": {"n": 5}},
        {"id": 2, "payload": {"big": true}},
        {"id": 3, "payload": {"big": true}},
    ], "next_page_offset": uuid});
    assert_eq!(page, expected);
    let last = post("/points/scroll", json!({"offset": uuid, "with_payload": false})).await;
    assert_eq!(last, json!({"points": [{"id": uuid}], "next_page_offset": null}));
    let big = json!({"must": [{"key": "big", "match": {"value": true}}]});
    let count = post("/points/count", json!({"filter": big, "exact": false})).await;
    assert_eq!(count, json!({"count": 2}));
    post("/points/delete", json!({"filter": big})).await;
    post("/points/delete", json!({"points": [1, 99]})).await;
    assert_eq!(post("/points/count", json!({})).await, json!({"count": 1}));
}

#[tokio::test]
async fn queries_are_answered_in_every_form() {
    let listening = Listening::start(ListenerSettings::default()).await;
    filled(&listening).await;
    let query = async |body: Value| {
        let answer = listening.result("POST", "/collections/named/points/query", body).await;
        point_ids(&answer["points"])
    };
    let vector = json!([1, 0]);
    assert_eq!(query(json!({"query": vector, "using": "first"})).await.len(), 10);
    let body = json!({"query": {"nearest": 11}, "using": "first", "limit": 2});
    assert_eq!(query(body).await, ids(&[10, 9]));
    let lookup = json!({"collection": "users", "vector": "user"});
    let body = json!({"query": 11, "using": "first", "lookup_from": lookup, "limit": 2});
    assert_eq!(query(body.clone()).await, ids(&[0, 1]));
    let above = json!({"query": vector, "using": "first", "score_threshold": 9.5});
    assert_eq!(query(above).await, ids(&[11, 10]));
    assert_eq!(query(json!({"limit": 2, "offset": 3})).await, ids(&[3, 4]));
    let batch = json!({"searches": [body, {"limit": 1, "with_vector": true}]});
    let answers = listening.result("POST", "/collections/named/points/query/batch", batch).await;
    assert_eq!(point_ids(&answers[0]["points"]), ids(&[0, 1]));
    let first = &answers[1]["points"][0];
    assert_eq!(first["vector"], json!({"first": [0.0, 1.0]}));
    let body = json!({"query": vector, "using": "first", "group_by": "third", "limit": 2,
        "group_size": 2, "with_payload": ["text"]});
    let groups = listening.result("POST", "/collections/named/points/query/groups", body).await;
    let hit = json!({"id": 11, "version": 0, "score": 11.0, "payload": {"text": "11"}});
    assert_eq!(groups["groups"][0]["hits"][0], hit);
    assert_eq!(groups["groups"][0]["id"], 2);
    assert_eq!(point_ids(&groups["groups"][1]["hits"]), ids(&[10, 7]));
    let body = json!({"field_name": "parity", "field_schema": "integer"});
    listening.result("PUT", "/collections/named/index", body).await;
    let hits = listening.result("POST", "/collections/named/facet", json!({"key": "parity"})).await;
    assert_eq!(hits["hits"].as_array().map(Vec::len), Some(2));
    assert_eq!(hits["hits"][0]["count"], 6);
}

#[tokio::test]
async fn groups_are_filled_from_far_candidates() {
    let listening = Listening::start(ListenerSettings::default()).await;
    let body = json!({"vectors": {"size": 1, "distance": "Dot"}});
    listening.result("PUT", "/collections/one", body).await;
    // The group that is nearest has fifty points, so the other's only come when it is set aside.
    let points: Vec<Value> = (0..60)
        .map(|id| {
            let payload = json!({"group": if id < 10 { "far" } else { "near" }});
            json!({"id": id, "vector": [id], "payload": payload})
        })
        .collect();
    listening.result("PUT", "/collections/one/points", json!({"points": points})).await;
    let body = json!({"query": [1], "group_by": "group", "limit": 2, "group_size": 2});
    let groups = listening.result("POST", "/collections/one/points/query/groups", body).await;
    assert_eq!(groups["groups"][0]["id"], "near");
    assert_eq!(point_ids(&groups["groups"][0]["hits"]), ids(&[59, 58]));
    assert_eq!(point_ids(&groups["groups"][1]["hits"]), ids(&[9, 8]));
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_qdrant_s_status() {
    let settings = ListenerSettings {
        maximum_limit: 50,
        maximum_batch: 3,
        maximum_queries: 2,
        maximum_body_bytes: 2_000,
    };
    let listening = Listening::start(settings).await;
    filled(&listening).await;
    let check = async |method: &str, path: &str, body: Value, status: u16, words: &str| {
        let (found, answer) = listening.call(method, path, body).await;
        let error = answer["status"]["error"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{method} {path}: {answer}");
        assert!(error.contains(words), "{method} {path}: {error}");
        assert!(answer["time"].is_number() && answer.get("result").is_none(), "{answer}");
    };
    let post = async |path: &str, body: Value, status: u16, words: &str| {
        check("POST", &format!("/collections/named/points{path}"), body, status, words).await;
    };
    let none = || Value::Null;
    check("GET", "/collections/none", none(), 404, "Collection `none` doesn't exist!").await;
    check("GET", "/collections/named/points/99", none(), 404, "Point with id 99").await;
    check("GET", "/collections/named/points/x", none(), 400, "\"x\" as point id").await;
    check(
        "PUT",
        "/collections/a%2Fb",
        json!({"vectors": {"size": 1, "distance": "Dot"}}),
        400,
        "cannot name a collection",
    )
    .await;
    check(
        "PUT",
        "/collections/new",
        json!({"vectors": {"size": 0, "distance": "Dot"}}),
        422,
        "must be from 1",
    )
    .await;
    check("PUT", "/collections/new", json!({}), 400, "no vector").await;
    check("GET", "/aliases", none(), 501, "GET /aliases").await;
    check("PATCH", "/collections/named", json!({}), 501, "PATCH /collections/named").await;
    check("POST", "/collections/named/new", json!({}), 501, "/collections/named/new").await;
    check("GET", "/collections?details=all", none(), 400, "unknown parameter `details`").await;
    post("/query", json!({"prefetch": [{}], "query": {"fusion": "rrf"}}), 501, "prefetch").await;
    post("/query", json!({"query": {"recommend": {"positive": [1]}}}), 501, "recommend").await;
    post("/query", json!({"limit": 0}), 422, "limit: value 0 invalid").await;
    post("/query", json!({"limit": 40, "offset": 11}), 400, "`maximum_limit` = 50").await;
    post("/query", json!({"query": [1], "using": "first"}), 400, "1 components").await;
    post("/query", json!({"query": [1, 1]}), 400, "no vector ``").await;
    post("/query", json!({"query": 99, "using": "first"}), 404, "No point with id 99").await;
    post("/query", json!({"score_threshold": 1}), 400, "score_threshold").await;
    post("/query", json!({"new": true}), 400, "unknown field `new`").await;
    let lookup = json!({"query": 1, "using": "first", "lookup_from": {"collection": "none"}});
    post("/query", lookup, 404, "`none`").await;
    post("/query/batch", json!({"searches": [{}, {}, {}]}), 400, "maximum_queries").await;
    post("/query/groups", json!({"group_by": "third", "limit": 9, "group_size": 9}), 400, "81")
        .await;
    post("/query/groups", json!({"group_by": "a["}), 400, "payload key").await;
    post("/scroll", json!({"order_by": "third"}), 501, "order_by").await;
    post("/count", json!({"filter": {"mist": []}}), 400, "filter").await;
    post("", json!({"ids": [1, 2, 3, 4]}), 400, "maximum_batch").await;
    post("/payload", json!({"payload": {}, "points": [99]}), 404, "No point with id 99").await;
    post("/delete", json!({}), 400, "`points` or `filter`").await;
    check("POST", "/collections/named/facet", json!({"key": "third"}), 400, "index").await;
    let points = json!({"points": [{"id": 1, "vector": {"first": [1]}}]});
    check("PUT", "/collections/named/points", points, 400, "1 components instead of 2").await;
    let large = json!({"points": [{"id": 1, "vector": vec![1; 2_000]}]});
    check("PUT", "/collections/named/points", large, 400, "2000 bytes").await;
    let (status, answer) = listening.call("POST", "/collections/named/points/count", none()).await;
    assert_eq!(status, 400, "an empty body is no JSON: {answer}");
}
