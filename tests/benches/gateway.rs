//! What the gateway costs: the same queries asked of Qdrant directly and through the gateway, turn by
//! turn in one run. Qdrant is the server that `QDRANT_URL` names, else the embedded engine in another
//! process.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use qdrant_client::Qdrant;
use qdrant_client::qdrant::{LookupLocationBuilder, PointId, Query, QueryPointsBuilder};
use serde_json::{Value, json};
use whyrank_plugin::UserId;
use whyrank_tests::{Gateway, Installation, RealQdrant, Server};

/// Requests of each kind, one after the other.
const REQUESTS: usize = 1_000;
/// Requests that go first and do not count.
const WARM_UP: usize = 100;
/// Clients that ask at the same time, for the throughput.
const CLIENTS: usize = 8;

/// One way to ask.
#[derive(Clone)]
enum Asker {
    Rest { http: reqwest::Client, url: String, body: Value },
    Grpc { client: Box<Qdrant>, query: Box<QueryPointsBuilder> },
}

impl Asker {
    async fn ask(&self) -> Result<()> {
        match self {
            Self::Rest { http, url, body } => {
                let answer = http.post(url).json(body).send().await?.error_for_status()?;
                ensure!(!answer.headers().contains_key("x-whyrank-degraded"), "degraded");
                ensure!(!answer.bytes().await?.is_empty(), "an empty answer");
            }
            Self::Grpc { client, query } => {
                ensure!(
                    !client.query((**query).clone()).await?.result.is_empty(),
                    "an empty answer"
                );
            }
        }
        Ok(())
    }
}

struct Measured {
    median: f64,
    high: f64,
    rate: f64,
}

/// Both ways turn by turn, so that whatever the machine does meets both.
async fn compare(name: &str, direct: &Asker, through: &Asker) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..WARM_UP + REQUESTS {
        for (asker, times) in [direct, through].into_iter().zip(&mut times) {
            let started = Instant::now();
            asker.ask().await?;
            if number >= WARM_UP {
                times.push(started.elapsed());
            }
        }
    }
    let mut rates = [0.0, 0.0];
    for (asker, rate) in [direct, through].into_iter().zip(&mut rates) {
        let started = Instant::now();
        let clients = (0..CLIENTS).map(|_| async {
            for _ in 0..REQUESTS / CLIENTS {
                asker.ask().await?;
            }
            anyhow::Ok(())
        });
        try_join_all(clients).await?;
        *rate = REQUESTS as f64 / started.elapsed().as_secs_f64();
    }
    let [direct, through] = [0, 1].map(|way| {
        let mut times = times[way].clone();
        times.sort_unstable();
        let at = |share: f64| milliseconds(times[(share * (times.len() - 1) as f64) as usize]);
        Measured { median: at(0.5), high: at(0.99), rate: rates[way] }
    });
    println!(
        "{name:<22} direct p50 {:.2} p99 {:.2} ms, {:.0}/s   through p50 {:.2} p99 {:.2} ms, {:.0}/s   \
         added p50 {:+.2} ms, throughput {:.0} %",
        direct.median,
        direct.high,
        direct.rate,
        through.median,
        through.high,
        through.rate,
        through.median - direct.median,
        100.0 * through.rate / direct.rate,
    );
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What stands behind, and the gateway in front of it.
struct Bench {
    behind: Gateway,
    front: Gateway,
    prefix: String,
    _kept: (Option<(Installation, Server)>, Installation, Server),
}

impl Bench {
    fn start() -> Result<Self> {
        let (behind, engine) = match RealQdrant::named() {
            Some(RealQdrant { grpc, rest }) => (Gateway { rest, grpc }, None),
            None => {
                let installation = Installation::new()?;
                let server = installation.serve(&["--role", "gateway"])?;
                let at = server.gateway.clone().context("a gateway")?;
                (at, Some((installation, server)))
            }
        };
        let (installation, prefix) = Installation::in_server(&behind.grpc, &behind.rest)?;
        let server = installation.serve(&["--role", "gateway"])?;
        let front = server.gateway.clone().context("a gateway")?;
        Ok(Self { behind, front, prefix, _kept: (engine, installation, server) })
    }

    fn askers(&self, for_user: bool) -> Result<[(Asker, Asker); 2]> {
        let (items, users) = (format!("{}items", self.prefix), format!("{}users", self.prefix));
        let user = UserId::from_external("7").to_string();
        let vector = vec![0.1_f32; 32];
        let mut body =
            json!({ "query": vector, "using": "item", "limit": 10, "with_payload": true });
        let mut query = QueryPointsBuilder::new(&items)
            .query(vector)
            .using("item")
            .limit(10)
            .with_payload(true);
        if for_user {
            body["query"] = json!(user);
            body["lookup_from"] = json!({ "collection": users, "vector": "user" });
            query = query
                .query(Query::new_nearest(PointId::from(user)))
                .lookup_from(LookupLocationBuilder::new(users).vector_name("user"));
        }
        let rest = |at: &Gateway| Asker::Rest {
            http: reqwest::Client::new(),
            url: format!("{}/collections/{items}/points/query", at.rest),
            body: body.clone(),
        };
        let grpc = |at: &Gateway| -> Result<Asker> {
            let client = Qdrant::from_url(&at.grpc).skip_compatibility_check().build()?;
            Ok(Asker::Grpc { client: Box::new(client), query: Box::new(query.clone()) })
        };
        let (behind, front) = (&self.behind, &self.front);
        Ok([(rest(behind), rest(front)), (grpc(behind)?, grpc(front)?)])
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let bench = tokio::task::block_in_place(Bench::start)?;
    println!("{REQUESTS} requests a row, {CLIENTS} clients for the throughput, 10 results each");
    for (what, for_user) in [("passed", false), ("reranked of 200", true)] {
        let [(direct, through), (grpc_direct, grpc_through)] = bench.askers(for_user)?;
        compare(&format!("REST, {what}"), &direct, &through).await?;
        compare(&format!("gRPC, {what}"), &grpc_direct, &grpc_through).await?;
    }
    print_stages(&bench).await
}

/// Where the time of a reranked answer goes: the mean of each stage, as the gateway's metrics tell it.
async fn print_stages(bench: &Bench) -> Result<()> {
    let (_, _, server) = &bench._kept;
    let metrics = reqwest::get(format!("{}/metrics", server.url)).await?.text().await?;
    let value = |name: &str| -> Option<f64> {
        metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    for stage in ["retrieve", "recall", "complete", "rank", "account", "answer"] {
        let of = |what: &str| value(&format!("whyrank_stage_seconds_{what}{{stage=\"{stage}\"}}"));
        let mean = of("sum").zip(of("count")).map(|(sum, count)| 1e3 * sum / count);
        println!("stage {stage:<9} mean {:.2} ms", mean.context("the metrics lack a stage")?);
    }
    Ok(())
}
