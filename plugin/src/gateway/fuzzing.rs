//! Feeds bytes of any kind to what reads queries and answers in the gateway, for the fuzz targets.

use bytes::Bytes;

use super::queries::{Answers, Arrangement, Fetched, Placed, Queries, Shape};
use super::{Protocol, grpc};
use crate::id::PointId;

/// Reads the bytes as every kind of query and answer, and writes again what can be read.
///
/// # Panics
/// If a new order loses or doubles a result: that is what is looked for.
pub fn read_frames(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    for protocol in [Protocol::Rest, Protocol::Grpc] {
        for shape in [Shape::Single, Shape::Batch, Shape::Groups] {
            for encoding in [None, Some("gzip")] {
                read_one(protocol, shape, &body, encoding);
            }
        }
        let _ = Fetched::read(protocol, &body, None);
    }
}

fn read_one(protocol: Protocol, shape: Shape, body: &Bytes, encoding: Option<&str>) {
    let read = |message: Bytes| Queries::read(protocol, shape, &message).ok();
    let queries = message(protocol, body, encoding).and_then(read);
    let mut asked = Vec::new();
    if let Some(queries) = &queries {
        asked = queries.asked("users");
        let _ = (queries.collection(), queries.timeout());
        let pools: Vec<Option<usize>> = asked.iter().map(|_| Some(100)).collect();
        let widened = queries.widened(&pools);
        let again = message(protocol, &widened, None).and_then(read);
        assert!(again.is_some(), "what the gateway writes can be read again");
        queries.fetch(0, &[PointId::Number(1)]);
    }
    let Ok(mut answers) = Answers::read(protocol, shape, body, encoding) else { return };
    let Ok(results) = answers.results(0) else { return };
    if let Some(asked) = asked.first() {
        let placed = (0..results.len()).rev();
        let placed = placed.map(|index| Placed { index, score: 0.5, note: true.into() });
        let arrangement = Arrangement {
            placed: placed.collect(),
            replace_scores: true,
            payload_key: "whyrank".to_owned(),
        };
        answers.arrange(0, asked, &arrangement, None);
        let kept = answers.results(0).map_or(0, |kept| kept.len());
        assert!(kept <= results.len(), "{kept} results of {}", results.len());
    }
    answers.body(0.1);
}

fn message(protocol: Protocol, body: &Bytes, encoding: Option<&str>) -> Option<Bytes> {
    match protocol {
        Protocol::Rest => Some(body.clone()),
        Protocol::Grpc => grpc::message_of(body, encoding),
    }
}
