//! Dense vectors, named and unnamed. The vector without a name has the name "" here, as it has in
//! Qdrant.

use qdrant_client::qdrant;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    DenseVector, NamedVectors, NamedVectorsOutput, VectorOutput, vector, vector_output,
    vectors_output,
};

use super::WireError;
use crate::store::Vectors;

/// The name of the vector that a collection with a single, unnamed vector has.
pub const UNNAMED_VECTOR: &str = "";

/// The message of one dense vector.
pub fn dense_to_proto(components: Vec<f32>) -> qdrant::Vector {
    let dense = vector::Vector::Dense(DenseVector { data: components });
    qdrant::Vector { vector: Some(dense), ..Default::default() }
}

/// The components of one dense vector, from the present or the deprecated field.
///
/// # Errors
/// If the vector is sparse, a multivector or data for inference.
#[expect(deprecated, reason = "older clients send the deprecated fields only")]
pub fn dense_from_proto(name: &str, vector: qdrant::Vector) -> Result<Vec<f32>, WireError> {
    use vector::Vector::{Dense, Document, Image, MultiDense, Object, Sparse};
    match vector.vector {
        Some(Dense(dense)) => Ok(dense.data),
        Some(Sparse(_)) => Err(refused("a sparse vector", name)),
        Some(MultiDense(_)) => Err(refused("a multivector", name)),
        Some(Document(_) | Image(_) | Object(_)) => Err(refused("inference", name)),
        None if vector.indices.is_some() => Err(refused("a sparse vector", name)),
        None if vector.vectors_count.is_some() => Err(refused("a multivector", name)),
        None => Ok(vector.data),
    }
}

/// The message of a point's vectors.
///
/// # Errors
/// If there is an unnamed vector beside named ones: no collection has both.
pub fn vectors_to_proto(mut vectors: Vectors) -> Result<qdrant::Vectors, WireError> {
    let options = match vectors.remove(UNNAMED_VECTOR) {
        Some(components) if vectors.is_empty() => {
            VectorsOptions::Vector(dense_to_proto(components))
        }
        Some(_) => return Err(mixed(&vectors)),
        None => {
            let named = vectors.into_iter().map(|(name, data)| (name, dense_to_proto(data)));
            VectorsOptions::Vectors(NamedVectors { vectors: named.collect() })
        }
    };
    Ok(qdrant::Vectors { vectors_options: Some(options) })
}

/// The vectors of a written point; a message without vectors has none.
///
/// # Errors
/// If one of them is not dense.
pub fn vectors_from_proto(vectors: Option<qdrant::Vectors>) -> Result<Vectors, WireError> {
    match vectors.and_then(|vectors| vectors.vectors_options) {
        None => Ok(Vectors::new()),
        Some(VectorsOptions::Vector(vector)) => {
            let components = dense_from_proto(UNNAMED_VECTOR, vector)?;
            Ok([(UNNAMED_VECTOR.to_owned(), components)].into())
        }
        Some(VectorsOptions::Vectors(named)) => {
            let dense = named.vectors.into_iter().map(|(name, vector)| {
                dense_from_proto(&name, vector).map(|components| (name, components))
            });
            dense.collect()
        }
    }
}

/// The message of the vectors that a read returns.
///
/// # Errors
/// If there is an unnamed vector beside named ones.
pub fn vectors_to_output(mut vectors: Vectors) -> Result<qdrant::VectorsOutput, WireError> {
    let options = match vectors.remove(UNNAMED_VECTOR) {
        Some(data) if vectors.is_empty() => vectors_output::VectorsOptions::Vector(output(data)),
        Some(_) => return Err(mixed(&vectors)),
        None => {
            let named = vectors.into_iter().map(|(name, data)| (name, output(data)));
            vectors_output::VectorsOptions::Vectors(NamedVectorsOutput { vectors: named.collect() })
        }
    };
    Ok(qdrant::VectorsOutput { vectors_options: Some(options) })
}

/// The dense vectors that a read returned. Sparse vectors and multivectors are left out: a
/// collection of a search team may have them, and nothing here asks for them.
pub fn vectors_from_output(vectors: Option<qdrant::VectorsOutput>) -> Vectors {
    match vectors.and_then(|vectors| vectors.vectors_options) {
        None => Vectors::new(),
        Some(vectors_output::VectorsOptions::Vector(vector)) => dense_output(vector)
            .map(|components| (UNNAMED_VECTOR.to_owned(), components))
            .into_iter()
            .collect(),
        Some(vectors_output::VectorsOptions::Vectors(named)) => named
            .vectors
            .into_iter()
            .filter_map(|(name, vector)| Some((name, dense_output(vector)?)))
            .collect(),
    }
}

fn output(components: Vec<f32>) -> VectorOutput {
    let dense = vector_output::Vector::Dense(DenseVector { data: components });
    VectorOutput { vector: Some(dense), ..Default::default() }
}

#[expect(deprecated, reason = "older servers fill the deprecated fields only")]
fn dense_output(vector: VectorOutput) -> Option<Vec<f32>> {
    use vector_output::Vector::{Dense, MultiDense, Sparse};
    match vector.vector {
        Some(Dense(dense)) => Some(dense.data),
        Some(Sparse(_) | MultiDense(_)) => None,
        None => (vector.indices.is_none() && vector.vectors_count.is_none()).then_some(vector.data),
    }
}

fn refused(what: &str, name: &str) -> WireError {
    WireError::unsupported(format!("{what} (vector `{name}`)"))
}

fn mixed(named: &Vectors) -> WireError {
    let names: Vec<&str> = named.keys().map(String::as_str).collect();
    WireError::unsupported(format!("an unnamed vector beside {}", names.join(", ")))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any vectors that one point can have.
    pub(in crate::wire) fn any_vectors() -> impl Strategy<Value = Vectors> {
        let components =
            || prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..4);
        prop_oneof![
            components().prop_map(|components| [(UNNAMED_VECTOR.to_owned(), components)].into()),
            prop::collection::btree_map(".+", components(), 0..4),
        ]
    }

    proptest! {
        #[test]
        fn vectors_come_back_in_both_forms(vectors in any_vectors()) {
            let written = vectors_to_proto(vectors.clone()).unwrap();
            prop_assert_eq!(vectors_from_proto(Some(written)), Ok(vectors.clone()));
            let read = vectors_to_output(vectors.clone()).unwrap();
            prop_assert_eq!(vectors_from_output(Some(read)), vectors);
        }
    }

    #[test]
    #[expect(deprecated, reason = "it tests what older programs send")]
    fn the_deprecated_fields_are_read() {
        let data = vec![1.0, 2.0];
        let sent = qdrant::Vector { data: data.clone(), ..Default::default() };
        assert_eq!(dense_from_proto("a", sent), Ok(data.clone()));
        let sparse = qdrant::Vector {
            indices: Some(qdrant::SparseIndices { data: vec![1] }),
            ..Default::default()
        };
        let error = dense_from_proto("a", sparse).unwrap_err();
        assert_eq!(error.to_string(), "a sparse vector (vector `a`) is not supported");
        let answered = VectorOutput { data: data.clone(), ..Default::default() };
        assert_eq!(dense_output(answered), Some(data));
    }

    #[test]
    fn other_kinds_of_vectors_are_named_when_written_and_left_out_when_read() {
        let multi = qdrant::Vector {
            vector: Some(vector::Vector::MultiDense(Default::default())),
            ..Default::default()
        };
        let named = NamedVectors { vectors: [("late".to_owned(), multi)].into() };
        let vectors = qdrant::Vectors { vectors_options: Some(VectorsOptions::Vectors(named)) };
        let error = vectors_from_proto(Some(vectors)).unwrap_err().to_string();
        assert!(error.contains("multivector") && error.contains("`late`"), "{error}");
        let sparse = VectorOutput {
            vector: Some(vector_output::Vector::Sparse(Default::default())),
            ..Default::default()
        };
        assert_eq!(dense_output(sparse), None);
        let both: Vectors = [("".to_owned(), vec![1.0]), ("a".to_owned(), vec![1.0])].into();
        assert!(vectors_to_proto(both.clone()).is_err() && vectors_to_output(both).is_err());
    }
}
