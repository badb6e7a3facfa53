//! The gateway, driven by clients that others wrote: over the embedded engine always, and in front of
//! a real Qdrant server where `QDRANT_URL` names its gRPC address (its REST is one port below).

mod clients;

use std::collections::HashSet;

use clients::{Clients, PYTHON_MODES};
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{
    LookupLocationBuilder, PointId, Query, QueryBatchPointsBuilder, QueryPointGroupsBuilder,
    QueryPointsBuilder, ScoredPoint,
};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use whyrank_plugin::{ItemId, UserId};
use whyrank_tests::{Gateway, Installation, RealQdrant, Server, until};

/// The consumer of these tests, as the data calls them.
const USER: &str = "7";
/// Results enough to hold every candidate.
const ALL: usize = 200;

struct Served {
    installation: Installation,
    server: Server,
    http: reqwest::Client,
    prefix: String,
}

impl Served {
    fn start(installation: Installation, prefix: &str) -> Self {
        let server = installation.serve(&["--role", "gateway"]).unwrap();
        let http = reqwest::Client::new();
        Self { installation, server, http, prefix: prefix.to_owned() }
    }

    fn gateway(&self) -> &Gateway {
        self.server.gateway.as_ref().expect("a gateway")
    }

    fn collection(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A query for the consumer, in the native idiom.
    fn for_user(&self, more: Value) -> Value {
        let mut query = json!({
            "query": UserId::from_external(USER).to_string(),
            "using": "item",
            "lookup_from": { "collection": self.collection("users"), "vector": "user" },
        });
        merge(&mut query, more);
        query
    }

    async fn post(
        &self,
        operation: &str,
        body: &Value,
        headers: &[(&'static str, &str)],
    ) -> (HeaderMap, Value) {
        let items = self.collection("items");
        let url = format!("{}/collections/{items}/points/{operation}", self.gateway().rest);
        let mut request = self.http.post(url).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.headers().clone(), response.json().await.unwrap())
    }

    /// What Qdrant itself answers.
    async fn plain(&self, operation: &str, body: &Value) -> Value {
        let (headers, answer) = self.post(operation, body, &[("x-whyrank-mode", "off")]).await;
        assert!(!headers.contains_key("x-whyrank-state"), "{headers:?}");
        answer
    }

    /// What the gateway makes of it.
    async fn reranked(&self, operation: &str, body: &Value) -> Value {
        let (headers, answer) = self.post(operation, body, &[]).await;
        assert_eq!(headers["x-whyrank-state"], "reranked", "{headers:?} {answer}");
        answer
    }

    async fn metric(&self, line: &str) -> f64 {
        let url = format!("{}/metrics", self.server.url);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {line} in\n{text}"))
    }

    fn rust_client(&self, headers: &[(&'static str, &'static str)]) -> Qdrant {
        let mut config = Qdrant::from_url(&self.gateway().grpc).skip_compatibility_check();
        for (name, value) in headers {
            config = config.header(*name, *value);
        }
        config.build().unwrap()
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn points(answer: &Value) -> &Vec<Value> {
    answer["result"]["points"].as_array().unwrap_or_else(|| panic!("no points in {answer}"))
}

fn ids(points: &[Value]) -> Vec<String> {
    points.iter().map(|point| point["id"].to_string()).collect()
}

fn scores(points: &[Value]) -> Vec<f64> {
    points.iter().map(|point| point["score"].as_f64().unwrap()).collect()
}

fn assert_falling(scores: &[f64]) {
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
}

/// Everything that a client may see of reranking, over one gateway.
async fn check_reranking(served: &Served) {
    rest_answers_are_reranked_permutations(served).await;
    pages_thresholds_and_filters_keep_their_meaning(served).await;
    batches_and_groups_are_reranked(served).await;
    the_consumer_may_be_named_by_a_header(served).await;
    shadow_and_degraded_answers_are_qdrants_own(served).await;
    the_rust_client_sees_the_same_as_rest(served).await;
}

async fn rest_answers_are_reranked_permutations(served: &Served) {
    let body = served.for_user(json!({ "limit": ALL, "with_payload": true, "with_vector": true }));
    let (plain, new) = (served.plain("query", &body).await, served.reranked("query", &body).await);
    let (plain, new) = (points(&plain), points(&new));
    assert_eq!(plain.len(), ALL);
    let as_set = |points: &[Value]| ids(points).into_iter().collect::<HashSet<_>>();
    assert_eq!(as_set(plain), as_set(new));
    assert_ne!(ids(plain), ids(new), "the ranker changes something");
    assert_falling(&scores(new));
    for (place, point) in new.iter().enumerate() {
        let note = &point["payload"]["whyrank"];
        assert_eq!(note["rank"], place + 1, "{note}");
        let old = &plain[note["retrieval_rank"].as_u64().unwrap() as usize - 1];
        assert_eq!((&old["id"], &old["vector"]), (&point["id"], &point["vector"]));
        assert_eq!(note["retrieval_score"], old["score"]);
        let mut payload = point["payload"].clone();
        payload.as_object_mut().unwrap().remove("whyrank");
        assert_eq!(payload, old["payload"]);
        assert!(["written", "predicted"].contains(&note["state"].as_str().unwrap()), "{note}");
        assert_eq!(note["state"] == "written", note["positive"].is_string(), "{note}");
        let shares = note["contributions"].as_object().unwrap();
        let total: f64 = shares.values().map(|share| share.as_f64().unwrap()).sum();
        assert!((total - point["score"].as_f64().unwrap()).abs() < 1e-3, "{note}");
    }
    // Without payloads there is nothing to put reasons into, and nothing else changes.
    let bare = served.reranked("query", &served.for_user(json!({ "limit": ALL }))).await;
    assert_eq!(ids(points(&bare)), ids(new));
    assert!(points(&bare).iter().all(|point| point["payload"].is_null()), "{bare}");
}

async fn pages_thresholds_and_filters_keep_their_meaning(served: &Served) {
    let all = served.reranked("query", &served.for_user(json!({ "limit": ALL }))).await;
    let all = ids(points(&all));
    for (limit, offset) in [(10, 0), (10, 10), (7, 190), (50, 150)] {
        let body = served.for_user(json!({ "limit": limit, "offset": offset }));
        let page = served.reranked("query", &body).await;
        assert_eq!(ids(points(&page)), all[offset..(offset + limit).min(all.len())]);
    }
    let plain = served.plain("query", &served.for_user(json!({ "limit": ALL }))).await;
    let threshold = scores(points(&plain))[20];
    let body = served.for_user(json!({ "limit": ALL, "score_threshold": threshold }));
    let kept = served.reranked("query", &body).await;
    assert_eq!(points(&kept).len(), points(&served.plain("query", &body).await).len());
    let few = points(&plain)[..30].iter().map(|point| point["id"].clone()).collect::<Vec<_>>();
    let filter = json!({ "must": [{ "has_id": few }] });
    let body = served.for_user(json!({ "limit": 5, "filter": filter, "with_payload": ["title"] }));
    let kept = served.reranked("query", &body).await;
    assert_eq!(points(&kept).len(), 5);
    for point in points(&kept) {
        assert!(few.contains(&point["id"]));
        let mut keys: Vec<_> = point["payload"].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["title", "whyrank"]);
    }
}

async fn batches_and_groups_are_reranked(served: &Served) {
    let of_user = served.for_user(json!({ "limit": 5, "with_payload": true }));
    let alone = served.reranked("query", &of_user).await;
    let vector = vec![0.1_f32; 32];
    let of_nobody = json!({ "query": vector, "using": "item", "limit": 3 });
    let plain = served.plain("query", &of_nobody).await;
    let body = json!({ "searches": [of_nobody, of_user] });
    let answer = served.reranked("query/batch", &body).await;
    let [first, second] = &answer["result"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!(first, &plain["result"]);
    assert_eq!(ids(second["points"].as_array().unwrap()), ids(points(&alone)));

    let body = served.for_user(json!({
        "group_by": "title", "group_size": 2, "limit": 4, "with_payload": true
    }));
    let answer = served.reranked("query/groups", &body).await;
    let groups = answer["result"]["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 4);
    let best: Vec<f64> =
        groups.iter().map(|group| group["hits"][0]["score"].as_f64().unwrap()).collect();
    assert_falling(&best);
    for group in groups {
        let hits = group["hits"].as_array().unwrap();
        assert_falling(&scores(hits));
        assert!(hits.iter().all(|hit| hit["payload"]["title"] == group["id"]), "{group}");
        assert!(hits.iter().all(|hit| hit["payload"]["whyrank"]["rank"].is_u64()), "{group}");
    }
}

async fn the_consumer_may_be_named_by_a_header(served: &Served) {
    let liked = ItemId::from_external("50").to_string();
    let body = json!({ "query": liked, "using": "item", "limit": ALL });
    let plain = served.plain("query", &body).await;
    let (headers, new) = served.post("query", &body, &[("x-whyrank-user", USER)]).await;
    assert_eq!(headers["x-whyrank-state"], "reranked");
    let set = |answer: &Value| ids(points(answer)).into_iter().collect::<HashSet<_>>();
    assert_eq!(set(&plain), set(&new));
    assert_falling(&scores(points(&new)));
}

async fn shadow_and_degraded_answers_are_qdrants_own(served: &Served) {
    let body = served.for_user(json!({ "limit": 10, "with_payload": true }));
    let plain = served.plain("query", &body).await;
    let before = served.metric("whyrank_shadow_agreement_count ").await;
    let (headers, answer) = served.post("query", &body, &[("x-whyrank-mode", "shadow")]).await;
    assert_eq!(headers["x-whyrank-state"], "shadow");
    assert_eq!(answer["result"], plain["result"]);
    // It goes on beside the answer; asking again is how one sees it end.
    let ended = async || Ok(served.metric("whyrank_shadow_agreement_count ").await != before);
    until("something is reranked in the shadow", ended).await.unwrap();
    let check = async |body: &Value, header: &[(&'static str, &str)], reason: &str| {
        let plain = served.plain("query", body).await;
        let (headers, answer) = served.post("query", body, header).await;
        assert_eq!(headers["x-whyrank-degraded"], reason, "{answer}");
        assert_eq!(answer["result"], plain["result"]);
    };
    check(&body, &[("x-whyrank-user", "nobody")], "unknown_user").await;
    check(&body, &[("x-whyrank-mode", "of")], "unknown_mode").await;
    check(&served.for_user(json!({ "limit": 5, "offset": 5000 })), &[], "too_many").await;
    // Qdrant's errors stay its own.
    let wrong = served.for_user(json!({ "limit": 5, "using": "none" }));
    let (headers, answer) = served.post("query", &wrong, &[]).await;
    assert_eq!(headers["x-whyrank-degraded"], "upstream");
    let plain = served.plain("query", &wrong).await;
    assert_eq!(answer["status"], plain["status"]);
    // An order that the client asked for is kept.
    let (headers, _) =
        served.post("query", &json!({ "limit": 3 }), &[("x-whyrank-user", USER)]).await;
    assert!(!headers.contains_key("x-whyrank-state"), "{headers:?}");
}

async fn the_rust_client_sees_the_same_as_rest(served: &Served) {
    let client = served.rust_client(&[]);
    let items = served.collection("items");
    let user = PointId::from(UserId::from_external(USER).to_string());
    let lookup = LookupLocationBuilder::new(served.collection("users")).vector_name("user");
    let query = QueryPointsBuilder::new(&items)
        .query(Query::new_nearest(user.clone()))
        .using("item")
        .lookup_from(lookup.clone())
        .limit(20)
        .with_payload(true);
    let rest = served
        .reranked("query", &served.for_user(json!({ "limit": 20, "with_payload": true })))
        .await;
    let check = |found: &[ScoredPoint], expected: &[Value]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let score = expected["score"].as_f64().unwrap();
            assert!((f64::from(found.score) - score).abs() < 1e-5);
            let payload: Value = serde_json::to_value(&found.payload).unwrap();
            assert_eq!(payload["title"], expected["payload"]["title"]);
            let note = &expected["payload"]["whyrank"];
            for key in ["rank", "retrieval_rank", "state", "positive"] {
                assert_eq!(payload["whyrank"][key], note[key], "{key}");
            }
        }
    };
    let found = client.query(query.clone()).await.unwrap();
    check(&found.result, points(&rest));
    let batch = QueryBatchPointsBuilder::new(&items, vec![query.clone().build(), query.build()]);
    let found = client.query_batch(batch).await.unwrap();
    assert_eq!(found.result.len(), 2);
    found.result.iter().for_each(|answer| check(&answer.result, points(&rest)));
    let groups = QueryPointGroupsBuilder::new(&items, "title")
        .query(Query::new_nearest(user))
        .using("item")
        .lookup_from(lookup)
        .limit(4_u64)
        .group_size(2_u64)
        .with_payload(true);
    let found = client.query_groups(groups).await.unwrap();
    let found = found.result.unwrap().groups;
    let body = served.for_user(json!({
        "group_by": "title", "group_size": 2, "limit": 4, "with_payload": true
    }));
    let rest = served.reranked("query/groups", &body).await;
    let rest = rest["result"]["groups"].as_array().unwrap();
    assert_eq!(found.len(), rest.len());
    for (found, expected) in found.iter().zip(rest) {
        check(&found.hits, expected["hits"].as_array().unwrap());
    }
    let missing = QueryPointsBuilder::new("none-such").query(vec![0.1_f32]).limit(1);
    let error = client.query(missing).await.unwrap_err().to_string();
    assert!(error.contains("none-such"), "{error}");
}

/// Every client says the same of one server.
fn check_transcripts(rest: u16, grpc: u16) -> Value {
    let clients = Clients::installed();
    let javascript = clients.javascript_transcript(rest);
    for mode in PYTHON_MODES {
        let python = clients.python_transcript(mode, rest, grpc);
        assert_eq!(python, javascript, "Python in the mode {mode} differs from JavaScript");
    }
    javascript
}

#[tokio::test]
async fn the_embedded_engine_is_reranked_for_known_consumers() {
    let served = Served::start(Installation::trained().unwrap(), "");
    check_reranking(&served).await;
}

#[test]
fn clients_of_others_agree_on_the_embedded_engine() {
    let installation = Installation::new().unwrap();
    let server = installation.serve(&["--role", "gateway"]).unwrap();
    let (rest, grpc) = server.gateway.as_ref().unwrap().ports();
    let said = check_transcripts(rest, grpc);
    for (key, expected) in [
        ("count", json!(40.0)),
        ("counted", json!(13.0)),
        ("after delete", json!(38.0)),
        ("missing collection", json!(404.0)),
        ("wrong dimension", json!(400.0)),
        ("gone", json!(false)),
    ] {
        assert_eq!(said[key], expected, "{key}");
    }
}

async fn delete_collections(url: &str, prefix: &str) {
    let client = Qdrant::from_url(url).skip_compatibility_check().build().unwrap();
    for name in ["items", "users", "explanations", "whyrank_queue"] {
        client.delete_collection(format!("{prefix}{name}")).await.unwrap();
    }
}

#[tokio::test]
async fn a_real_server_is_reranked_for_known_consumers() {
    let Some(qdrant) = RealQdrant::named() else { return };
    let (installation, prefix) = Installation::in_server(&qdrant.grpc, &qdrant.rest).unwrap();
    let served = Served::start(installation, &prefix);
    check_reranking(&served).await;
    drop(served.server);
    drop(served.installation);
    delete_collections(&qdrant.grpc, &prefix).await;
}

#[tokio::test]
async fn clients_of_others_agree_through_the_gateway_and_directly() {
    let Some(qdrant) = RealQdrant::named() else { return };
    let (rest, grpc) = qdrant.ports();
    let (installation, prefix) = Installation::in_server(&qdrant.grpc, &qdrant.rest).unwrap();
    let server = installation.serve(&["--role", "gateway"]).unwrap();
    let ports = server.gateway.as_ref().unwrap().ports();
    let (direct, through) = tokio::task::spawn_blocking(move || {
        (check_transcripts(rest, grpc), check_transcripts(ports.0, ports.1))
    })
    .await
    .unwrap();
    assert_eq!(direct, through);
    drop(server);
    delete_collections(&qdrant.grpc, &prefix).await;
}
