//! What goes wrong around the gateway: a server behind it that dies, stalls or is gone, damaged and
//! oversized requests, many clients at once, clients that leave. Behind it stands a real engine: the
//! embedded one in another process, which speaks Qdrant's protocol as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use whyrank_plugin::UserId;
use whyrank_tests::{Gateway, Installation, Server, until};

/// Requests that a group of clients keeps in flight.
const CLIENTS: usize = 1_000;

/// Counts queries that could be reranked.
const QUERIES: &str = "whyrank_gateway_requests_total";
/// Counts requests of every kind that the engine did not answer.
const UNANSWERED: &str = "whyrank_gateway_upstream_failures_total";

/// 4096 zeros, compressed with gzip.
const SMALL_AND_LARGE: &[u8] =
    b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0f\
    \x07\x14\0\0\0\xf0\x6e\x11\0\x1c\xc7\0\x10\0\0";

/// The engine, and a gateway in front of it.
struct Pair {
    engine: Installation,
    behind: Option<Server>,
    behind_at: Gateway,
    front: Server,
    _installation: Installation,
    http: reqwest::Client,
}

impl Pair {
    fn start(settings: &str) -> Self {
        Self::start_with(settings, |at| at.rest.clone())
    }

    /// `rest` says where the gateway is told that the engine's REST is.
    fn start_with(settings: &str, rest: impl Fn(&Gateway) -> String) -> Self {
        let engine = Installation::trained().unwrap();
        let behind = engine.serve(&["--role", "gateway"]).unwrap();
        let behind_at = behind.gateway.clone().unwrap();
        let installation = Installation::trained().unwrap();
        let path = installation.path().join("whyrank.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let store = "[store]\nbackend = \"server\"\n\n[store.embedded]";
        let gateway = format!("[gateway]\nupstream_rest = \"{}\"\n{settings}", rest(&behind_at));
        let text = text.replace("[store.embedded]", store).replace("[gateway]", &gateway);
        std::fs::write(&path, text).unwrap();
        installation.configure(&format!("[store.server]\nurl = \"{}\"\n", behind_at.grpc)).unwrap();
        let front = installation.serve(&["--role", "gateway"]).unwrap();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { engine, behind: Some(behind), behind_at, front, _installation: installation, http }
    }

    fn url(&self) -> String {
        let at = self.front.gateway.as_ref().unwrap();
        format!("{}/collections/items/points/query", at.rest)
    }

    async fn ask(&self, body: &Value) -> reqwest::Result<reqwest::Response> {
        self.http.post(self.url()).json(body).send().await
    }

    /// What a counter of the gateway's process says.
    async fn count(&self, counter: &str, protocol: &str, outcome: &str) -> u64 {
        let url = format!("{}/metrics", self.front.url);
        let text = self.http.get(url).send().await.unwrap().text().await.unwrap();
        let series = format!("{counter}{{outcome=\"{outcome}\",protocol=\"{protocol}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok());
        count.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
    }

    /// Posts a gRPC frame to the gateway.
    async fn post_frame(&self, path: &str, encoding: &str, frame: &[u8]) -> reqwest::Response {
        let grpc = &self.front.gateway.as_ref().unwrap().grpc;
        let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let request = http2.post(format!("{grpc}/{path}")).header("grpc-encoding", encoding);
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        request.body(frame.to_vec()).send().await.unwrap()
    }

    /// Starts the engine again where it was.
    fn restart(&mut self) {
        let mut command = self.engine.command(&["serve", "--role", "gateway"]);
        let (rest, grpc) = (&self.behind_at.rest[7..], &self.behind_at.grpc[7..]);
        command.env("WHYRANK__GATEWAY__REST_ADDRESS", rest);
        command.env("WHYRANK__GATEWAY__GRPC_ADDRESS", grpc);
        self.behind = Some(Server::started(command).unwrap());
    }
}

fn for_user(limit: usize) -> Value {
    json!({
        "query": UserId::from_external("7").to_string(),
        "using": "item",
        "lookup_from": { "collection": "users", "vector": "user" },
        "limit": limit,
        "with_payload": ["title"],
    })
}

fn ids(answer: &Value) -> Vec<String> {
    let points = answer["result"]["points"].as_array();
    let points = points.unwrap_or_else(|| panic!("no points in {answer}"));
    points.iter().map(|point| point["id"].to_string()).collect()
}

/// Open files of a process: its connections among them.
fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// Resident memory of a process in kilobytes.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Asks until the process has no more open files than it had, which it must reach.
async fn files_return_to(pair: &Pair, before: usize) {
    let what = format!("{before} files are open, as before");
    until(&what, async || Ok(open_files(&pair.front) <= before)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_and_comes_back_under_load_gives_no_wrong_answer() {
    let mut pair = Pair::start("");
    let expected = ids(&pair.ask(&for_user(10)).await.unwrap().json().await.unwrap());
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let failed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (stop, done, failed) = (stop.clone(), done.clone(), failed.clone());
            let (http, url, expected) = (pair.http.clone(), pair.url(), expected.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = http.post(&url).json(&for_user(10)).send().await.unwrap();
                    let status = answer.status();
                    let reranked = answer.headers().contains_key("x-whyrank-state")
                        && !answer.headers().contains_key("x-whyrank-degraded");
                    let body: Value = match answer.json().await {
                        Ok(body) => body,
                        // The engine died in the middle of its answer, and the client sees that.
                        Err(_) => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            continue;
                        }
                    };
                    if status.is_success() {
                        assert!(!reranked || ids(&body) == expected, "{body}");
                        done.fetch_add(1, Ordering::SeqCst);
                    } else {
                        assert!(body["status"]["error"].is_string(), "{body}");
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        })
        .collect();
    let wait_for = async |counter: &AtomicUsize, more: usize| {
        let target = counter.load(Ordering::SeqCst) + more;
        while counter.load(Ordering::SeqCst) < target {
            tokio::task::yield_now().await;
        }
    };
    wait_for(&done, 50).await;
    // Killed, not stopped: dropping it sends the signal that cannot be caught.
    pair.behind = None;
    wait_for(&failed, 50).await;
    pair.restart();
    wait_for(&done, 200).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    // The breaker of the store closes again, and answers are reranked as before.
    let reranked = async || {
        let answer = pair.ask(&for_user(10)).await?;
        let reranked = answer.headers()["x-whyrank-state"] == "reranked";
        if reranked {
            assert_eq!(ids(&answer.json().await?), expected);
        }
        Ok(reranked)
    };
    until("answers are reranked again", reranked).await.unwrap();
}

/// Passes connections on, and holds the first answer back until a second request has come.
async fn stalling_proxy(target: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (requests, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (target, requests, second) = (target.clone(), counted.clone(), second.clone());
            tokio::spawn(async move {
                let server =
                    TcpStream::connect(target.trim_start_matches("http://")).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let number = Arc::new(AtomicUsize::new(0));
                let seen = number.clone();
                let (all, notify) = (requests.clone(), second.clone());
                tokio::spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(read) = from_client.read(&mut buffer).await {
                        // Counted before the server sees it, whose answer may come at once.
                        if buffer[..read].starts_with(b"POST") {
                            seen.store(all.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            if all.load(Ordering::SeqCst) >= 2 {
                                notify.notify_one();
                            }
                        }
                        if read == 0 || to_server.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
                let mut buffer = vec![0; 1 << 16];
                while let Ok(read) = from_server.read(&mut buffer).await {
                    if number.load(Ordering::SeqCst) == 1 {
                        second.notified().await;
                    }
                    if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_engine_costs_the_reranking_and_not_the_answer() {
    // The proxy needs the engine's address, which is known only when the engine runs.
    let (sender, receiver) = std::sync::mpsc::channel::<String>();
    let pair = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Handle::current();
        Pair::start_with("deadline_milliseconds = 300\n", |at| {
            let (address, _) = runtime.block_on(stalling_proxy(at.rest.clone()));
            sender.send(address.clone()).unwrap();
            address
        })
    })
    .await
    .unwrap();
    receiver.recv().unwrap();
    let answer = pair.ask(&for_user(10)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-whyrank-degraded"], "deadline");
    let plain = pair.http.post(pair.url()).json(&for_user(10)).header("x-whyrank-mode", "off");
    let plain: Value = plain.send().await.unwrap().json().await.unwrap();
    assert_eq!(ids(&answer.json().await.unwrap()), ids(&plain));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_accepts_and_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let pair = tokio::task::spawn_blocking(move || {
        Pair::start_with("upstream_timeout_seconds = 1\n", |_| address.clone())
    })
    .await
    .unwrap();
    let answer = pair.ask(&for_user(10)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    let body: Value = answer.json().await.unwrap();
    let error = body["status"]["error"].as_str().unwrap();
    assert!(error.contains("did not answer within 1 s"), "{error}");
    assert_eq!(pair.count(UNANSWERED, "rest", "timeout").await, 1);
    drop(silent);
    let answer = pair.ask(&for_user(10)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(pair.count(UNANSWERED, "rest", "unreachable").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_cannot_be_reached_is_counted_and_nothing_counts_as_passed() {
    // Bound and never listened on, so that nobody else gets the port and every connection is refused.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = format!("http://{}", nobody.local_addr().unwrap());
    let settings = format!("upstream_grpc = \"{address}\"\n");
    let pair = Pair::start_with(&settings, |_| address.clone());
    for protocol in ["rest", "grpc"] {
        for outcome in ["unreachable", "timeout"] {
            assert_eq!(pair.count(UNANSWERED, protocol, outcome).await, 0, "{protocol} {outcome}");
        }
    }
    // One that would be reranked, one that would pass, and one on a route that is never reranked.
    let for_nobody = json!({ "query": [0.1, 0.2], "using": "item", "limit": 3 });
    for question in [for_user(10), for_nobody] {
        let answer = pair.ask(&question).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    }
    let list = format!("{}/collections", pair.front.gateway.as_ref().unwrap().rest);
    let answer = pair.http.get(list).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    for path in ["qdrant.Points/Query", "qdrant.Collections/List"] {
        let answer = pair.post_frame(path, "identity", b"\0\0\0\0\0").await;
        assert_eq!(answer.headers()["grpc-status"], "14", "{path}");
    }
    for (protocol, requests, queries) in [("rest", 3, 2), ("grpc", 2, 1)] {
        assert_eq!(pair.count(UNANSWERED, protocol, "unreachable").await, requests, "{protocol}");
        assert_eq!(pair.count(QUERIES, protocol, "unreachable").await, queries, "{protocol}");
        assert_eq!(pair.count(QUERIES, protocol, "passed").await, 0, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_oversized_requests_are_answered_by_the_engine() {
    let pair = Pair::start("maximum_body_bytes = 2048\n");
    // Larger than what the gateway reads: it passes through whole.
    let mut large = for_user(3);
    let names: Vec<String> = (0..500).map(|number| format!("key-{number}")).collect();
    large["with_payload"] = json!(names);
    let answer = pair.ask(&large).await.unwrap();
    assert_eq!(answer.headers()["x-whyrank-degraded"], "too_large");
    assert_eq!(ids(&answer.json().await.unwrap()).len(), 3);
    // Not JSON: the engine says what is wrong with it.
    let answer = pair.http.post(pair.url()).body("{\"query\": ").header("x-whyrank-user", "7");
    let answer = answer.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    // A gRPC frame that promises more than it brings.
    for body in [&b"\0\0\0\0\x09abc"[..], &b"\0\xff\xff\xff\xff"[..], &b"\x01\0\0\0\x01a"[..]] {
        let answer = pair.post_frame("qdrant.Points/Query", "identity", body).await;
        let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        assert!(status.is_some_and(|status| status != "0"), "{:?}", answer.headers());
    }
    // A small one that becomes larger than what the gateway reads.
    let head = [1, 0, 0, 0, SMALL_AND_LARGE.len() as u8];
    let frame = [head.as_slice(), SMALL_AND_LARGE].concat();
    let answer = pair.post_frame("qdrant.Points/Query", "gzip", &frame).await;
    assert_eq!(answer.headers()["x-whyrank-degraded"], "too_large");
    assert_eq!(pair.count(QUERIES, "grpc", "too_large").await, 1);
    // And it still works.
    assert_eq!(ids(&pair.ask(&for_user(3)).await.unwrap().json().await.unwrap()).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_and_clients_that_leave_cost_nothing_afterwards() {
    // Who gets a place is reranked however slow the machine is; the others are told "busy".
    let pair = Pair::start("deadline_milliseconds = 60000\n");
    let expected = ids(&pair.ask(&for_user(10)).await.unwrap().json().await.unwrap());
    let burst = async || {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let answers = (0..CLIENTS).map(|_| {
            let request = http.post(pair.url()).json(&for_user(10));
            async move {
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                let reranked = answer.headers()["x-whyrank-state"] == "reranked";
                (reranked, ids(&answer.json().await.unwrap()))
            }
        });
        join_all(answers).await
    };
    // The first burst fills pools and buffers that stay.
    burst().await;
    let (files, memory) = (open_files(&pair.front), resident(&pair.front));
    for _ in 0..3 {
        let answers = burst().await;
        assert!(answers.iter().any(|(reranked, _)| *reranked));
        for (reranked, found) in answers {
            assert!(!reranked || found == expected);
            assert_eq!(found.len(), 10);
        }
    }
    for _ in 0..200 {
        let mut stream =
            TcpStream::connect(&pair.front.gateway.as_ref().unwrap().rest[7..]).await.unwrap();
        let body = for_user(10).to_string();
        let head = format!(
            "POST /collections/items/points/query HTTP/1.1\r\nhost: x\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        // The connection closes here, before the answer.
    }
    files_return_to(&pair, files).await;
    let grown = resident(&pair.front).saturating_sub(memory);
    assert!(grown < 64 << 10, "{grown} kB more than after the first burst");
    assert_eq!(ids(&pair.ask(&for_user(10)).await.unwrap().json().await.unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_reranking_and_what_it_asked_of_the_engine() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let pair = tokio::task::spawn_blocking(move || {
        Pair::start_with("deadline_milliseconds = 60000\n", |_| address.clone())
    })
    .await
    .unwrap();
    let question = for_user(10);
    let asked = async {
        let (mut behind, _) = silent.accept().await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        assert!(behind.read(&mut buffer).await.unwrap() > 0);
        behind
    };
    // Whichever ends first drops the other: the client leaves when the engine was asked.
    let mut behind = tokio::select! {
        answer = pair.ask(&question) => panic!("a silent engine gave {answer:?}"),
        behind = asked => behind,
    };
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), behind.read_to_end(&mut rest)).await;
    // Closed or reset: the gateway waits for no answer any longer.
    assert!(ended.is_ok(), "the gateway still waits for the engine");
    let line = "whyrank_gateway_requests_total{outcome=\"cancelled\",protocol=\"rest\"} 1";
    let counted = async || {
        let metrics = pair.http.get(format!("{}/metrics", pair.front.url)).send().await?;
        Ok(metrics.text().await?.contains(line))
    };
    until("a client that left is counted", counted).await.unwrap();
}
