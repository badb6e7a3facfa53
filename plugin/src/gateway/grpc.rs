//! Queries and answers in Qdrant's protocol buffers, and the frames that carry them.

use std::collections::HashMap;
use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use futures::stream;
use prost::Message;
use qdrant_client::qdrant;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector_input;

use super::RerankFault;
use super::queries::{Arrangement, Asked, Fetched, Placed, Shape, Unread, group_order, take};
use crate::bodies::{self, Bounds, Share};
use crate::id::PointId;

/// Qdrant's default number of results, or of groups.
const DEFAULT_LIMIT: u64 = 10;
/// Qdrant's default number of results in a group.
const DEFAULT_GROUP_SIZE: u64 = 3;
/// A frame's head: one byte that says whether the message is compressed, four of its length.
const HEAD: usize = 5;
/// The largest answer that is decompressed. What clients send has the bounds of bodies.
const MAXIMUM_ANSWER: u64 = 256 << 20;
/// Bytes that a request is decompressed by at a time.
const PIECE: usize = 16 << 10;

/// A request.
#[derive(Debug, Clone)]
pub(super) enum GrpcQueries {
    Single(Box<qdrant::QueryPoints>),
    Batch(qdrant::QueryBatchPoints),
    Groups(Box<qdrant::QueryPointGroups>),
}

impl GrpcQueries {
    pub(super) fn read(shape: Shape, message: &Bytes) -> Result<Self, Unread> {
        match shape {
            Shape::Single => decode(message).map(|query| Self::Single(Box::new(query))),
            Shape::Batch => decode(message).map(Self::Batch),
            Shape::Groups => decode(message).map(|query| Self::Groups(Box::new(query))),
        }
    }

    pub(super) fn collection(&self) -> &str {
        match self {
            Self::Single(query) => &query.collection_name,
            Self::Batch(batch) => &batch.collection_name,
            Self::Groups(query) => &query.collection_name,
        }
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Single(query) => query.timeout,
            Self::Batch(batch) => batch.timeout,
            Self::Groups(query) => query.timeout,
        };
        seconds.map(Duration::from_secs)
    }

    pub(super) fn asked(&self, users: &str) -> Vec<Asked> {
        match self {
            Self::Single(query) => vec![asked_by(query, users)],
            Self::Batch(batch) => {
                batch.query_points.iter().map(|query| asked_by(query, users)).collect()
            }
            Self::Groups(query) => vec![Asked {
                reorders: query.query.as_ref().is_some_and(reorders),
                consumer: consumer(query.query.as_ref(), query.lookup_from.as_ref(), users),
                limit: count(query.limit, DEFAULT_LIMIT),
                offset: 0,
                group_size: Some(count(query.group_size, DEFAULT_GROUP_SIZE)),
                payload: selects_payload(query.with_payload.as_ref()),
                vectors: selects_vectors(query.with_vectors.as_ref()),
            }],
        }
    }

    pub(super) fn widened(&self, pools: &[Option<usize>]) -> Bytes {
        let widen = |query: &mut qdrant::QueryPoints, pool: Option<usize>| {
            let Some(pool) = pool else { return };
            query.limit = Some(pool as u64);
            query.offset = None;
            // What is shown is fetched afterwards, so that the rest is never carried around.
            query.with_payload = None;
            query.with_vectors = None;
        };
        let mut pools = pools.iter().copied();
        match self.clone() {
            Self::Single(mut query) => {
                widen(&mut query, pools.next().flatten());
                frame(&*query)
            }
            Self::Batch(mut batch) => {
                batch
                    .query_points
                    .iter_mut()
                    .zip(pools)
                    .for_each(|(query, pool)| widen(query, pool));
                frame(&batch)
            }
            Self::Groups(mut query) => {
                if let Some(pool) = pools.next().flatten() {
                    query.limit = Some(pool as u64);
                }
                frame(&*query)
            }
        }
    }

    pub(super) fn fetch(&self, query: usize, ids: &[PointId]) -> Bytes {
        let (query, consistency, timeout) = match self {
            Self::Single(query) => (Some(&**query), &query.read_consistency, query.timeout),
            Self::Batch(batch) => {
                (batch.query_points.get(query), &batch.read_consistency, batch.timeout)
            }
            Self::Groups(query) => (None, &query.read_consistency, query.timeout),
        };
        frame(&qdrant::GetPoints {
            collection_name: self.collection().to_owned(),
            ids: ids.iter().copied().map(point_id).collect(),
            with_payload: query.and_then(|query| query.with_payload.clone()),
            with_vectors: query.and_then(|query| query.with_vectors.clone()),
            read_consistency: *consistency,
            shard_key_selector: query.and_then(|query| query.shard_key_selector.clone()),
            timeout,
        })
    }
}

fn asked_by(query: &qdrant::QueryPoints, users: &str) -> Asked {
    Asked {
        reorders: query.query.as_ref().is_some_and(reorders),
        consumer: consumer(query.query.as_ref(), query.lookup_from.as_ref(), users),
        limit: count(query.limit, DEFAULT_LIMIT),
        offset: count(query.offset, 0),
        group_size: None,
        payload: selects_payload(query.with_payload.as_ref()),
        vectors: selects_vectors(query.with_vectors.as_ref()),
    }
}

fn count(given: Option<u64>, default: u64) -> usize {
    usize::try_from(given.unwrap_or(default)).unwrap_or(usize::MAX)
}

fn reorders(query: &qdrant::Query) -> bool {
    !matches!(query.variant, None | Some(Variant::OrderBy(_) | Variant::Sample(_)))
}

fn selects_payload(selector: Option<&qdrant::WithPayloadSelector>) -> bool {
    use qdrant::with_payload_selector::SelectorOptions;
    let options = selector.and_then(|selector| selector.selector_options.as_ref());
    !matches!(options, None | Some(SelectorOptions::Enable(false)))
}

fn selects_vectors(selector: Option<&qdrant::WithVectorsSelector>) -> bool {
    use qdrant::with_vectors_selector::SelectorOptions;
    let options = selector.and_then(|selector| selector.selector_options.as_ref());
    !matches!(options, None | Some(SelectorOptions::Enable(false)))
}

/// The point whose vector is the query, if it is looked up among the consumers.
fn consumer(
    query: Option<&qdrant::Query>,
    lookup: Option<&qdrant::LookupLocation>,
    users: &str,
) -> Option<PointId> {
    lookup.filter(|lookup| lookup.collection_name == users)?;
    let Some(Variant::Nearest(input)) = &query?.variant else { return None };
    match &input.variant {
        Some(vector_input::Variant::Id(id)) => domain_id(id),
        _ => None,
    }
}

fn domain_id(id: &qdrant::PointId) -> Option<PointId> {
    match id.point_id_options.as_ref()? {
        PointIdOptions::Num(number) => Some(PointId::Number(*number)),
        PointIdOptions::Uuid(uuid) => uuid.parse().ok().map(PointId::Uuid),
    }
}

fn point_id(id: PointId) -> qdrant::PointId {
    let options = match id {
        PointId::Number(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    qdrant::PointId { point_id_options: Some(options) }
}

/// An answer.
#[derive(Debug)]
pub(super) enum GrpcAnswers {
    Single(qdrant::QueryResponse),
    Batch(qdrant::QueryBatchResponse),
    Groups(qdrant::QueryGroupsResponse),
}

impl GrpcAnswers {
    pub(super) fn read(
        shape: Shape,
        body: &Bytes,
        encoding: Option<&str>,
    ) -> Result<Self, RerankFault> {
        let message = message_of(body, encoding).ok_or_else(|| unreadable("no message"))?;
        Ok(match shape {
            Shape::Single => Self::Single(answer(&message)?),
            Shape::Batch => Self::Batch(answer(&message)?),
            Shape::Groups => Self::Groups(answer(&message)?),
        })
    }

    pub(super) fn results(&self, query: usize) -> Result<Vec<(PointId, f32)>, RerankFault> {
        match self {
            Self::Single(answer) => answer.result.iter().map(result).collect(),
            Self::Batch(answer) => {
                let batch = answer.result.get(query);
                let batch = batch.ok_or_else(|| unreadable("an answer of the batch is missing"))?;
                batch.result.iter().map(result).collect()
            }
            Self::Groups(answer) => {
                let groups = answer.result.iter().flat_map(|result| &result.groups);
                groups.flat_map(|group| &group.hits).map(result).collect()
            }
        }
    }

    pub(super) fn arrange(
        &mut self,
        query: usize,
        asked: &Asked,
        arrangement: &Arrangement,
        fetched: Option<&Fetched>,
    ) {
        let fetched = match fetched {
            Some(Fetched::Grpc(points)) => Some(points),
            _ => None,
        };
        let list = match self {
            Self::Single(answer) => &mut answer.result,
            Self::Batch(answer) => match answer.result.get_mut(query) {
                Some(batch) => &mut batch.result,
                None => return,
            },
            Self::Groups(answer) => {
                if let Some(result) = &mut answer.result {
                    let old = std::mem::take(&mut result.groups);
                    result.groups = arrange_groups(old, asked, arrangement);
                }
                return;
            }
        };
        let shown = arrangement.placed.iter().skip(asked.offset).take(asked.limit);
        let points = take(std::mem::take(list), shown.clone().map(|place| place.index));
        let completed = points
            .into_iter()
            .zip(shown)
            .filter_map(|((_, point), place)| complete(point, place, arrangement, asked, fetched));
        *list = completed.collect();
    }

    pub(super) fn body(self, seconds: f64) -> Bytes {
        match self {
            Self::Single(answer) => frame(&qdrant::QueryResponse { time: seconds, ..answer }),
            Self::Batch(answer) => frame(&qdrant::QueryBatchResponse { time: seconds, ..answer }),
            Self::Groups(answer) => frame(&qdrant::QueryGroupsResponse { time: seconds, ..answer }),
        }
    }
}

fn arrange_groups(
    old: Vec<qdrant::PointGroup>,
    asked: &Asked,
    arrangement: &Arrangement,
) -> Vec<qdrant::PointGroup> {
    let sizes: Vec<usize> = old.iter().map(|group| group.hits.len()).collect();
    let order = group_order(&sizes, &arrangement.placed, asked.limit);
    let groups = take(old, order.iter().map(|(group, _)| *group));
    let arranged = groups.into_iter().zip(&order).map(|((_, mut group), (_, places))| {
        let hits = take(group.hits, places.iter().map(|(within, _)| *within));
        let hits = hits.into_iter().zip(places).map(|((_, mut point), (_, entry))| {
            annotate(&mut point, &arrangement.placed[*entry], arrangement, asked);
            point
        });
        group.hits = hits.collect();
        group
    });
    arranged.collect()
}

/// A result with what was fetched of its point; none if the point was deleted in between.
fn complete(
    mut point: qdrant::ScoredPoint,
    place: &Placed,
    arrangement: &Arrangement,
    asked: &Asked,
    fetched: Option<&HashMap<PointId, qdrant::RetrievedPoint>>,
) -> Option<qdrant::ScoredPoint> {
    if let Some(fetched) = fetched {
        let whole = fetched.get(&domain_id(point.id.as_ref()?)?)?;
        point.payload.clone_from(&whole.payload);
        point.vectors.clone_from(&whole.vectors);
    }
    annotate(&mut point, place, arrangement, asked);
    Some(point)
}

fn annotate(
    point: &mut qdrant::ScoredPoint,
    place: &Placed,
    arrangement: &Arrangement,
    asked: &Asked,
) {
    if arrangement.replace_scores {
        point.score = place.score;
    }
    if asked.payload {
        point.payload.insert(arrangement.payload_key.clone(), place.note.clone().into());
    }
}

fn result(point: &qdrant::ScoredPoint) -> Result<(PointId, f32), RerankFault> {
    let id = point.id.as_ref().and_then(domain_id);
    Ok((id.ok_or_else(|| unreadable("a point has no id"))?, point.score))
}

/// The points of an answer to a fetch, by id.
pub(super) fn fetched(
    body: &Bytes,
    encoding: Option<&str>,
) -> Result<HashMap<PointId, qdrant::RetrievedPoint>, RerankFault> {
    let message = message_of(body, encoding).ok_or_else(|| unreadable("no message"))?;
    let answer: qdrant::GetResponse = answer(&message)?;
    let by_id = answer.result.into_iter().map(|point| {
        let id = point.id.as_ref().and_then(domain_id);
        Ok((id.ok_or_else(|| unreadable("a point has no id"))?, point))
    });
    by_id.collect()
}

/// The one message of an answer, decompressed.
pub(super) fn message_of(body: &Bytes, encoding: Option<&str>) -> Option<Bytes> {
    let (message, compressed) = framed(body, encoding)?;
    if !compressed {
        return Some(message);
    }
    let mut whole = Vec::new();
    let read = GzDecoder::new(&*message).take(MAXIMUM_ANSWER + 1).read_to_end(&mut whole);
    (read.is_ok() && whole.len() as u64 <= MAXIMUM_ANSWER).then(|| whole.into())
}

/// The one message of a request. One that is compressed is decompressed within the bounds of bodies and
/// has a share of its own, because what comes small may become large.
pub(super) async fn request_message(
    body: &Bytes,
    encoding: Option<&str>,
    bounds: &Bounds,
) -> Result<(Bytes, Share), Unread> {
    let (message, compressed) = framed(body, encoding).ok_or(Unread::Malformed)?;
    if !compressed {
        return Ok((message, Share::default()));
    }
    let whole = Body::from_stream(stream::iter(decompressed(message)));
    match bodies::read(whole, bounds).await {
        bodies::Read::Whole(message, share) => Ok((message, share)),
        bodies::Read::More(_, bodies::Unread::BrokenOff) => Err(Unread::Malformed),
        bodies::Read::More(_, why) => Err(Unread::Beyond(why)),
    }
}

/// The one message of a body as it came, and whether it is compressed.
fn framed(body: &Bytes, encoding: Option<&str>) -> Option<(Bytes, bool)> {
    let (compressed, length) = (*body.first()?, body.get(1..HEAD)?);
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    if body.len() != HEAD + length {
        return None;
    }
    match (compressed, encoding) {
        (0, _) => Some((body.slice(HEAD..), false)),
        (1, Some("gzip")) => Some((body.slice(HEAD..), true)),
        _ => None,
    }
}

/// What a message holds, piece by piece, so that no more of it is decompressed than is read.
fn decompressed(message: Bytes) -> impl Iterator<Item = std::io::Result<Bytes>> {
    let mut decoder = GzDecoder::new(message.reader());
    std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        let read = decoder.read(&mut piece);
        let read = read.map(|length| {
            piece.truncate(length);
            Bytes::from(piece)
        });
        // An empty piece is the end.
        Some(read).filter(|read| !matches!(read, Ok(piece) if piece.is_empty()))
    })
}

/// A message in its frame, not compressed.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(HEAD + length);
    buffer.put_u8(0);
    buffer.put_u32(length as u32);
    // The buffer grows by itself, so there is always room for the message.
    let _ = message.encode(&mut buffer);
    buffer.freeze()
}

/// Decodes a request; one that has fields this version does not know is left alone, because writing
/// it again would lose them.
fn decode<M: Message + Default>(message: &Bytes) -> Result<M, Unread> {
    let decoded = M::decode(message.clone()).map_err(|_| Unread::Malformed)?;
    if decoded.encoded_len() == message.len() { Ok(decoded) } else { Err(Unread::Newer) }
}

fn answer<M: Message + Default>(message: &Bytes) -> Result<M, RerankFault> {
    M::decode(message.clone()).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> RerankFault {
    RerankFault::new("upstream", format!("the server's answer cannot be read: {error}"))
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
