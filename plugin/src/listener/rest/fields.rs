//! Reads a JSON body field by field, so that none is overlooked: each is taken, known to be harmless,
//! refused by name as unimplemented, or unknown and refused for that.

use axum::body::to_bytes;
use axum::extract::Request;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::listener::fault::Fault;

/// How the body is called in messages.
const BODY: &str = "JSON body";

/// The fields of an object that were not taken yet.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the body of a request, which must be an object of at most so many bytes.
    pub(super) async fn read(request: Request, maximum_bytes: usize) -> Result<Self, Fault> {
        let bytes = to_bytes(request.into_body(), maximum_bytes).await.map_err(|error| {
            Fault::format(BODY, format!("{error}; at most {maximum_bytes} bytes are read"))
        })?;
        let map = serde_json::from_slice(&bytes).map_err(|error| Fault::format(BODY, error))?;
        Ok(Self(map))
    }

    /// The fields of a value, which must be an object.
    pub(super) fn of(name: &str, value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(invalid(name, format!("expected an object, found {other}"))),
        }
    }

    /// Takes a field; none if it is missing or null.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                serde_json::from_value(value).map(Some).map_err(|error| invalid(name, error))
            }
        }
    }

    /// Takes a field that has two names.
    pub(super) fn take_either<T: DeserializeOwned>(
        &mut self,
        name: &str,
        other: &str,
    ) -> Result<Option<T>, Fault> {
        let (first, second) = (self.take(name)?, self.take(other)?);
        if first.is_some() && second.is_some() {
            return Err(invalid(name, format!("given twice, also as `{other}`")));
        }
        Ok(first.or(second))
    }

    /// Takes a field that must be there.
    pub(super) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Fault> {
        self.take(name)?.ok_or_else(|| Fault::format(BODY, format!("missing field `{name}`")))
    }

    /// Drops fields that change nothing about what is done and answered.
    pub(super) fn harmless(&mut self, names: &[&str]) {
        for name in names {
            self.0.remove(*name);
        }
    }

    /// Refuses a field that asks for something this engine does not have.
    pub(super) fn unsupported(&mut self, name: &str, what: &str) -> Result<(), Fault> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(Value::Object(map)) if map.is_empty() => Ok(()),
            Some(_) => Err(Fault::unimplemented(format!("{what} (`{name}`)"))),
        }
    }

    /// Refuses what is left, unless it is null.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => Err(Fault::format(BODY, format!("unknown field `{name}`"))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn into_map(self) -> Map<String, Value> {
        self.0
    }
}

/// A field whose value does not fit.
pub(super) fn invalid(name: &str, detail: impl std::fmt::Display) -> Fault {
    Fault::format(BODY, format!("{name}: {detail}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of("body", value).expect("an object has fields")
    }

    #[test]
    fn a_field_is_taken_once_and_null_is_missing() {
        let mut fields = fields(json!({"limit": 5, "offset": null}));
        assert_eq!(fields.take::<usize>("limit").unwrap(), Some(5));
        assert_eq!(fields.take::<usize>("limit").unwrap(), None);
        assert_eq!(fields.take::<usize>("offset").unwrap(), None);
        assert!(fields.need::<usize>("ids").unwrap_err().message.contains("missing field `ids`"));
        fields.finish().unwrap();
    }

    #[test]
    fn nothing_is_overlooked() {
        let check = |value: Value, words: &str| {
            let mut fields = fields(value);
            fields.harmless(&["timeout"]);
            let result = fields
                .unsupported("prefetch", "prefetches")
                .and_then(|()| fields.take_either::<bool>("with_vector", "with_vectors"))
                .and_then(|_| fields.finish());
            match result {
                Ok(()) => assert_eq!(words, ""),
                Err(fault) => assert!(fault.message.contains(words), "{fault:?}"),
            }
        };
        check(json!({"timeout": 3, "prefetch": [], "new": null, "with_vectors": true}), "");
        check(json!({"prefetch": [{}]}), "prefetches (`prefetch`)");
        check(json!({"new": 1}), "unknown field `new`");
        check(json!({"with_vector": true, "with_vectors": true}), "given twice");
        check(json!({"with_vector": "yes"}), "with_vector: invalid type");
    }
}
