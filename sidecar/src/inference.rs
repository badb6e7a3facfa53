//! The vectors that a Qdrant server asks for by its remote-inference protocol: texts, reasons,
//! consumers and pairs, so that native queries can use them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use whyrank_models::text::TextEmbedder;
use whyrank_plugin::inference::{
    InferenceInput, InferenceModel, InferenceResponse, InferenceUsage,
};

use crate::http::{ApiError, Cause};
use crate::rerank::{GivenInteraction, Reranker};
use crate::writing::CodeMaker;

/// What answers inference requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inference {
    reranker: Reranker,
    embedder: Arc<TextEmbedder>,
    codes: Option<CodeMaker>,
}

/// The data of `whyrank/user`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserData {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    history: Option<Vec<GivenInteraction>>,
}

/// The data of `whyrank/pair`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairData {
    user: String,
    item: String,
    side: Side,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Positive,
    Negative,
}

/// One input, understood.
enum Work {
    Text(String),
    Explanation(String),
    User(UserData),
    Pair(PairData),
}

impl Inference {
    /// Over the reranker's store and models; without an encoder there are no codes of texts.
    pub fn new(reranker: Reranker, embedder: Arc<TextEmbedder>, codes: Option<CodeMaker>) -> Self {
        Self { reranker, embedder, codes }
    }

    /// The vectors of all inputs, in their order.
    ///
    /// # Errors
    /// When one of the inputs cannot be used: the error names all of them, each with its place.
    pub async fn infer(&self, inputs: &[InferenceInput]) -> Result<InferenceResponse, ApiError> {
        let understood: Vec<Result<Work, String>> = inputs.iter().map(understand).collect();
        refuse_if_any(understood.iter().map(|work| work.as_ref().err().cloned()))?;
        let works: Vec<Work> = understood.into_iter().flatten().collect();
        let mut embeddings: Vec<Option<Vec<f32>>> = vec![None; works.len()];
        let mut usage = InferenceUsage::default();
        for input in inputs {
            usage.models.entry(input.model.clone()).or_default();
        }
        self.texts(inputs, &works, &mut embeddings, &mut usage).await?;
        let mut faults = vec![None; works.len()];
        for (place, work) in works.iter().enumerate() {
            let vector = match work {
                Work::Text(_) | Work::Explanation(_) => continue,
                Work::User(data) => self.user(data).await,
                Work::Pair(data) => self.pair(data).await,
            };
            match vector {
                Ok(vector) => embeddings[place] = Some(vector),
                Err(error) if error.cause.row().1.is_client_error() => {
                    faults[place] = Some(error.message);
                }
                Err(error) => return Err(error),
            }
        }
        refuse_if_any(faults.into_iter())?;
        Ok(InferenceResponse { embeddings: embeddings.into_iter().flatten().collect(), usage })
    }

    /// All texts go through the network together.
    async fn texts(
        &self,
        inputs: &[InferenceInput],
        works: &[Work],
        embeddings: &mut [Option<Vec<f32>>],
        usage: &mut InferenceUsage,
    ) -> Result<(), ApiError> {
        let mut places = Vec::new();
        let mut texts = Vec::new();
        let mut encode = false;
        for (place, work) in works.iter().enumerate() {
            let (Work::Text(text) | Work::Explanation(text)) = work else { continue };
            encode |= matches!(work, Work::Explanation(_));
            places.push(place);
            texts.push(text.clone());
        }
        if texts.is_empty() {
            return Ok(());
        }
        let codes = self.codes.clone();
        if encode && codes.is_none() {
            let message = "there is no trained encoder; run `whyrank train autoencoder`";
            return Err(ApiError::new(Cause::NotReady, message));
        }
        let embedder = self.embedder.clone();
        // Embedding is pure computation, which must not hold up other requests.
        let (vectors, codes, tokens) = tokio::task::spawn_blocking(move || {
            let vectors = embedder.embed_all(&texts, &whyrank_models::progress::Silent)?;
            let codes = match codes {
                Some(codes) if encode => codes.encode_each(vectors.view())?,
                _ => Vec::new(),
            };
            let tokens: Vec<usize> =
                texts.iter().map(|text| embedder.tokens(text)).collect::<Result<_, _>>()?;
            anyhow::Ok((vectors, codes, tokens))
        })
        .await
        .map_err(anyhow::Error::from)??;
        for (row, place) in places.into_iter().enumerate() {
            embeddings[place] = Some(match &works[place] {
                Work::Explanation(_) => codes[row].clone(),
                _ => vectors.row(row).to_vec(),
            });
            if let Some(used) = usage.models.get_mut(&inputs[place].model) {
                used.tokens += tokens[row] as u64;
            }
        }
        Ok(())
    }

    async fn user(&self, data: &UserData) -> Result<Vec<f32>, ApiError> {
        match (&data.user, &data.history) {
            (None, Some(history)) => self.reranker.vector_of_history(history).await,
            (Some(user), None) => self.reranker.vector_of_user(user).await,
            _ => Err(ApiError::new(Cause::Malformed, "give either `history` or `user`")),
        }
    }

    async fn pair(&self, data: &PairData) -> Result<Vec<f32>, ApiError> {
        let codes = self.reranker.codes_of_pair(&data.user, &data.item).await?;
        Ok(match data.side {
            Side::Positive => codes.positive,
            Side::Negative => codes.negative,
        })
    }
}

fn understand(input: &InferenceInput) -> Result<Work, String> {
    let Some(model) = InferenceModel::of_name(&input.model) else {
        let known = InferenceModel::ALL.map(InferenceModel::name).join(", ");
        return Err(format!("there is no model {:?}; there are {known}", input.model));
    };
    let text = || match &input.data {
        Value::String(text) if input.data_type == "text" => Ok(text.clone()),
        _ => Err(format!("`{}` takes a text", model.name())),
    };
    Ok(match model {
        InferenceModel::Text => Work::Text(text()?),
        InferenceModel::Explanation => Work::Explanation(text()?),
        InferenceModel::User => Work::User(object(input, model)?),
        InferenceModel::Pair => Work::Pair(object(input, model)?),
    })
}

fn object<Data: serde::de::DeserializeOwned>(
    input: &InferenceInput,
    model: InferenceModel,
) -> Result<Data, String> {
    serde_json::from_value(input.data.clone())
        .map_err(|error| format!("`{}` takes an object: {error}", model.name()))
}

/// One error that names every input at fault, if there is one.
fn refuse_if_any(faults: impl Iterator<Item = Option<String>>) -> Result<(), ApiError> {
    let named: Vec<String> = faults
        .enumerate()
        .filter_map(|(place, fault)| Some(format!("inputs[{place}]: {}", fault?)))
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    // Qdrant passes the text of a 400 on to its client, and of no other status.
    Err(ApiError::new(Cause::Malformed, named.join("; ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_bad_input_is_named() {
        let input = |data: Value, data_type: &str, model: &str| InferenceInput {
            data,
            data_type: data_type.to_owned(),
            model: model.to_owned(),
            options: None,
        };
        let inputs = [
            input(json!("fine"), "text", "whyrank/text"),
            input(json!("fine"), "text", "whyrank/none"),
            input(json!({"a": 1}), "object", "whyrank/text"),
            input(json!({"user": "1", "item": "2", "side": "up"}), "object", "whyrank/pair"),
        ];
        let faults = inputs.iter().map(|input| understand(input).err());
        let message = refuse_if_any(faults).unwrap_err().message;
        assert!(!message.contains("inputs[0]"), "{message}");
        for expected in ["inputs[1]: there is no model", "inputs[2]: `whyrank/text` takes a text"] {
            assert!(message.contains(expected), "{message}");
        }
        assert!(message.contains("inputs[3]") && message.contains("positive"), "{message}");
    }
}
