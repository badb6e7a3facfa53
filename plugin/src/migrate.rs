//! Copies a collection from one store to another and proves that the copy is whole.
//!
//! Every page is compared with what the target has already, only what differs is written, and what
//! was written is read back. So a copy that was stopped goes on where it was, without a state of its
//! own, and copying twice changes nothing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::id::PointId;
use crate::store::{Point, Scroll, Selection, Store, StoreError, StoreResult};

/// Points compared in one step.
const PAGE: usize = 500;
/// Largest difference of a vector's component that counts as equal: a store may normalise vectors of
/// a cosine collection once more.
const TOLERANCE: f32 = 1e-5;

/// What became of one collection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Migrated {
    /// Points in the source.
    pub points: u64,
    /// Points written, because the target did not have them or had others.
    pub written: u64,
}

/// Copies `source` of one store to `target` of another. `advance` is told how many points are done.
///
/// # Errors
/// When a store fails, the target has another schema, or the copy differs from its source: the error
/// names the first point.
pub async fn migrate(
    from: &dyn Store,
    source: &str,
    to: &dyn Store,
    target: &str,
    mut advance: impl FnMut(u64),
) -> StoreResult<Migrated> {
    to.ensure(target, &from.schema(source).await?).await?;
    let mut report = Migrated::default();
    let mut next = None;
    loop {
        let selection = Selection::all();
        let scroll = Scroll { filter: None, from: next, limit: PAGE, selection };
        let page = from.scroll(source, scroll).await?;
        let differing = differing(to, target, &page.points).await?;
        report.points += page.points.len() as u64;
        report.written += differing.len() as u64;
        if !differing.is_empty() {
            to.upsert(target, differing.clone()).await?;
            if let Some(point) = self::differing(to, target, &differing).await?.first() {
                return Err(mismatch(
                    target,
                    format!("point {} differs from its source", point.id),
                ));
            }
        }
        advance(report.points);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let (had, has) = (from.count(source, None).await?, to.count(target, None).await?);
    if had != has {
        let detail = format!("it holds {has} points, and its source {had}");
        return Err(mismatch(target, detail));
    }
    Ok(report)
}

fn mismatch(collection: &str, detail: String) -> StoreError {
    StoreError::SchemaMismatch { collection: collection.to_owned(), detail }
}

/// Those points that the target lacks or has otherwise.
async fn differing(to: &dyn Store, target: &str, points: &[Point]) -> StoreResult<Vec<Point>> {
    let ids: Vec<PointId> = points.iter().map(|point| point.id).collect();
    let found = to.read(target, &ids, &Selection::all()).await?;
    let pairs = points.iter().zip(found);
    let differing = pairs.filter(|(point, found)| !found.as_ref().is_some_and(|f| same(point, f)));
    Ok(differing.map(|(point, _)| point.clone()).collect())
}

fn same(left: &Point, right: &Point) -> bool {
    let values = |point: &Point| Value::Object(point.payload.clone());
    (left.payload == right.payload || equal(&values(left), &values(right)))
        && close(&left.vectors, &right.vectors)
}

/// Whether two values are the same but for the last digits of fractions: a server that keeps payloads as
/// text may read another last bit than it wrote.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() && right.is_f64() => {
            let (left, right) =
                (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
            (left - right).abs() <= left.abs().max(right.abs()) * 4.0 * f64::EPSILON
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, left)| right.get(key).is_some_and(|right| equal(left, right)))
        }
        (left, right) => left == right,
    }
}

fn close(left: &BTreeMap<String, Vec<f32>>, right: &BTreeMap<String, Vec<f32>>) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).all(|((name, left), (other, right))| {
            let near = |(left, right): (&f32, &f32)| (left - right).abs() <= TOLERANCE;
            name == other && left.len() == right.len() && left.iter().zip(right).all(near)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{EmbeddedSettings, EmbeddedStore};
    use crate::store::{CollectionSchema, Distance, VectorSchema};

    async fn store(folder: &std::path::Path) -> EmbeddedStore {
        let settings =
            EmbeddedSettings { minimum_free_bytes: 0, ..EmbeddedSettings::in_folder(folder) };
        EmbeddedStore::open(settings).await.unwrap()
    }

    #[test]
    fn only_the_last_digits_of_fractions_may_differ() {
        use serde_json::json;
        let mean = 3.727_272_748_947_143_6_f64;
        let close = f64::from_bits(mean.to_bits() + 1);
        assert!(equal(&json!({"a": [mean, "x"]}), &json!({"a": [close, "x"]})));
        for (left, right) in [
            (json!({"a": mean}), json!({"a": mean + 1e-9})),
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": 1}), json!({"a": 1, "b": null})),
            (json!([1.5]), json!([1.5, 1.5])),
            (json!("1"), json!(1)),
        ] {
            assert!(!equal(&left, &right), "{left} {right}");
        }
    }

    #[tokio::test]
    async fn a_copy_is_whole_and_copying_again_writes_only_what_differs() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (from, to) = (store(folders[0].path()).await, store(folders[1].path()).await);
        let vector = VectorSchema { dimension: 2, distance: Distance::Cosine, indexed: true };
        let schema = CollectionSchema {
            vectors: [("main".to_owned(), vector)].into(),
            payload_indexes: Default::default(),
        };
        from.ensure("a", &schema).await.unwrap();
        let points: Vec<Point> = (0..1_234_u64)
            .map(|number| Point {
                id: number.into(),
                vectors: [("main".to_owned(), vec![number as f32 + 1.0, 2.0])].into(),
                payload: [("n".to_owned(), number.into())].into_iter().collect(),
            })
            .collect();
        from.upsert("a", points).await.unwrap();
        let copy = async || migrate(&from, "a", &to, "b", |_| ()).await;
        assert_eq!(copy().await.unwrap(), Migrated { points: 1_234, written: 1_234 });
        assert_eq!(copy().await.unwrap(), Migrated { points: 1_234, written: 0 });
        to.delete("b", &[7.into(), 1_000.into()]).await.unwrap();
        assert_eq!(copy().await.unwrap(), Migrated { points: 1_234, written: 2 });
        let extra =
            Point { id: 9_999.into(), vectors: Default::default(), payload: Default::default() };
        to.upsert("b", vec![extra]).await.unwrap();
        let error = copy().await.unwrap_err().to_string();
        assert!(error.contains("1235") && error.contains("1234"), "{error}");
    }
}
