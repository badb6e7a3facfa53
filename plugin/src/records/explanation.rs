//! The explanation of a pair in the `explanations` collection, and the light form of it that the
//! rerank path reads.

use serde::{Deserialize, Serialize};

use super::{NEGATIVE_VECTOR, POSITIVE_VECTOR, RecordError, fields_of, payload_of};
use crate::domain::{Codes, Explanation};
use crate::id::{ItemId, PointId, UserId, explanation_id};
use crate::store::{Point, PointVectors, Selection, Store, StoreResult, Vectors};

/// What wrote an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A language model.
    Llm,
    /// The evidence template, because there is no model or its output was refused.
    Template,
}

/// Where an explanation comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The generator and its model.
    pub generator: String,
    /// The version of the prompt templates.
    pub prompt_version: String,
    /// The version of the profiles that the prompt was made from.
    pub profile_version: String,
    /// What wrote the text in the end.
    pub source: Source,
    /// The seed of the accepted attempt. Stored as text: Qdrant's gRPC carries integers of 63 bits.
    #[serde(with = "seed_text")]
    pub seed: u64,
    /// Number of attempts, from 1.
    pub attempts: u32,
    /// When, in seconds since the Unix epoch.
    pub written_at: i64,
}

/// Writes a seed as text, and reads it as text or as the number that was written before.
mod seed_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(seed)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(seed) => Ok(seed),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

/// A written explanation with its codes, if it was encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplanationRecord {
    /// The consumer.
    pub user: UserId,
    /// The item.
    pub item: ItemId,
    /// The consumer's id as the data gave it.
    pub user_external_id: String,
    /// The item's id as the data gave it.
    pub item_external_id: String,
    /// Both texts.
    pub explanation: Explanation,
    /// Where they come from.
    pub provenance: Provenance,
    /// The codes of both sides; absent until encoded.
    pub codes: Option<Codes>,
    /// The version of the autoencoder that made the codes.
    pub code_version: Option<String>,
    /// What has changed since it was written; absent while it is current.
    pub stale: Option<String>,
}

/// The payload of an explanation point. `user` and `item` are text even for integer ids, so that one
/// keyword index serves both kinds.
#[derive(Serialize, Deserialize)]
struct Fields {
    user: String,
    item: String,
    user_external_id: String,
    item_external_id: String,
    positive: String,
    negative: String,
    provenance: Provenance,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stale: Option<String>,
}

impl ExplanationRecord {
    /// The point id of this pair.
    pub fn id(&self) -> PointId {
        explanation_id(&self.user, &self.item)
    }

    /// The point of this record.
    pub fn to_point(&self) -> Point {
        let fields = Fields {
            user: self.user.to_string(),
            item: self.item.to_string(),
            user_external_id: self.user_external_id.clone(),
            item_external_id: self.item_external_id.clone(),
            positive: self.explanation.positive.clone(),
            negative: self.explanation.negative.clone(),
            provenance: self.provenance.clone(),
            code_version: self.code_version.clone(),
            stale: self.stale.clone(),
        };
        Point {
            id: self.id(),
            vectors: self.codes.clone().map(vectors_of).unwrap_or_default(),
            payload: payload_of(&fields),
        }
    }

    /// The record of a point that was read with its whole payload. The codes are `None` if they were
    /// not selected or the point was not encoded.
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        let fields: Fields = fields_of(&mut point, "an explanation")?;
        let error = |reason: String| RecordError { id: point.id, kind: "an explanation", reason };
        let user = fields.user.parse().map_err(|invalid| error(format!("user: {invalid}")))?;
        let item = fields.item.parse().map_err(|invalid| error(format!("item: {invalid}")))?;
        if explanation_id(&user, &item) != point.id {
            return Err(error(format!("its id is not that of user {user} and item {item}")));
        }
        Ok(Self {
            user,
            item,
            user_external_id: fields.user_external_id,
            item_external_id: fields.item_external_id,
            explanation: Explanation { positive: fields.positive, negative: fields.negative },
            provenance: fields.provenance,
            codes: codes_of(point.id, &mut point.vectors)?,
            code_version: fields.code_version,
            stale: fields.stale,
        })
    }
}

/// The codes of a pair without the texts: all that the rerank path needs. Reading it touches no
/// payload, so it costs a fraction of a whole record.
#[derive(Debug, Clone, PartialEq)]
pub struct PairCodes {
    /// The explanation point.
    pub id: PointId,
    /// The codes; absent if the explanation is written but not encoded yet.
    pub codes: Option<Codes>,
}

impl PairCodes {
    /// What to select when reading: the two vectors, no payload.
    pub fn selection() -> Selection {
        Selection::vectors([POSITIVE_VECTOR, NEGATIVE_VECTOR])
    }

    /// The codes of a point read with [`PairCodes::selection`].
    pub fn from_point(mut point: Point) -> Result<Self, RecordError> {
        Ok(Self { id: point.id, codes: codes_of(point.id, &mut point.vectors)? })
    }

    /// The write that gives a stored explanation its codes.
    pub fn to_update(id: PointId, codes: Codes) -> PointVectors {
        PointVectors { id, vectors: vectors_of(codes) }
    }
}

/// Reads the codes of pairs in one call, in the order given; `None` where no explanation is written.
/// A point that is damaged reads as written and not encoded, and is logged: one bad point must not
/// fail a whole request.
pub async fn read_pair_codes(
    store: &dyn Store,
    collection: &str,
    pairs: impl IntoIterator<Item = (UserId, ItemId)>,
) -> StoreResult<Vec<Option<PairCodes>>> {
    let ids: Vec<PointId> =
        pairs.into_iter().map(|(user, item)| explanation_id(&user, &item)).collect();
    let points = store.read(collection, &ids, &PairCodes::selection()).await?;
    let codes = points.into_iter().map(|point| {
        let point = point?;
        let id = point.id;
        Some(PairCodes::from_point(point).unwrap_or_else(|error| {
            tracing::warn!(collection, %error, "explanation codes are unusable");
            PairCodes { id, codes: None }
        }))
    });
    Ok(codes.collect())
}

fn vectors_of(codes: Codes) -> Vectors {
    [(POSITIVE_VECTOR.to_owned(), codes.positive), (NEGATIVE_VECTOR.to_owned(), codes.negative)]
        .into()
}

fn codes_of(id: PointId, vectors: &mut Vectors) -> Result<Option<Codes>, RecordError> {
    match (vectors.remove(POSITIVE_VECTOR), vectors.remove(NEGATIVE_VECTOR)) {
        (Some(positive), Some(negative)) => Ok(Some(Codes { positive, negative })),
        (None, None) => Ok(None),
        (positive, _) => {
            let missing = if positive.is_some() { NEGATIVE_VECTOR } else { POSITIVE_VECTOR };
            let reason = format!("it has one code and lacks `{missing}`");
            Err(RecordError { id, kind: "an explanation", reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ExplanationRecord {
        ExplanationRecord {
            user: UserId(7.into()),
            item: ItemId::from_external("50"),
            user_external_id: "7".to_owned(),
            item_external_id: "50".to_owned(),
            explanation: Explanation {
                positive: "You rated Alien 5, and this keeps its dread. 怖い".to_owned(),
                negative: "You left slow films early.".to_owned(),
            },
            provenance: Provenance {
                generator: "mistralrs/qwen2.5-coder-1.5b".to_owned(),
                prompt_version: "p1".to_owned(),
                profile_version: "f1".to_owned(),
                source: Source::Llm,
                seed: u64::MAX,
                attempts: 2,
                written_at: 1_700_000_000,
            },
            codes: Some(Codes { positive: vec![0.5, 1.0], negative: vec![-0.5, 2.0] }),
            code_version: Some("a1".to_owned()),
            stale: Some("profile".to_owned()),
        }
    }

    #[test]
    fn a_record_comes_back_from_its_point_encoded_or_not() {
        let unencoded =
            ExplanationRecord { codes: None, code_version: None, stale: None, ..record() };
        for record in [record(), unencoded] {
            assert_eq!(ExplanationRecord::from_point(record.to_point()), Ok(record));
        }
    }

    #[test]
    fn a_damaged_point_is_refused_with_its_reason() {
        let check = |damage: &dyn Fn(&mut Point), expected: &str| {
            let mut point = record().to_point();
            damage(&mut point);
            let error = ExplanationRecord::from_point(point).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|point| drop(point.vectors.remove(NEGATIVE_VECTOR)), "lacks `negative`");
        check(&|point| drop(point.vectors.remove(POSITIVE_VECTOR)), "lacks `positive`");
        check(&|point| drop(point.payload.insert("user".into(), "x".into())), "user: \"x\" is not");
        check(&|point| drop(point.payload.insert("user".into(), "8".into())), "id is not that of");
        check(&|point| drop(point.payload.remove("positive")), "missing field `positive`");
    }

    #[test]
    fn pair_codes_read_only_vectors() {
        let mut point = record().to_point();
        point.payload.clear();
        let codes = PairCodes::from_point(point).unwrap();
        assert_eq!(codes, PairCodes { id: record().id(), codes: record().codes });
        let update = PairCodes::to_update(codes.id, codes.codes.unwrap());
        assert_eq!(update.vectors, record().to_point().vectors);
    }
}
