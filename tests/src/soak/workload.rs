//! What callers do while something goes wrong, and the books they keep of what was acknowledged to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use whyrank_plugin::{ItemId, UserId};

use super::Findings;
use crate::Server;

/// Consumers that interactions are sent for. Few, so that their records change often.
const USERS: u32 = 20;
/// Items that are rated and explained.
const ITEMS: u32 = 200;

/// An interaction as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    pub(super) user: String,
    pub(super) item: String,
    pub(super) time: i64,
}

/// An explanation as it was answered: who and what, and the versions it stands on.
type TextKey = (String, String, String);

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) interactions: Vec<Sent>,
    pub(super) queued: BTreeSet<(String, String)>,
    pub(super) texts: BTreeMap<TextKey, String>,
    pub(super) violations: Vec<String>,
}

/// The callers of one installation.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) http: reqwest::Client,
    pub(super) books: Arc<Mutex<Books>>,
    pub(super) answers: Arc<AtomicUsize>,
    pub(super) refusals: Arc<AtomicUsize>,
    time: Arc<AtomicUsize>,
    seed: u64,
}

/// Callers that go on until they are stopped.
#[derive(Debug)]
pub(super) struct Running {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    pub(super) async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.context("a caller ended badly")?;
        }
        Ok(())
    }
}

/// A number of a list of ids as the data has them.
fn some_id(random: &mut StdRng, most: u32) -> String {
    random.random_range(1..=most).to_string()
}

impl Workload {
    pub(super) fn new(seed: u64) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?;
        Ok(Self {
            http,
            books: Arc::default(),
            answers: Arc::default(),
            refusals: Arc::default(),
            time: Arc::new(AtomicUsize::new(1_600_000_000)),
            seed,
        })
    }

    /// Sends a request; nothing if no whole answer came back.
    pub(super) async fn post(
        &self,
        server: &str,
        path: &str,
        body: &Value,
    ) -> Option<(StatusCode, Value)> {
        let answer = self.http.post(format!("{server}{path}")).json(body).send().await.ok()?;
        let status = answer.status();
        let body = answer.json().await.ok()?;
        let counter = if status.is_success() { &self.answers } else { &self.refusals };
        counter.fetch_add(1, Ordering::SeqCst);
        Some((status, body))
    }

    pub(super) async fn get(&self, url: &str) -> Option<(StatusCode, Value)> {
        let answer = self.http.get(url).send().await.ok()?;
        Some((answer.status(), answer.json().await.unwrap_or_default()))
    }

    /// Starts one caller of each kind on the server.
    pub(super) fn start(&self, server: &Server, round: u64) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for kind in 0..4 {
            let (workload, stop, url) = (self.clone(), stop.clone(), server.url.clone());
            tasks.push(tokio::spawn(async move {
                let seed = workload.seed ^ (round << 8) ^ kind;
                let mut random = StdRng::seed_from_u64(seed);
                while !stop.load(Ordering::SeqCst) {
                    let done = match kind {
                        0 => workload.interact(&url, &mut random).await,
                        1 => workload.queue(&url, &mut random).await,
                        2 => workload.explain(&url, &mut random).await,
                        _ => workload.recommend(&url, &mut random).await,
                    };
                    // Whoever is refused does not come back in the same instant.
                    if done.is_none() {
                        tokio::task::yield_now().await;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }));
        }
        Running { stop, tasks }
    }

    async fn interact(&self, url: &str, random: &mut StdRng) -> Option<()> {
        let sent: Vec<Sent> = (0..3)
            .map(|_| Sent {
                user: some_id(random, USERS),
                item: some_id(random, ITEMS),
                time: self.time.fetch_add(1, Ordering::SeqCst) as i64,
            })
            .collect();
        let all: Vec<Value> = sent
            .iter()
            .map(|one| {
                let rating = random.random_range(1..=5);
                json!({ "user": one.user, "item": one.item, "time": one.time, "rating": rating })
            })
            .collect();
        let body = json!({ "interactions": all });
        let (status, _) = self.post(url, "/v1/interactions", &body).await?;
        if !status.is_success() {
            return None;
        }
        self.books.lock().await.interactions.extend(sent);
        if random.random_bool(0.2) {
            let (status, again) = self.post(url, "/v1/interactions", &body).await?;
            if status.is_success() && again["accepted"] != 0 {
                let message = format!("an interaction that was sent again counted: {again}");
                self.books.lock().await.violations.push(message);
            }
        }
        Some(())
    }

    async fn queue(&self, url: &str, random: &mut StdRng) -> Option<()> {
        let pairs: Vec<(String, String)> =
            (0..3).map(|_| (some_id(random, USERS), some_id(random, ITEMS))).collect();
        let all: Vec<Value> =
            pairs.iter().map(|(user, item)| json!({ "user": user, "item": item })).collect();
        let (status, answer) = self.post(url, "/v1/queue", &json!({ "pairs": all })).await?;
        if status != StatusCode::ACCEPTED || answer["refused"] != 0 {
            return None;
        }
        self.books.lock().await.queued.extend(pairs);
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some(())
    }

    async fn explain(&self, url: &str, random: &mut StdRng) -> Option<()> {
        let (user, item) = (some_id(random, USERS), some_id(random, ITEMS));
        let body = json!({ "user": user, "item": item, "wait": true });
        let (status, answer) = self.post(url, "/v1/explain", &body).await?;
        if !status.is_success() {
            return None;
        }
        self.note_text(&user, &item, &answer).await;
        Some(())
    }

    /// Enters a text, and a violation if the same version had another one before.
    async fn note_text(&self, user: &str, item: &str, answer: &Value) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = format!(
            "{} {} {}",
            word(&answer["explanation"]["generator"]),
            word(&answer["prompt_version"]),
            word(&answer["profile_version"])
        );
        let text = word(&answer["explanation"]["positive"]);
        let mut books = self.books.lock().await;
        let key = (user.to_owned(), item.to_owned(), version);
        let before = books.texts.entry(key).or_insert_with(|| text.clone()).clone();
        if before != text {
            let message = format!(
                "pair {user}/{item} was written twice at one version: {before:?}, then {text:?}"
            );
            books.violations.push(message);
        }
    }

    /// Asks for all candidates, which must come back once each.
    async fn recommend(&self, url: &str, random: &mut StdRng) -> Option<()> {
        let user = some_id(random, 3);
        if let Some(fault) = self.ranks_of(url, &user).await? {
            self.books.lock().await.violations.push(fault);
        }
        Some(())
    }

    /// What is wrong with a recommendation, if something is; nothing if there was no answer.
    pub(super) async fn ranks_of(&self, url: &str, user: &str) -> Option<Option<String>> {
        let body = json!({ "user": user, "limit": 30, "candidates": 30 });
        let (status, answer) = self.post(url, "/v1/recommend", &body).await?;
        if !status.is_success() {
            return None;
        }
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        let mut ranks: Vec<u64> =
            results.iter().filter_map(|result| result["retrieval_rank"].as_u64()).collect();
        ranks.sort_unstable();
        let whole = ranks.iter().copied().eq(1..=30);
        let mut items: Vec<&str> =
            results.iter().filter_map(|result| result["item"].as_str()).collect();
        items.sort_unstable();
        items.dedup();
        let good = whole && items.len() == 30;
        Some((!good).then(|| format!("an answer is no permutation of 30 candidates: {ranks:?}")))
    }

    /// Waits until `/readyz` says so; the seconds since `from`.
    pub(super) async fn ready(&self, server: &Server, from: Instant, limit: u64) -> Result<f64> {
        loop {
            let answer = self.http.get(format!("{}/readyz", server.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(from.elapsed().as_secs_f64());
            }
            let seconds = from.elapsed().as_secs();
            ensure!(seconds < limit.max(1) * 4, "not ready after {seconds} s");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing waits in the queue; the seconds it took.
    pub(super) async fn drained(&self, server: &Server, limit: u64) -> Result<f64> {
        let started = Instant::now();
        loop {
            let status = self.get(&format!("{}/v1/queue", server.url)).await;
            if status.is_some_and(|(_, status)| status["depth"] == 0) {
                return Ok(started.elapsed().as_secs_f64());
            }
            let seconds = started.elapsed().as_secs();
            ensure!(seconds < limit, "the queue is not empty after {seconds} s");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Compares the books with what the server has.
    pub(super) async fn audit(
        &self,
        server: &Server,
        users: &str,
        found: &mut Findings,
    ) -> Result<()> {
        let (interactions, queued, texts, violations) = {
            let mut books = self.books.lock().await;
            (
                books.interactions.clone(),
                books.queued.clone(),
                books.texts.clone(),
                std::mem::take(&mut books.violations),
            )
        };
        found.violations.extend(violations);
        self.audit_interactions(server, users, &interactions, found).await?;
        let mut pairs: BTreeSet<(String, String)> = queued.clone();
        pairs.extend(texts.keys().map(|(user, item, _)| (user.clone(), item.clone())));
        let dead = self.dead(server).await?;
        let mut lost = Vec::new();
        for (user, item) in &pairs {
            let body = json!({ "user": user, "item": item });
            match self.post(&server.url, "/v1/explain", &body).await {
                // A text of the same version must be the one that was acknowledged.
                Some((StatusCode::OK, answer)) => self.note_text(user, item, &answer).await,
                _ if dead.contains(&(user.clone(), item.clone())) => {}
                other => lost.push(format!("{user}/{item}: {other:?}")),
            }
        }
        found.violations.append(&mut self.books.lock().await.violations);
        found.figure("interactions_acknowledged", interactions.len());
        found.figure("pairs_acknowledged", pairs.len());
        found.figure("texts_acknowledged", texts.len());
        found.figure("dead_letters", dead.len());
        found.figure("answers", self.answers.load(Ordering::SeqCst));
        found.figure("refusals", self.refusals.load(Ordering::SeqCst));
        found.require(lost.is_empty(), || {
            format!(
                "{} of {} acknowledged pairs are lost, such as {}",
                lost.len(),
                pairs.len(),
                lost[0]
            )
        });
        Ok(())
    }

    /// Pairs that were given up, by the ids of the data.
    async fn dead(&self, server: &Server) -> Result<BTreeSet<(String, String)>> {
        let answer = self.get(&format!("{}/v1/queue/dead?limit=10000", server.url)).await;
        let (_, letters) = answer.context("the dead letters")?;
        let mut dead = BTreeSet::new();
        for user in 1..=USERS {
            for item in 1..=ITEMS {
                let (user, item) = (user.to_string(), item.to_string());
                let points = (UserId::from_external(&user), ItemId::from_external(&item));
                let found = letters.as_array().is_some_and(|letters| {
                    letters.iter().any(|letter| {
                        letter["user"] == points.0.to_string()
                            && letter["item"] == points.1.to_string()
                    })
                });
                if found {
                    dead.insert((user, item));
                }
            }
        }
        Ok(dead)
    }

    /// Every acknowledged interaction is in the history of its consumer, once.
    async fn audit_interactions(
        &self,
        server: &Server,
        users: &str,
        sent: &[Sent],
        found: &mut Findings,
    ) -> Result<()> {
        let gateway = &server.gateway.as_ref().context("the server has a gateway")?.rest;
        let ids: Vec<String> =
            (1..=USERS).map(|user| UserId::from_external(&user.to_string()).to_string()).collect();
        let url = format!("{gateway}/collections/{users}/points");
        let body = json!({ "ids": ids, "with_payload": true });
        let answer = self.http.post(url).json(&body).send().await?;
        let points: Value = answer.json().await?;
        let mut entries: BTreeMap<(String, String, i64), usize> = BTreeMap::new();
        for point in points["result"].as_array().context("the consumers")? {
            let user = point["payload"]["external_id"].as_str().unwrap_or_default();
            for entry in point["payload"]["history"].as_array().into_iter().flatten() {
                let item = entry["item"].as_str().unwrap_or_default().to_owned();
                let time = entry["time"].as_i64().unwrap_or_default();
                *entries.entry((user.to_owned(), item, time)).or_default() += 1;
            }
        }
        let key =
            |one: &Sent| (one.user.clone(), ItemId::from_external(&one.item).to_string(), one.time);
        let lost = sent.iter().filter(|one| !entries.contains_key(&key(one))).count();
        let doubled = entries.values().filter(|count| **count > 1).count();
        found.require(lost == 0, || {
            format!("{lost} of {} acknowledged interactions are lost", sent.len())
        });
        found.require(doubled == 0, || format!("{doubled} interactions are there twice"));
        Ok(())
    }
}
