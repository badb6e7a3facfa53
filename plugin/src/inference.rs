//! Qdrant's remote-inference protocol: what a Qdrant server asks of the service that its setting
//! `inference.address` names, and what it expects back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request: things to turn into vectors. Fields of newer servers are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct InferenceRequest {
    /// What to turn into vectors.
    pub inputs: Vec<InferenceInput>,
    /// What the vectors are for: `search` or `update`.
    #[serde(default)]
    pub inference: Option<String>,
    /// The token of the server's setting `inference.token`, or of its client.
    #[serde(default)]
    pub token: Option<String>,
}

/// One thing to turn into a vector.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct InferenceInput {
    /// A text, or any JSON, as `data_type` says.
    pub data: Value,
    /// `text`, `image` or `object`.
    pub data_type: String,
    /// The model's name, as the client wrote it.
    pub model: String,
    /// What the client wrote beside it.
    #[serde(default)]
    pub options: Option<Value>,
}

/// The answer: one vector an input, in the same order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InferenceResponse {
    /// The vectors.
    pub embeddings: Vec<Vec<f32>>,
    /// What was used.
    pub usage: InferenceUsage,
}

/// What was used, by model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct InferenceUsage {
    /// By the model's name, as the client wrote it.
    pub models: BTreeMap<String, ModelUsage>,
}

/// What one model used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ModelUsage {
    /// Tokens of text that went through the network.
    pub tokens: u64,
}

/// The models that Whyrank offers under this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InferenceModel {
    /// `whyrank/text`: a text to its embedding, `[384]`.
    Text,
    /// `whyrank/explanation`: a text, read as a reason, to its latent code, `[k]`; so that a search
    /// over `positive` or `negative` finds the pairs that have such a reason.
    Explanation,
    /// `whyrank/user`: an object with a `history`, or a `user` that is stored, to a user vector, `[d]`.
    User,
    /// `whyrank/pair`: an object with `user`, `item` and `side` to that side's code, `[k]`.
    Pair,
}

impl InferenceModel {
    /// All models.
    pub const ALL: [Self; 4] = [Self::Text, Self::Explanation, Self::User, Self::Pair];

    /// The name by which clients ask for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "whyrank/text",
            Self::Explanation => "whyrank/explanation",
            Self::User => "whyrank/user",
            Self::Pair => "whyrank/pair",
        }
    }

    /// The model of this name. Qdrant passes names on in lower case or as they were written.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model| model.name().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_request_is_read_and_an_answer_has_its_form() {
        let text = r#"{"inputs":[{"data":"quiet places","data_type":"text","model":"whyrank/text",
            "options":null},{"data":{"history":[]},"data_type":"object","model":"Whyrank/User"}],
            "inference":"search","token":null,"newer":1}"#;
        let request: InferenceRequest = serde_json::from_str(text).unwrap();
        let models: Vec<_> =
            request.inputs.iter().map(|input| InferenceModel::of_name(&input.model)).collect();
        assert_eq!(models, [Some(InferenceModel::Text), Some(InferenceModel::User)]);
        let models = [("whyrank/text".to_owned(), ModelUsage { tokens: 4 })].into();
        let response =
            InferenceResponse { embeddings: vec![vec![0.5]], usage: InferenceUsage { models } };
        let expected = r#"{"embeddings":[[0.5]],"usage":{"models":{"whyrank/text":{"tokens":4}}}}"#;
        assert_eq!(serde_json::to_string(&response).unwrap(), expected);
    }
}
