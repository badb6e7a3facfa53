//! Payload indexes in Qdrant's JSON.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::Value;

use super::answer::{WRITTEN, answer};
use super::fields::{Fields, invalid};
use crate::listener::fault::Fault;
use crate::listener::operations::Operations;
use crate::store::PayloadIndex;

pub(super) async fn create(
    State(operations): State<Operations>,
    Path(collection): Path<String>,
    request: Request,
) -> Response {
    answer(async {
        let mut fields = operations.fields(request).await?;
        let key: String = fields.need("field_name")?;
        let schema: Option<Value> = fields.take_either("field_schema", "field_type")?;
        fields.finish()?;
        let index = read_index(schema)?;
        operations.create_payload_index(&collection, key, index).await?;
        Ok(WRITTEN)
    })
    .await
}

/// The kind of index: a name, or an object with the name as `type` and settings.
fn read_index(schema: Option<Value>) -> Result<PayloadIndex, Fault> {
    match schema {
        None => Err(Fault::unimplemented("guessing the kind of an index: give `field_schema`")),
        Some(Value::String(kind)) => kind_of(&kind),
        Some(settings) => {
            let mut fields = Fields::of("field_schema", settings)?;
            let index = kind_of(&fields.need::<String>("type")?)?;
            // These are about memory and speed.
            fields.harmless(&["is_tenant", "is_principal", "on_disk", "enable_hnsw", "memory"]);
            match index {
                PayloadIndex::Integer => fields.harmless(&["lookup", "range"]),
                PayloadIndex::Text => text_settings(&mut fields)?,
                _ => {}
            }
            fields.finish()?;
            Ok(index)
        }
    }
}

fn kind_of(kind: &str) -> Result<PayloadIndex, Fault> {
    if kind == "geo" {
        return Err(Fault::unimplemented("payload indexes of kind `geo`"));
    }
    serde_json::from_value(kind.into()).map_err(|error| invalid("field_schema", error))
}

/// Refuses settings that would change what a text matches; the defaults are what the store does.
fn text_settings(fields: &mut Fields) -> Result<(), Fault> {
    let unsupported =
        |name: &str| Err(Fault::unimplemented(format!("this setting of text indexes (`{name}`)")));
    if fields.take::<String>("tokenizer")?.is_some_and(|tokenizer| tokenizer != "word") {
        return unsupported("tokenizer");
    }
    if fields.take::<bool>("lowercase")? == Some(false) {
        return unsupported("lowercase");
    }
    for name in ["phrase_matching", "ascii_folding"] {
        if fields.take::<bool>(name)? == Some(true) {
            return unsupported(name);
        }
    }
    for name in ["min_token_len", "max_token_len", "stopwords", "stemmer"] {
        fields.unsupported(name, "this setting of text indexes")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_index_is_a_name_or_has_settings() {
        let check = |schema: Value, expected: PayloadIndex| {
            assert_eq!(read_index(Some(schema)).unwrap(), expected);
        };
        check(json!("keyword"), PayloadIndex::Keyword);
        check(json!({"type": "keyword", "is_tenant": true}), PayloadIndex::Keyword);
        check(json!({"type": "integer", "lookup": true, "range": false}), PayloadIndex::Integer);
        check(json!("datetime"), PayloadIndex::Datetime);
        check(json!({"type": "text", "tokenizer": "word", "lowercase": true}), PayloadIndex::Text);
    }

    #[test]
    fn an_index_that_the_store_does_not_have_is_refused_by_name() {
        let check = |schema: Value, words: &str| {
            let message = read_index(Some(schema.clone())).unwrap_err().message;
            assert!(message.contains(words), "{schema}: {message}");
        };
        check(json!("geo"), "geo");
        check(json!("sorted"), "sorted");
        check(json!({"type": "text", "tokenizer": "prefix"}), "tokenizer");
        check(json!({"type": "text", "stemmer": {"type": "snowball"}}), "stemmer");
        check(json!({"type": "keyword", "tokenizer": "word"}), "unknown field `tokenizer`");
        assert!(read_index(None).unwrap_err().message.contains("field_schema"));
    }
}
