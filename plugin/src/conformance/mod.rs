//! The conformance suite of the [`Store`] trait: what every backend must do, written once.
//!
//! A backend's test calls [`run_all`] with a function that makes an empty store. Each part panics with
//! what it expected and what it found.

mod conditions;
mod filters;
mod schemas;
mod searches;
mod vectors;
mod writes;

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::id::PointId;
use crate::store::{CollectionSchema, Distance, PayloadIndex, Point, Store, VectorSchema, Vectors};

/// The collection that the suite works on.
const COLLECTION: &str = "conformance";
/// A vector name in the suite's schema, of 4 components, compared by dot product.
const FIRST: &str = "first";
/// A vector name in the suite's schema, of 2 components, compared by Euclidean distance, not indexed.
const SECOND: &str = "second";

/// Runs the whole suite, each part on a fresh, empty store from `factory`, which is closed after it.
///
/// # Panics
/// With expectation and finding, where the backend does something else.
pub async fn run_all<Factory, Made>(factory: Factory)
where
    Factory: Fn() -> Made,
    Made: Future<Output = Arc<dyn Store>>,
{
    macro_rules! run {
        ($($part:path),* $(,)?) => {
            $(
                let store = factory().await;
                $part(&*store).await;
                store.close().await.expect("a store closes");
            )*
        };
    }
    run!(
        schemas::collections_are_made_verified_and_deleted,
        schemas::bad_schemas_and_names_are_refused,
        schemas::a_collection_that_does_not_exist_is_named_by_every_call,
        schemas::a_closed_store_says_so,
        writes::an_empty_collection_answers_everything,
        writes::reading_keeps_order_gaps_and_repetitions,
        writes::a_point_comes_back_as_it_was_written,
        writes::integers_too_large_for_the_protocol_are_kept_or_refused,
        writes::writing_twice_is_writing_once,
        writes::a_write_replaces_vectors_and_payload,
        writes::vectors_are_added_without_touching_the_payload,
        writes::payload_keys_are_set_without_touching_the_rest,
        writes::changes_of_missing_points_are_refused_whole,
        writes::bad_vectors_are_refused_before_anything_is_written,
        writes::deleted_points_are_gone,
        writes::large_batches_are_written_and_read,
        conditions::changes_touch_only_what_matches,
        conditions::deletions_touch_only_what_matches,
        conditions::of_many_claims_one_wins,
        searches::the_nearest_come_first,
        searches::limits_offsets_and_thresholds_hold,
        searches::points_without_the_vector_are_not_found,
        searches::selections_return_what_was_asked,
        searches::bad_searches_are_refused,
        searches::pages_cover_every_point_once_in_order,
        searches::facets_count_values,
        searches::an_indexed_collection_finds_what_an_exact_search_finds,
        vectors::the_unnamed_vector_is_written_read_and_searched,
        vectors::every_distance_orders_and_scores,
        filters::every_condition_selects_its_points,
        filters::filters_hold_in_search_scroll_and_facet,
        filters::filters_follow_changes,
    );
}

/// The schema of the suite's collection.
fn schema() -> CollectionSchema {
    let first = VectorSchema { dimension: 4, distance: Distance::Dot, indexed: true };
    let second = VectorSchema { dimension: 2, distance: Distance::Euclid, indexed: false };
    CollectionSchema {
        vectors: [(FIRST.to_owned(), first), (SECOND.to_owned(), second)].into(),
        payload_indexes: [
            ("genre".to_owned(), PayloadIndex::Keyword),
            ("year".to_owned(), PayloadIndex::Integer),
        ]
        .into(),
    }
}

async fn made(store: &dyn Store) {
    store.ensure(COLLECTION, &schema()).await.expect("an empty store takes a collection");
}

/// A UUID point id.
fn uuid(bits: u128) -> PointId {
    PointId::Uuid(Uuid::from_u128(bits))
}

/// A point with both vectors; `payload` must be an object.
fn point(id: impl Into<PointId>, first: [f32; 4], payload: Value) -> Point {
    let id = id.into();
    let vectors: Vectors =
        [(FIRST.to_owned(), first.to_vec()), (SECOND.to_owned(), vec![first[0], first[1]])].into();
    let Value::Object(payload) = payload else { panic!("{payload} is not an object") };
    Point { id, vectors, payload }
}

/// The same point without its second vector.
fn without_second(mut point: Point) -> Point {
    point.vectors.remove(SECOND);
    point
}

async fn write(store: &dyn Store, points: &[Point]) {
    store.upsert(COLLECTION, points.to_vec()).await.expect("good points are written");
}

/// All ids that match a filter, by scrolling with small pages.
async fn matching(store: &dyn Store, filter: Option<crate::Filter>) -> Vec<PointId> {
    let mut ids = Vec::new();
    let mut from = None;
    loop {
        let selection = crate::Selection::none();
        let scroll = crate::Scroll { filter: filter.clone(), from, limit: 3, selection };
        let page = store.scroll(COLLECTION, scroll).await.expect("a page is read");
        ids.extend(page.points.iter().map(|point| point.id));
        match page.next {
            Some(next) => from = Some(next),
            None => return ids,
        }
    }
}

/// Asserts that a call failed with a message that has these words.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: crate::StoreResult<T>, words: &[&str]) {
    let message = result.expect_err("the call is refused").to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}
