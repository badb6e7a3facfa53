//! Point ids.

use qdrant_client::qdrant;
use qdrant_client::qdrant::point_id::PointIdOptions;
use uuid::Uuid;

use super::WireError;
use crate::id::PointId;

/// The message of a point id.
pub fn id_to_proto(id: PointId) -> qdrant::PointId {
    let options = match id {
        PointId::Number(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    qdrant::PointId { point_id_options: Some(options) }
}

/// The point id of a message.
///
/// # Errors
/// If it is missing, or its text is not a UUID.
pub fn id_from_proto(id: Option<qdrant::PointId>) -> Result<PointId, WireError> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(PointId::Number(number)),
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(&text)
            .map(PointId::Uuid)
            .map_err(|error| WireError::invalid(format!("point id {text:?}"), error)),
        None => Err(WireError::Missing { what: "a point id" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_comes_back(number in any::<u64>(), bits in any::<u128>()) {
            for id in [PointId::Number(number), PointId::Uuid(Uuid::from_u128(bits))] {
                prop_assert_eq!(id_from_proto(Some(id_to_proto(id))), Ok(id));
            }
        }
    }

    #[test]
    fn what_is_no_id_is_named() {
        assert_eq!(id_from_proto(None), Err(WireError::Missing { what: "a point id" }));
        let id = qdrant::PointId { point_id_options: Some(PointIdOptions::Uuid("x".to_owned())) };
        assert!(id_from_proto(Some(id)).unwrap_err().to_string().contains("\"x\""));
    }
}
