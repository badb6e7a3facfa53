//! How a query that can be reranked is answered: read, decide, widen, rank, complete, answer; and
//! Qdrant's own answer whenever one of these does not succeed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tracing::Instrument;

use super::exchange::{
    compose, degraded, encoding, grpc_timeout, mode, named_consumer, timeout_parameter, with_header,
};
use super::queries::{Answers, Arrangement, Asked, Fetched, Placed, Queries, Route, Unread};
use super::upstream::{grpc_failed, unanswered};
use super::{
    ConsumerReference, GATEWAY_CANCELLED, GatewayScore, Inner, Mode, Protocol, RerankFault,
    RerankTask, STATE_HEADER, rest,
};
use crate::bodies::{self, Read, Share, Unread as UnreadBody};
use crate::domain::{Candidate, Ranked};
use crate::id::{ItemId, PointId};

/// Answers a request on a route that can be reranked.
pub(super) async fn answer(
    inner: &Arc<Inner>,
    protocol: Protocol,
    route: Route,
    request: Request<Body>,
) -> Response<Body> {
    let started = Instant::now();
    let chosen = mode(request.headers()).map(|chosen| chosen.unwrap_or(inner.settings.mode));
    if matches!(chosen, Ok(Mode::Off)) {
        return inner.upstream.call(protocol, request).await;
    }
    let mut counted = Counted { inner: inner.clone(), protocol, started, answered: false };
    let mut observed = |response: Response<Body>, outcome: &'static str| {
        counted.answered = true;
        // What was done does not matter where the server behind gave no answer.
        let outcome = unanswered(&response).unwrap_or(outcome);
        inner.observer.answered(protocol, outcome, started.elapsed());
        response
    };
    let mode = match chosen {
        Ok(mode) => mode,
        Err(fault) => {
            told(protocol, &fault);
            let response = inner.upstream.call(protocol, request).await;
            return observed(degraded(response, fault.reason), fault.reason);
        }
    };
    let (parts, body) = request.into_parts();
    let (body, share) = match bodies::read(body, &inner.bodies).await {
        Read::Whole(body, share) => (body, share),
        Read::More(body, why) => {
            let why = reason(why);
            let response = inner.upstream.call(protocol, Request::from_parts(parts, body)).await;
            return observed(degraded(response, why), why);
        }
    };
    let shares = vec![share];
    let mut call = Call { inner: inner.clone(), protocol, route, parts, body, shares, started };
    let (queries, consumers) = match call.decide().await {
        Decision::Pass => return observed(call.pass().await, "passed"),
        Decision::Refuse(fault) => return observed(call.degrade(&fault).await, fault.reason),
        Decision::Rerank(queries, consumers) => (queries, consumers),
    };
    if mode == Mode::Shadow {
        let response = call.pass().await;
        shadow(call, queries, consumers);
        return observed(with_header(response, STATE_HEADER, "shadow"), "shadow");
    }
    let Ok(_place) = inner.reranks.clone().try_acquire_owned() else {
        let fault = RerankFault::new("busy", "too many requests are being reranked");
        return observed(call.degrade(&fault).await, "busy");
    };
    match call.within_deadline(&queries, &consumers).await {
        Ok((response, _)) => observed(with_header(response, STATE_HEADER, "reranked"), "reranked"),
        Err(fault) => observed(call.degrade(&fault).await, fault.reason),
    }
}

/// Logs why a client gets Qdrant's own answer.
fn told(protocol: Protocol, fault: &RerankFault) {
    tracing::warn!(
        protocol = protocol.name(),
        reason = fault.reason,
        message = fault.message,
        "answered with Qdrant's own answer"
    );
}

/// Why a query passes through whose body was not read to its end.
fn reason(why: UnreadBody) -> &'static str {
    match why {
        UnreadBody::TooLarge => "too_large",
        UnreadBody::TooSlow => "slow_body",
        UnreadBody::NoRoom => "busy",
        UnreadBody::BrokenOff => GATEWAY_CANCELLED,
    }
}

/// Counts a request whose client left: its work is dropped, and this with it.
struct Counted {
    inner: Arc<Inner>,
    protocol: Protocol,
    started: Instant,
    answered: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.answered {
            let took = self.started.elapsed();
            self.inner.observer.answered(self.protocol, GATEWAY_CANCELLED, took);
        }
    }
}

/// One request in hand.
struct Call {
    inner: Arc<Inner>,
    protocol: Protocol,
    route: Route,
    parts: Parts,
    body: Bytes,
    /// What the body, and what was decompressed of it, take of what all bodies may; kept as long as they
    /// are.
    shares: Vec<Share>,
    started: Instant,
}

/// What is done with a request.
enum Decision {
    /// It is none of ours.
    Pass,
    /// It is ours, and cannot be reranked.
    Refuse(RerankFault),
    /// Some of its queries are reranked: those that have a consumer.
    Rerank(Queries, Vec<Option<ConsumerReference>>),
}

impl Call {
    async fn decide(&mut self) -> Decision {
        let named = match named_consumer(&self.parts.headers) {
            Ok(named) => named,
            Err(fault) => return Decision::Refuse(fault),
        };
        // Most queries name nobody; they are not worth parsing.
        let lookup = b"lookup_from";
        let may_look_up = self.protocol == Protocol::Grpc
            || self.body.windows(lookup.len()).any(|window| window == lookup);
        if named.is_none() && !may_look_up {
            return Decision::Pass;
        }
        let (queries, share) = match self.read().await {
            Ok(read) => read,
            Err(Unread::Malformed) => return Decision::Pass,
            Err(Unread::Newer) => {
                let message = "the request has fields that this version does not know";
                return Decision::Refuse(RerankFault::new("newer_request", message));
            }
            Err(Unread::Beyond(why)) => {
                let message = "decompressed the request is beyond the bounds of what is read";
                return Decision::Refuse(RerankFault::new(reason(why), message));
            }
        };
        if queries.collection().is_some_and(|name| !self.inner.is_items(name)) {
            return Decision::Pass;
        }
        let asked = queries.asked(&self.inner.rules.users);
        let consumers = asked.iter().map(|asked| {
            let consumer = named.clone().map(ConsumerReference::External);
            let consumer = consumer.or(asked.consumer.map(ConsumerReference::Point));
            consumer.filter(|_| asked.reorders && asked.limit > 0)
        });
        let consumers: Vec<_> = consumers.collect();
        if consumers.iter().all(Option::is_none) {
            return Decision::Pass;
        }
        self.shares.push(share);
        Decision::Rerank(queries, consumers)
    }

    async fn read(&self) -> Result<(Queries, Share), Unread> {
        let (bounds, encoding) = (&self.inner.bodies, encoding(&self.parts.headers));
        Queries::read_within(bounds, self.protocol, self.route.shape, &self.body, encoding).await
    }

    /// Qdrant's own answer to the request as it came.
    async fn pass(&self) -> Response<Body> {
        let request = Request::from_parts(self.parts.clone(), Body::from(self.body.clone()));
        self.inner.upstream.call(self.protocol, request).await
    }

    /// The same, and why.
    async fn degrade(&self, fault: &RerankFault) -> Response<Body> {
        told(self.protocol, fault);
        degraded(self.pass().await, fault.reason)
    }

    async fn within_deadline(
        &self,
        queries: &Queries,
        consumers: &[Option<ConsumerReference>],
    ) -> Result<(Response<Body>, f64), RerankFault> {
        let own = Duration::from_millis(self.inner.settings.deadline_milliseconds);
        let client = [queries.timeout(), timeout_parameter(&self.parts), grpc_timeout(&self.parts)];
        // Half of the client's time is left for the answer as Qdrant gives it.
        let limit = client.into_iter().flatten().map(|limit| limit / 2).fold(own, Duration::min);
        let left = limit.saturating_sub(self.started.elapsed());
        let reranking = self.rerank(queries, consumers);
        tokio::time::timeout(left, reranking).await.unwrap_or_else(|_| {
            let message = format!("reranking took longer than {} ms", limit.as_millis());
            Err(RerankFault::new("deadline", message))
        })
    }

    /// The reranked answer, and the share of what it shows that Qdrant's own order shows too.
    async fn rerank(
        &self,
        queries: &Queries,
        consumers: &[Option<ConsumerReference>],
    ) -> Result<(Response<Body>, f64), RerankFault> {
        let asked = queries.asked(&self.inner.rules.users);
        let mut pools = Vec::with_capacity(asked.len());
        for (asked, consumer) in asked.iter().zip(consumers) {
            let pool = consumer.is_some().then(|| asked.pool(&self.inner.rules));
            pools.push(pool.transpose()?);
        }
        let (head, body, trailers) = self.ask(None, queries.widened(&pools)).await?;
        let encoding = encoding(&head.headers);
        let mut answers = Answers::read(self.protocol, self.route.shape, &body, encoding)?;
        let arranged = consumers.iter().enumerate().map(|(query, consumer)| {
            let results = consumer.as_ref().map(|_| answers.results(query));
            let asked = &asked[query];
            async move {
                let (Some(consumer), Some(results)) = (consumer, results) else { return Ok(None) };
                let results = results?;
                let arrangement = self.arrange(consumer.clone(), asked, &results).await?;
                let fetched = self.fetch(queries, query, asked, &arrangement, &results).await?;
                Ok(Some((arrangement, fetched, results)))
            }
        });
        let arranged: Vec<_> = futures::future::try_join_all(arranged).await?;
        let (mut shown, mut kept) = (0, 0);
        for (query, arranged) in arranged.into_iter().enumerate() {
            let Some((arrangement, fetched, _)) = arranged else { continue };
            let asked = &asked[query];
            let page = asked.offset..asked.offset.saturating_add(asked.limit);
            let new = arrangement.placed.iter().skip(asked.offset).take(asked.limit);
            shown += new.len();
            kept += new.filter(|place| page.contains(&place.index)).count();
            answers.arrange(query, asked, &arrangement, fetched.as_ref());
        }
        let body = answers.body(self.started.elapsed().as_secs_f64());
        let agreement = if shown == 0 { 1.0 } else { kept as f64 / shown as f64 };
        Ok((compose(head, body, trailers), agreement))
    }

    /// Asks the reranker for the order of one query's results.
    async fn arrange(
        &self,
        consumer: ConsumerReference,
        asked: &Asked,
        results: &[(PointId, f32)],
    ) -> Result<Arrangement, RerankFault> {
        let settings = &self.inner.settings;
        let mut occurrences: HashMap<PointId, Vec<usize>> = HashMap::with_capacity(results.len());
        let mut candidates = Vec::with_capacity(results.len());
        for (index, (id, score)) in results.iter().enumerate() {
            // In groups by a list a point may stand in several; it is one candidate.
            let places = occurrences.entry(*id).or_default();
            places.push(index);
            if places.len() == 1 {
                candidates.push(Candidate {
                    item: ItemId(*id),
                    retrieval_score: *score,
                    retrieval_rank: candidates.len() as u32 + 1,
                });
            }
        }
        let shown = match asked.group_size {
            Some(_) => 0..candidates.len(),
            None => asked.offset..asked.offset.saturating_add(asked.limit).min(candidates.len()),
        };
        let explain = asked.payload;
        let task = RerankTask { consumer, candidates: candidates.clone(), shown, explain };
        let ranked = self.inner.reranker.rerank(task).await?;
        check_permutation(&candidates, &ranked)?;
        let placed = ranked.iter().flat_map(|ranked| {
            let places = occurrences.get(&ranked.candidate.item.point()).map_or(&[][..], |p| p);
            places.iter().map(|index| Placed {
                index: *index,
                score: ranked.score.unwrap_or(ranked.candidate.retrieval_score),
                note: if explain { note(ranked) } else { Value::Null },
            })
        });
        Ok(Arrangement {
            placed: placed.collect(),
            replace_scores: settings.score == GatewayScore::Ranker,
            payload_key: settings.payload_key.clone(),
        })
    }

    /// Fetches what the query selects of the points that are shown.
    async fn fetch(
        &self,
        queries: &Queries,
        query: usize,
        asked: &Asked,
        arrangement: &Arrangement,
        results: &[(PointId, f32)],
    ) -> Result<Option<Fetched>, RerankFault> {
        if asked.group_size.is_some() || !(asked.payload || asked.vectors) {
            return Ok(None);
        }
        let shown = arrangement.placed.iter().skip(asked.offset).take(asked.limit);
        let ids: Vec<PointId> = shown.map(|place| results[place.index].0).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let path = match self.protocol {
            Protocol::Grpc => "/qdrant.Points/Get".to_owned(),
            Protocol::Rest => {
                let uri = &self.parts.uri;
                let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
                let points = uri.path().split("/points/").next().unwrap_or_default();
                format!("{points}/points{query}")
            }
        };
        let (head, body, _) = self.ask(Some(&path), queries.fetch(query, &ids)).await?;
        Fetched::read(self.protocol, &body, encoding(&head.headers)).map(Some)
    }

    /// Asks the server with the client's own headers, and reads the whole answer.
    async fn ask(
        &self,
        path: Option<&str>,
        body: Bytes,
    ) -> Result<(http::response::Parts, Bytes, Option<HeaderMap>), RerankFault> {
        let failed = |detail: String| RerankFault::new("upstream", detail);
        let mut parts = self.parts.clone();
        if let Some(path) = path {
            parts.uri = path.parse().map_err(|_| failed(format!("{path} is not a path")))?;
        }
        // The body is another one, not compressed; the answer must be readable.
        for name in ["grpc-encoding", "accept-encoding", "grpc-accept-encoding"] {
            parts.headers.remove(name);
        }
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        let request = Request::from_parts(parts, Body::from(body));
        let response = self.inner.upstream.call(self.protocol, request).await;
        let (head, body) = response.into_parts();
        if !head.status.is_success() || grpc_failed(&head.headers) {
            return Err(failed(format!("the server answered {}", head.status)));
        }
        let collected = body.collect().await.map_err(|error| failed(error.to_string()))?;
        let trailers = collected.trailers().cloned();
        if trailers.as_ref().is_some_and(grpc_failed) {
            return Err(failed("the server answered with an error".to_owned()));
        }
        Ok((head, collected.to_bytes(), trailers))
    }
}

/// Reranks beside the answer, for the log and the metrics.
fn shadow(call: Call, queries: Queries, consumers: Vec<Option<ConsumerReference>>) {
    let Ok(place) = call.inner.shadows.clone().try_acquire_owned() else { return };
    let work = async move {
        let _place = place;
        let started = Instant::now();
        match call.within_deadline(&queries, &consumers).await {
            Ok((_, agreement)) => {
                let took = started.elapsed();
                call.inner.observer.shadowed(agreement, took);
                tracing::info!(
                    agreement,
                    milliseconds = took.as_millis(),
                    "reranked in the shadow"
                );
            }
            Err(fault) => tracing::warn!(
                reason = fault.reason,
                message = fault.message,
                "reranking in the shadow failed"
            ),
        }
    };
    tokio::spawn(work.in_current_span());
}

/// Whatever a reranker answers, no result may be lost, doubled or made up.
fn check_permutation(candidates: &[Candidate], ranked: &[Ranked]) -> Result<(), RerankFault> {
    let wanted: HashSet<ItemId> = candidates.iter().map(|candidate| candidate.item).collect();
    let given: HashSet<ItemId> = ranked.iter().map(|ranked| ranked.candidate.item).collect();
    let finite = ranked.iter().all(|ranked| ranked.score.is_none_or(f32::is_finite));
    if ranked.len() == candidates.len() && given == wanted && finite {
        return Ok(());
    }
    Err(RerankFault::new("model", "the reranker's answer is not a permutation of the candidates"))
}

/// What a result carries under the payload key.
fn note(ranked: &Ranked) -> Value {
    let mut note = json!({
        "rank": ranked.rank,
        "retrieval_rank": ranked.candidate.retrieval_rank,
        "score": ranked.score.map(rest::number),
        "retrieval_score": rest::number(ranked.candidate.retrieval_score),
        "state": ranked.state,
    });
    if let Some(explanation) = &ranked.explanation {
        note["positive"] = json!(explanation.positive);
        note["negative"] = json!(explanation.negative);
    }
    if let Some(shares) = &ranked.contributions {
        note["contributions"] = json!({
            "base": rest::number(shares.base),
            "user_item": rest::number(shares.user_item),
            "positive": rest::number(shares.positive),
            "negative": rest::number(shares.negative),
            "history": rest::number(shares.history),
            "context": rest::number(shares.context),
        });
    }
    note
}
