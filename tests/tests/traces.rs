//! Traces as a collector gets them, over the real protocol: the spans of one request hang together from
//! the caller's own down to store, ranker and LLM, a job of the queue is linked to who waits for it, the log
//! names the same trace, and nothing that was asked or answered is in them.

mod collector;

use anyhow::{Context, Result, ensure};
use collector::{Received, Told, number, told, traceparent};
use serde_json::{Value, json};
use whyrank_plugin::{ItemId, UserId};
use whyrank_tests::soak::StandIn;
use whyrank_tests::{Installation, Server, until};

/// Spans of the caller, as 16 bytes of a trace and 8 of a span.
const OF_API: (&str, &str) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
const OF_GATEWAY: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "53995c3f42cd8ad8");

const OF_WRITING: (&str, &str) = ("a3ce929d0e0e47364bf92f3577b34da6", "3f42cd8ad853995c");
const OF_WAITING: (&str, &str) = ("8448eb211c80319c0af7651916cd43dd", "69203331b7ad6b71");

/// What the spans of writing one pair must tell: attempts and tokens, the same above as below.
fn check_writing(received: &Received, trace: &str) -> Result<()> {
    let [write] = received.named(trace, "explanation.write")[..] else {
        anyhow::bail!("one pair was written: {}", received.names())
    };
    let outcome = told(write, "outcome");
    ensure!(outcome == Some(&Told::StringValue("written".to_owned())), "{outcome:?}");
    let attempts = received.named(trace, "explanation.attempt").len();
    ensure!(number(write, "attempts")? == i64::try_from(attempts)?, "{attempts} attempts");
    let asked = received.named(trace, "chat stand-in");
    ensure!(!asked.is_empty(), "{}", received.names());
    for key in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        let each: Result<Vec<i64>> = asked.iter().map(|span| number(span, key)).collect();
        let sum: i64 = each?.iter().sum();
        ensure!(sum > 0 && number(write, key)? == sum, "{key}: {sum}");
    }
    let provider = told(asked[0], "gen_ai.provider.name");
    ensure!(provider == Some(&Told::StringValue("openai".to_owned())), "{provider:?}");
    Ok(())
}

/// What a process needs that writes with the stand-in and sends its traces there.
fn writing_with(model: &StandIn, collector: &str) -> String {
    format!(
        "[generator]\nkind = \"openai\"\n\n[generator.openai]\nbase_url = \"{}\"\n\
         model = \"stand-in\"\n\n[queue]\npoll_milliseconds = 20\n\n\
         [observability]\notlp_endpoint = \"{collector}\"\n",
        model.base_url
    )
}

/// Starts a process that sends its traces soon.
fn started(installation: &Installation, roles: &[&str]) -> Result<Server> {
    let mut command = installation.command(&["serve"]);
    for role in roles {
        command.args(["--role", role]);
    }
    // The library's own variable; its default is to send every five seconds.
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50");
    Server::started(command)
}

/// Has the reasons of a pair written, and waits for them.
async fn explained(server: &Server, of: (&str, &str), item: &str) -> Result<Value> {
    let request = reqwest::Client::new().post(format!("{}/v1/explain", server.url));
    let request = request.header("traceparent", traceparent(of));
    let answer = request.json(&json!({ "user": "7", "item": item, "wait": true })).send().await?;
    Ok(answer.error_for_status()?.json().await?)
}

/// Every text that an answer shows: titles and reasons.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str() {
                    Some(text) if ["title", "positive", "negative"].contains(&key.as_str()) => {
                        into.push(text.to_owned());
                    }
                    _ => texts(value, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        _ => {}
    }
}

/// Asks both surfaces, and gives all texts that they showed.
async fn ask(server: &Server) -> Result<Vec<String>> {
    let client = reqwest::Client::new();
    let history = json!([
        { "item": "50", "rating": 5 },
        { "text": "a quiet film about the sea", "rating": 4 },
    ]);
    let request = client
        .post(format!("{}/v1/recommend", server.url))
        .header("traceparent", traceparent(OF_API))
        .header("x-request-id", "order-7");
    let answer = request.json(&json!({ "history": history })).send().await?;
    ensure!(answer.headers()["x-request-id"] == "order-7", "{answer:?}");
    let recommended: Value = answer.error_for_status()?.json().await?;
    let rest = &server.gateway.as_ref().context("a gateway")?.rest;
    let query = json!({
        "query": UserId::from_external("7").to_string(),
        "using": "item",
        "lookup_from": { "collection": "users", "vector": "user" },
        "limit": 10,
        "with_payload": true,
    });
    let request = client.post(format!("{rest}/collections/items/points/query"));
    let answer = request.header("traceparent", traceparent(OF_GATEWAY)).json(&query).send().await?;
    ensure!(answer.headers()["x-whyrank-state"] == "reranked", "{answer:?}");
    let id = answer.headers()["x-request-id"].to_str()?;
    ensure!(id.len() == 32, "{id}");
    let reranked: Value = answer.json().await?;
    let mut shown = vec!["a quiet film about the sea".to_owned()];
    texts(&recommended, &mut shown);
    texts(&reranked, &mut shown);
    ensure!(shown.len() > 20, "{shown:?}");
    Ok(shown)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_across_gateway_store_and_ranker_without_a_text() -> Result<()> {
    let (address, mut receiver) = collector::start().await?;
    let server = tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        let observability =
            format!("[observability]\nlog = \"json\"\notlp_endpoint = \"{address}\"\n");
        installation.configure(&observability)?;
        let mut command = installation.command(&["serve", "--role", "api", "--role", "gateway"]);
        // The library's own variables; its default is to send every five seconds.
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("WHYRANK_LOG", "whyrank=trace");
        anyhow::Ok((Server::started(command)?, installation))
    });
    let (server, _installation) = server.await??;
    let shown = ask(&server).await?;

    let mut received = Received::default();
    let complete = |received: &Received| {
        received.root(OF_API).is_some() && received.root(OF_GATEWAY).is_some()
    };
    // A span is sent when it ends, so the roots come last.
    received.fill(&mut receiver, complete).await?;
    let stages = ["retrieve", "recall", "complete", "rank", "account", "answer"];
    let mut expected: Vec<String> = stages.map(|stage| format!("rerank.{stage}")).to_vec();
    expected.extend(["store.search".to_owned(), "store.read".to_owned()]);
    let api = received.linked(OF_API)?;
    for name in expected.iter().map(String::as_str).chain(["api POST /v1/recommend"]) {
        ensure!(api.contains(name), "{name} is not among {api:?}");
    }
    let gateway = received.linked(OF_GATEWAY)?;
    let surface = "gateway rest POST /collections/*/points/query";
    for name in expected.iter().map(String::as_str).chain([surface, "upstream"]) {
        ensure!(gateway.contains(name), "{name} is not among {gateway:?}");
    }
    for text in &shown {
        ensure!(!received.text.contains(text.as_str()), "{text:?} was sent to the collector");
    }
    let user = UserId::from_external("7").to_string();
    ensure!(!received.text.contains(&user), "a consumer's id was sent to the collector");
    Ok(())
}

/// Neither what was written nor for whom and about what may be in a trace.
fn check_silence(received: &Received, answer: &Value, item: &str) -> Result<()> {
    let mut secrets = Vec::new();
    texts(answer, &mut secrets);
    ensure!(secrets.len() == 2, "two texts: {answer}");
    secrets.push(UserId::from_external("7").to_string());
    secrets.push(ItemId::from_external(item).to_string());
    for secret in secrets {
        ensure!(!received.text.contains(&secret), "{secret:?} was sent to the collector");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_llms_work_is_in_the_trace_of_the_request_that_waits_for_it() -> Result<()> {
    let (address, mut receiver) = collector::start().await?;
    let model = StandIn::start().await?;
    let settings = writing_with(&model, &address);
    let (server, _installation) = tokio::task::spawn_blocking(move || {
        let installation = Installation::trained()?;
        installation.configure(&settings)?;
        anyhow::Ok((started(&installation, &["api", "worker"])?, installation))
    })
    .await??;
    let answer = explained(&server, OF_WRITING, "301").await?;
    let names = [
        "api POST /v1/explain",
        "queue.wait",
        "explanation.write",
        "explanation.attempt",
        "chat stand-in",
        "store.upsert",
    ];
    let mut received = Received::default();
    received.fill(&mut receiver, |received| received.has(OF_WRITING.0, &names)).await?;
    received.linked(OF_WRITING)?;
    check_writing(&received, OF_WRITING.0)?;
    check_silence(&received, &answer, "301")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_a_trace_of_its_own_and_linked_to_the_request_that_waits_elsewhere() -> Result<()>
{
    let (address, mut receiver) = collector::start().await?;
    let model = StandIn::start().await?;
    let settings = writing_with(&model, &address);
    let processes = move || {
        let engine = Installation::trained()?;
        let behind = engine.serve(&["--role", "gateway"])?;
        let front = Installation::beside(&behind)?;
        front.configure(&settings)?;
        let (api, worker) = (started(&front, &["api"])?, started(&front, &["worker"])?);
        anyhow::Ok((api, (worker, behind), (front, engine)))
    };
    let (api, _servers, _folders) = tokio::task::spawn_blocking(processes).await??;
    let answer = explained(&api, OF_WAITING, "302").await?;
    let names = [
        "queue.job",
        "queue.lease",
        "explanation.write",
        "explanation.attempt",
        "chat stand-in",
        "store.upsert",
    ];
    let job = |received: &Received| {
        let mut traces = received.traces.keys();
        traces.find(|trace| received.has(trace, &names)).cloned()
    };
    let waits = |received: &Received| received.has(OF_WAITING.0, &["queue.wait"]);
    let mut received = Received::default();
    let enough = |received: &Received| {
        waits(received) && received.root(OF_WAITING).is_some() && job(received).is_some()
    };
    received.fill(&mut receiver, enough).await?;
    received.linked(OF_WAITING)?;
    let trace = job(&received).context("a job")?;
    ensure!(trace != OF_WAITING.0, "a job outlives processes and has a trace of its own");
    check_writing(&received, &trace)?;
    let job = received.named(&trace, "queue.job")[0];
    let lane = told(job, "lane");
    ensure!(lane == Some(&Told::StringValue("live".to_owned())), "{lane:?}");
    let outcome = told(job, "outcome");
    ensure!(outcome == Some(&Told::StringValue("written".to_owned())), "{outcome:?}");
    let wait = received.named(OF_WAITING.0, "queue.wait")[0];
    let links: Vec<_> = job.links.iter().map(|link| (&link.trace_id, &link.span_id)).collect();
    ensure!(links == [(&wait.trace_id, &wait.span_id)], "{links:?}");
    let idle = received.traces.values().flatten();
    let mut idle = idle.filter(|span| span.parent_span_id.is_empty());
    ensure!(idle.all(|span| span.name == "queue.job"), "looks at the queue are traces");
    check_silence(&received, &answer, "302")
}

#[tokio::test]
async fn a_line_of_the_log_names_its_request_and_its_trace() -> Result<()> {
    let installation = Installation::new()?;
    let made = installation.json(&["key", "--name", "one", "--role", "search"])?;
    let (key, digest) = (&made["key"], &made["entry"]["sha256"]);
    installation.configure(&format!(
        "[observability]\nlog = \"json\"\n\n[[server.keys]]\nname = \"one\"\nrole = \"search\"\n\
         sha256 = {digest}\n"
    ))?;
    let server = installation.serve(&["--role", "api"])?;
    let request = reqwest::Client::new()
        .post(format!("{}/v1/recommend", server.url))
        .header("api-key", key.as_str().context("a key")?)
        .header("traceparent", traceparent(OF_API))
        .header("x-request-id", "order-7");
    request.json(&json!({ "user": "1" })).send().await?;
    let audit = || server.log().into_iter().find(|line| line.contains("whyrank::audit"));
    until("the request is in the audit log", async || Ok(audit().is_some())).await?;
    let line: Value = serde_json::from_str(&audit().context("an audit line")?)?;
    ensure!(line["asked"] == r#"{"user":"1"}"#, "{line}");
    ensure!(line["key"] == "one" && line["path"] == "/v1/recommend", "{line}");
    ensure!(line["span"]["request_id"] == "order-7", "{line}");
    ensure!(line["span"]["trace_id"] == OF_API.0, "{line}");
    Ok(())
}
