//! Checks what is given to a store before anything of it is written; the backends share it.

use qdrant_edge::JsonPath;

use crate::id::PointId;
use crate::store::{
    CollectionSchema, PayloadSelection, Point, PointVectors, Selection, StoreError, StoreResult,
    VectorSchema, VectorSelection, Vectors,
};

/// The longest name, so that a folder of that name can be made on every file system.
const LONGEST_NAME: usize = 255;
/// The largest dimension that Qdrant takes.
const LARGEST_DIMENSION: usize = 65_536;

/// Refuses names that would leave the store's folder or hide in it.
pub(crate) fn collection_name(name: &str) -> StoreResult<()> {
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    if fits { Ok(()) } else { Err(StoreError::CollectionName { name: name.to_owned() }) }
}

/// Refuses schemas that the engine would accept and then not serve.
pub(crate) fn schema(collection: &str, schema: &CollectionSchema) -> StoreResult<()> {
    let refuse = |detail: String| {
        Err(StoreError::InvalidRequest { collection: collection.to_owned(), detail })
    };
    if schema.vectors.is_empty() {
        return refuse("it has no vector".to_owned());
    }
    if schema.vectors.len() > 1 && schema.vectors.contains_key("") {
        return refuse("it has an unnamed vector beside named ones".to_owned());
    }
    for (name, vector) in &schema.vectors {
        if !(1..=LARGEST_DIMENSION).contains(&vector.dimension) {
            let dimension = vector.dimension;
            return refuse(format!(
                "vector `{name}` has dimension {dimension}, not 1 to {LARGEST_DIMENSION}"
            ));
        }
    }
    for key in schema.payload_indexes.keys() {
        payload_key(collection, key)?;
    }
    Ok(())
}

/// Checks that a collection has what is wanted of it; it may have more.
pub(crate) fn fits(
    collection: &str,
    found: &CollectionSchema,
    wanted: &CollectionSchema,
) -> StoreResult<()> {
    let mismatch = |detail: String| {
        Err(StoreError::SchemaMismatch { collection: collection.to_owned(), detail })
    };
    for (name, wanted) in &wanted.vectors {
        let Some(found) = found.vectors.get(name) else {
            return mismatch(format!("it has no vector `{name}`"));
        };
        if (found.dimension, found.distance) != (wanted.dimension, wanted.distance) {
            let (found, wanted) = (shape(found), shape(wanted));
            return mismatch(format!("vector `{name}` has {found}, but {wanted} is wanted"));
        }
    }
    for (key, wanted) in &wanted.payload_indexes {
        if let Some(found) = found.payload_indexes.get(key).filter(|found| *found != wanted) {
            return mismatch(format!(
                "payload key `{key}` has an index of kind {found:?}, but {wanted:?} is wanted"
            ));
        }
    }
    Ok(())
}

/// Checks whole points.
pub(crate) fn points(
    collection: &str,
    schema: &CollectionSchema,
    points: &[Point],
) -> StoreResult<()> {
    points.iter().try_for_each(|point| vectors(collection, schema, point.id, &point.vectors))
}

/// Checks vectors for existing points.
pub(crate) fn point_vectors(
    collection: &str,
    schema: &CollectionSchema,
    points: &[PointVectors],
) -> StoreResult<()> {
    points.iter().try_for_each(|point| vectors(collection, schema, point.id, &point.vectors))
}

fn vectors(
    collection: &str,
    schema: &CollectionSchema,
    id: PointId,
    vectors: &Vectors,
) -> StoreResult<()> {
    vectors.iter().try_for_each(|(name, vector)| {
        let wrong = match schema.vectors.get(name) {
            Some(wanted) => fault(name, wanted, vector),
            None => Some(format!("the collection has no vector `{name}`")),
        };
        wrong.map_or(Ok(()), |detail| {
            Err(StoreError::InvalidPoint { collection: collection.to_owned(), id, detail })
        })
    })
}

/// Checks the vector of a search.
pub(crate) fn query(
    collection: &str,
    schema: &CollectionSchema,
    name: &str,
    query: &[f32],
) -> StoreResult<()> {
    let wanted =
        schema.vectors.get(name).ok_or_else(|| unknown_vector(collection, schema, name))?;
    fault(name, wanted, query).map_or(Ok(()), |detail| {
        Err(StoreError::InvalidRequest { collection: collection.to_owned(), detail })
    })
}

/// Checks what a read is to return.
pub(crate) fn selection(
    collection: &str,
    schema: &CollectionSchema,
    selection: &Selection,
) -> StoreResult<()> {
    if let VectorSelection::Named(names) = &selection.vectors
        && let Some(name) = names.iter().find(|name| !schema.vectors.contains_key(*name))
    {
        return Err(unknown_vector(collection, schema, name));
    }
    match &selection.payload {
        PayloadSelection::Include(keys) | PayloadSelection::Exclude(keys) => {
            keys.iter().try_for_each(|key| payload_key(collection, key).map(drop))
        }
        PayloadSelection::None | PayloadSelection::All => Ok(()),
    }
}

/// The engine's path of a payload key.
pub(crate) fn payload_key(collection: &str, key: &str) -> StoreResult<JsonPath> {
    key.parse().map_err(|()| StoreError::InvalidRequest {
        collection: collection.to_owned(),
        detail: format!(
            "{key:?} is not a payload key: write it as `key`, `key.nested` or `list[].key`"
        ),
    })
}

/// The error for a vector that the collection does not have.
pub(crate) fn unknown_vector(
    collection: &str,
    schema: &CollectionSchema,
    name: &str,
) -> StoreError {
    let known: Vec<&str> = schema.vectors.keys().map(String::as_str).collect();
    let detail = format!("it has no vector `{name}`, but {}", known.join(", "));
    StoreError::InvalidRequest { collection: collection.to_owned(), detail }
}

/// Refuses to return more than a backend's `maximum_results`.
pub(crate) fn number(what: &'static str, given: usize, limit: usize) -> StoreResult<()> {
    if given > limit {
        return Err(StoreError::TooMany { what, given, limit, setting: "maximum_results" });
    }
    Ok(())
}

/// Refuses a page that holds no points, because a walk in such pages never ends.
pub(crate) fn page(collection: &str, limit: usize) -> StoreResult<()> {
    if limit == 0 {
        return Err(StoreError::InvalidRequest {
            collection: collection.to_owned(),
            detail: "a page of no points never ends; ask for at least 1".to_owned(),
        });
    }
    Ok(())
}

fn fault(name: &str, wanted: &VectorSchema, vector: &[f32]) -> Option<String> {
    if vector.len() != wanted.dimension {
        let (found, wanted) = (vector.len(), wanted.dimension);
        return Some(format!("vector `{name}` has {found} components instead of {wanted}"));
    }
    let position = vector.iter().position(|component| !component.is_finite())?;
    Some(format!("vector `{name}` has {} at position {position}", vector[position]))
}

fn shape(vector: &VectorSchema) -> String {
    format!("dimension {} and distance {:?}", vector.dimension, vector.distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        let check = |name: &str, expected: bool| {
            assert_eq!(collection_name(name).is_ok(), expected, "{name:?}");
        };
        check("items", true);
        check("Items-v2.1_b", true);
        check(&"a".repeat(255), true);
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "é", "a\0", &"a".repeat(256)]
        {
            check(name, false);
        }
    }
}
