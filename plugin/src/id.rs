//! Identifiers: Qdrant's point id (unsigned integer or UUID), the typed ids of consumers and items,
//! and the rules that make a point id from an external key or from a pair.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// The namespaces of the UUIDv5 ids. They are part of the stored data: changing one orphans every
/// point written before.
static USER_NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| namespace("user"));
static ITEM_NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| namespace("item"));
static EXPLANATION_NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| namespace("explanation"));
static QUEUE_NAMESPACE: LazyLock<Uuid> = LazyLock::new(|| namespace("queue"));

fn namespace(kind: &str) -> Uuid {
    let whyrank = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"whyrank");
    Uuid::new_v5(&whyrank, kind.as_bytes())
}

/// The id of a point, as Qdrant has it: an unsigned 64-bit integer or a UUID.
///
/// In JSON it is a number or a string, exactly as in Qdrant's API. Integers sort before UUIDs,
/// which is the order in which Qdrant scrolls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointId {
    /// An integer id.
    Number(u64),
    /// A UUID.
    Uuid(Uuid),
}

/// The text is neither an unsigned integer nor a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a point id: give an unsigned 64-bit integer or a UUID")]
pub struct InvalidPointId(pub String);

impl fmt::Display for PointId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Uuid(uuid) => uuid.fmt(formatter),
        }
    }
}

impl FromStr for PointId {
    type Err = InvalidPointId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        Uuid::parse_str(text).map(Self::Uuid).map_err(|_| InvalidPointId(text.to_owned()))
    }
}

impl From<u64> for PointId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Uuid> for PointId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

impl Serialize for PointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Text in binary formats too: only self-describing forms come back as what they were.
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Uuid(uuid) => serializer.collect_str(uuid),
        }
    }
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PointIdVisitor)
    }
}

struct PointIdVisitor;

impl Visitor<'_> for PointIdVisitor {
    type Value = PointId;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a point id: an unsigned 64-bit integer or a UUID string")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<PointId, E> {
        Ok(PointId::Number(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<PointId, E> {
        u64::try_from(number)
            .map(PointId::Number)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PointId, E> {
        // A number in quotes is refused, as Qdrant refuses it.
        Uuid::parse_str(text)
            .map(PointId::Uuid)
            .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

macro_rules! typed_id {
    ($(#[$documentation:meta])* $name:ident, $namespace:ident) => {
        $(#[$documentation])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub PointId);

        impl $name {
            /// The id of an external key: its UUIDv5 in the namespace of this kind, whatever the
            /// key looks like. The same key always gives the same id.
            pub fn from_external(key: &str) -> Self {
                Self(PointId::Uuid(Uuid::new_v5(&$namespace, key.as_bytes())))
            }

            /// The point id in the collection of this kind.
            pub fn point(&self) -> PointId {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl FromStr for $name {
            type Err = InvalidPointId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<PointId> for $name {
            fn from(id: PointId) -> Self {
                Self(id)
            }
        }
    };
}

typed_id!(
    /// The id of a consumer: a point of the `users` collection.
    UserId,
    USER_NAMESPACE
);
typed_id!(
    /// The id of an item: a point of the `items` collection.
    ItemId,
    ITEM_NAMESPACE
);

/// The point id of the explanation of a pair: the UUIDv5 of `user/item`.
///
/// It depends on nothing else, so writing an explanation twice writes one point.
pub fn explanation_id(user: &UserId, item: &ItemId) -> PointId {
    let pair = format!("{user}/{item}");
    PointId::Uuid(Uuid::new_v5(&EXPLANATION_NAMESPACE, pair.as_bytes()))
}

/// The point id of what the queue keeps beside its jobs, by name.
pub(crate) fn queue_point_id(name: &str) -> PointId {
    PointId::Uuid(Uuid::new_v5(&QUEUE_NAMESPACE, name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_id() -> impl Strategy<Value = PointId> {
        prop_oneof![
            any::<u64>().prop_map(PointId::Number),
            any::<u128>().prop_map(|bits| PointId::Uuid(Uuid::from_u128(bits))),
        ]
    }

    proptest! {
        #[test]
        fn a_point_id_comes_back_from_text_json_and_msgpack(id in any_id()) {
            prop_assert_eq!(id.to_string().parse::<PointId>().unwrap(), id);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<PointId>(&json).unwrap(), id);
            let binary = rmp_serde::to_vec_named(&id).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<PointId>(&binary).unwrap(), id);
        }

        #[test]
        fn a_point_id_reads_and_sorts_as_qdrant_s_own(left in any_id(), right in any_id()) {
            let of = |id: &PointId| -> qdrant_edge::PointId {
                serde_json::from_value(serde_json::to_value(id).unwrap()).unwrap()
            };
            prop_assert_eq!(
                serde_json::to_string(&of(&left)).unwrap(),
                serde_json::to_string(&left).unwrap()
            );
            prop_assert_eq!(of(&left).cmp(&of(&right)), left.cmp(&right));
        }

        #[test]
        fn different_pairs_have_different_explanation_ids(
            user in any_id(), item in any_id(), other in any_id()
        ) {
            let id = explanation_id(&UserId(user), &ItemId(item));
            prop_assert_eq!(id, explanation_id(&UserId(user), &ItemId(item)));
            prop_assert_eq!(item == other, id == explanation_id(&UserId(user), &ItemId(other)));
        }
    }

    #[test]
    fn what_is_not_a_point_id_is_refused() {
        for input in
            ["-1", "1.5", "\"7\"", "\"\"", "\"no uuid\"", "null", "[1]", "18446744073709551616"]
        {
            let error = serde_json::from_str::<PointId>(input).unwrap_err().to_string();
            assert!(error.contains("point id"), "{input}: {error}");
        }
        assert_eq!("x1".parse::<PointId>(), Err(InvalidPointId("x1".to_owned())));
    }

    #[test]
    fn the_namespaces_are_fixed_because_stored_data_depends_on_them() {
        let check = |id: PointId, expected: &str| assert_eq!(id.to_string(), expected);
        check(UserId::from_external("1").point(), "e7d13c61-0662-5502-8b13-b62997c9e96c");
        check(ItemId::from_external("1").point(), "0539e7ca-dfd6-5cc6-ad1f-2720cd983682");
        check(
            explanation_id(&UserId(PointId::Number(1)), &ItemId(PointId::Number(2))),
            "a7e41e2c-33c9-5508-9cd2-0b3aba36735b",
        );
    }
}
