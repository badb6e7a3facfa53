//! A search team's own items collection, made by its own means with numbers as ids, an unnamed vector
//! and payload of its own shape, is reranked and explained in place, and stays byte for byte what it
//! was. In the embedded engine always, on a real server where `QDRANT_URL` names one.

use serde_json::{Value, json};
use whyrank_tests::{Installation, RealQdrant, Server};

/// Points that a page holds.
const PAGE: usize = 500;
/// The consumer of these tests.
const USER: u64 = 7;

struct Team {
    http: reqwest::Client,
    rest: String,
    collection: String,
}

impl Team {
    async fn call(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.rest);
        let response = self.http.request(method, url).json(&body).send().await.unwrap();
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert!(status.is_success(), "{path}: {answer}");
        answer["result"].clone()
    }

    /// Everything that a collection holds, in the order of its ids.
    async fn all(&self, collection: &str) -> Vec<Value> {
        let (mut points, mut offset) = (Vec::new(), Value::Null);
        loop {
            let path = format!("/collections/{collection}/points/scroll");
            let body =
                json!({"limit": PAGE, "offset": offset, "with_vector": true, "with_payload": true});
            let page = self.call(reqwest::Method::POST, &path, body).await;
            points.extend(page["points"].as_array().unwrap().iter().cloned());
            offset = page["next_page_offset"].clone();
            if offset.is_null() {
                return points;
            }
        }
    }

    /// Makes the collection from items that another installation learned vectors of.
    async fn fill(&self, learned: &[Value]) {
        let of_number = |point: &&Value| -> Option<u64> {
            point["payload"]["external_id"].as_str()?.parse().ok()
        };
        let size = learned[0]["vector"]["item"].as_array().unwrap().len();
        let path = format!("/collections/{}", self.collection);
        let schema = json!({"vectors": {"size": size, "distance": "Dot"}});
        self.call(reqwest::Method::PUT, &path, schema).await;
        let points: Vec<Value> = learned
            .iter()
            .filter_map(|point| Some((of_number(&point)?, point)))
            .map(|(id, point)| {
                let payload = &point["payload"];
                let genres: Vec<&str> = payload["attributes"]["genres"]
                    .as_str()
                    .map(|genres| genres.split(", ").collect())
                    .unwrap_or_default();
                json!({"id": id, "vector": point["vector"]["item"], "payload":
                    {"about": {"name": payload["title"]}, "genres": genres, "margin": 0.25}})
            })
            .collect();
        for part in points.chunks(PAGE) {
            let body = json!({ "points": part });
            self.call(reqwest::Method::PUT, &format!("{path}/points?wait=true"), body).await;
        }
    }
}

/// Where the collection is.
enum Place {
    /// In the store of this installation, which serves while the collection is filled.
    Embedded(Installation, Server),
    Server(RealQdrant),
}

/// An installation over the collection, with collections of its own under the prefix.
fn installation(place: &Place, prefix: &str) -> Installation {
    let installation = Installation::new().unwrap();
    let file = installation.path().join("whyrank.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let items = text.find("[import.items]").unwrap()..text.find("[import.users]").unwrap();
    let mut text = text.replace(&text[items], "");
    let mut store = format!(
        "[store]\nids = \"native\"\nitems = \"{prefix}films\"\nusers = \"{prefix}users\"\n\
         explanations = \"{prefix}explanations\"\nqueue = \"{prefix}queue\"\n"
    );
    match place {
        Place::Embedded(engine, _) => {
            let folder = engine.path().join("store").display().to_string();
            text = text.replace("folder = \"store\"", &format!("folder = \"{folder}\""));
        }
        Place::Server(RealQdrant { grpc, rest }) => {
            store.push_str("backend = \"server\"\n");
            let gateway = format!("[gateway]\nupstream_rest = \"{rest}\"");
            text = text.replace("[gateway]", &gateway);
            text.push_str(&format!("[store.server]\nurl = \"{grpc}\"\n"));
        }
    }
    let text = text.replace("[store.embedded]", &format!("{store}\n[store.embedded]"));
    std::fs::write(&file, text).unwrap();
    let lines = format!(
        "[store.existing_items]\ntitle = \"about.name\"\nattributes = \
         [{{ key = \"genres\", label = \"genres\" }}]\nstatistics_collection = \"{prefix}statistics\"\n\n\
         [vectors]\nsource = \"imported\"\n"
    );
    installation.configure(&lines).unwrap();
    // One interaction with an item that the collection does not have.
    let file = installation.path().join("interactions.tsv");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{USER}\t999999\t5\t880000000\n")).unwrap();
    installation
}

async fn is_explained_in_place(place: Place, learned: &[Value]) {
    let name = tempfile::tempdir().unwrap();
    let unique = name.path().file_name().unwrap().to_string_lossy().replace('.', "");
    let prefix = format!("whyrank-test-{unique}-");
    let rest = match &place {
        Place::Embedded(_, server) => server.gateway.clone().unwrap().rest,
        Place::Server(real) => real.rest.clone(),
    };
    let mut team =
        Team { http: reqwest::Client::new(), rest, collection: format!("{prefix}films") };
    team.fill(learned).await;
    let before = team.all(&team.collection).await;
    assert!(before.len() > 1_000, "{} films", before.len());

    let installation = installation(&place, &prefix);
    let real = match &place {
        Place::Embedded(..) => None,
        Place::Server(real) => Some(real.clone()),
    };
    let (kept, installation, server) = tokio::task::spawn_blocking(move || {
        // The embedded store has one owner at a time.
        let kept = match place {
            Place::Embedded(engine, server) => {
                drop(server);
                Some(engine)
            }
            Place::Server(_) => None,
        };
        let said = installation.succeed(&["import"]).unwrap();
        assert!(said.contains("left out: 1 interactions with items that"), "{said}");
        installation.succeed(&["train", "vectors"]).unwrap();
        installation.succeed(&["index"]).unwrap();
        installation.succeed(&["generate", "--generator", "template", "--pairs", "300"]).unwrap();
        installation.succeed(&["train", "autoencoder", "explainer", "ranker"]).unwrap();
        let server: Server = installation.serve(&["--role", "gateway"]).unwrap();
        (kept, installation, server)
    })
    .await
    .unwrap();

    let gateway = server.gateway.as_ref().unwrap();
    let query = json!({"query": USER, "limit": 20, "with_payload": true,
        "lookup_from": {"collection": format!("{prefix}users"), "vector": "user"}});
    let url = format!("{}/collections/{}/points/query", gateway.rest, team.collection);
    let ask = async |mode: &str| {
        let request = team.http.post(&url).json(&query).header("x-whyrank-mode", mode);
        let response = request.send().await.unwrap();
        let state = response.headers().get("x-whyrank-state").cloned();
        let answer: Value = response.json().await.unwrap();
        (state, answer["result"]["points"].as_array().expect("points").clone())
    };
    let (state, plain) = ask("off").await;
    assert_eq!(state, None);
    let (state, reranked) = ask("rerank").await;
    assert_eq!(state.expect("a state"), "reranked");
    assert_eq!(reranked.len(), 20);
    let ids = |points: &[Value]| -> Vec<u64> {
        points.iter().map(|point| point["id"].as_u64().unwrap()).collect()
    };
    assert_ne!(ids(&plain), ids(&reranked));
    for point in &reranked {
        // Their payload is whole, and ours stands beside it under one key.
        let original = before.iter().find(|before| before["id"] == point["id"]).unwrap();
        let mut payload = point["payload"].clone();
        let ours = payload.as_object_mut().unwrap().remove("whyrank").expect("reasons");
        assert_eq!(payload, original["payload"]);
        assert!(ours["score"].is_number() && ours["retrieval_rank"].is_number(), "{ours}");
    }

    // Asked of the server itself, where there is one.
    team.rest = real.as_ref().map_or_else(|| gateway.rest.clone(), |real| real.rest.clone());
    assert_eq!(team.all(&team.collection).await, before, "their collection is as it was");
    drop((server, installation, kept));
    if real.is_some() {
        for collection in ["films", "users", "explanations", "statistics", "queue"] {
            let path = format!("/collections/{prefix}{collection}");
            team.call(reqwest::Method::DELETE, &path, Value::Null).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_collection_is_explained_in_place_and_stays_as_it_is() {
    let (engine, server) = tokio::task::spawn_blocking(|| {
        let engine = Installation::trained().unwrap();
        engine.succeed(&["index"]).unwrap();
        let server = engine.serve(&["--role", "gateway"]).unwrap();
        (engine, server)
    })
    .await
    .unwrap();
    let rest = server.gateway.clone().unwrap().rest;
    let team = Team { http: reqwest::Client::new(), rest, collection: String::new() };
    let learned = team.all("items").await;
    is_explained_in_place(Place::Embedded(engine, server), &learned).await;
    if let Some(real) = RealQdrant::named() {
        is_explained_in_place(Place::Server(real), &learned).await;
    }
}
