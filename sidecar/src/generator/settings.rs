//! Settings of the generator, embedded in the configuration file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CleaningSettings, ForecastSettings, PromptStyle, ValidationSettings, WriterSettings};

/// What writes explanations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// A language model in this process.
    #[default]
    Mistralrs,
    /// A server with an OpenAI-compatible interface.
    #[value(name = "openai")]
    OpenAi,
    /// No language model: sentences built from the evidence.
    Template,
}

/// Everything about how explanations are written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneratorSettings {
    /// What writes.
    pub kind: GeneratorKind,
    /// Settings of `kind = "mistralrs"`.
    pub mistralrs: MistralrsSettings,
    /// Settings of `kind = "openai"`.
    pub openai: OpenAiSettings,
    /// Folder with `system.jinja`, `user.jinja`, `answer.jinja` and `examples.json`; absent takes the built-in ones.
    pub prompts: Option<PathBuf>,
    /// Whether one generation writes both sides.
    pub prompt_style: PromptStyle,
    /// How much of the untrusted text is kept.
    pub cleaning: CleaningSettings,
    /// Limits of what is accepted.
    pub validation: ValidationSettings,
    /// Attempts and sampling.
    pub writer: WriterSettings,
    /// What is asked about items.
    pub forecast: ForecastSettings,
}

/// A language model in this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MistralrsSettings {
    /// Path of a GGUF file or of a model folder, or the id of a model on the hub.
    pub model: String,
    /// Where `model` is a hub id: the GGUF file in it; absent loads the unquantised model.
    pub file: Option<String>,
    /// Where `model` is a hub id: branch, tag or commit.
    pub revision: Option<String>,
    /// Sequences that the model works on at once. Above 1, mistralrs 0.8.1 corrupts prompts of
    /// unequal length on a CPU, so a larger number is refused unless the model runs on a GPU.
    pub parallel: usize,
    /// Sequences whose beginning is kept for the next prompt, 0 for none. On a CPU mistralrs 0.8.1
    /// never evicts them, so memory grows with every pair: refused unless the model runs on a GPU.
    pub prefix_cache: usize,
    /// Whether the form of the answer is enforced while it is written.
    pub enforce_format: bool,
    /// Runs on the CPU even where a GPU could be used.
    pub force_cpu: bool,
}

impl Default for MistralrsSettings {
    fn default() -> Self {
        Self {
            model: String::new(),
            file: None,
            revision: None,
            parallel: 1,
            prefix_cache: 0,
            enforce_format: true,
            force_cpu: false,
        }
    }
}

/// A server with an OpenAI-compatible interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenAiSettings {
    /// Address up to and with `/v1`.
    pub base_url: String,
    /// Id of the model, as the server names it.
    pub model: String,
    /// File that holds the API key, read again before each request.
    pub api_key_file: Option<PathBuf>,
    /// Environment variable that holds the API key; used where there is no file. Unset or empty is no key.
    pub api_key_environment: String,
    /// Seconds until one answer must be complete, retries included.
    pub timeout_seconds: f64,
    /// Whether the token limit is sent as `max_completion_tokens`, as OpenAI's newest models want it, and not as `max_tokens`.
    pub new_token_limit: bool,
    /// Further tries when the server is busy (429), fails (5xx) or cannot be reached.
    pub retries: usize,
    /// Requests at once of a run that wants many answers; at least 1.
    pub parallel: usize,
}

impl Default for OpenAiSettings {
    fn default() -> Self {
        Self {
            base_url: "http://127.0.0.1:8080/v1".to_string(),
            model: String::new(),
            api_key_file: None,
            api_key_environment: "OPENAI_API_KEY".to_string(),
            timeout_seconds: 120.0,
            new_token_limit: false,
            retries: 3,
            parallel: 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_a_round_trip_and_unknown_keys_do_not() {
        let settings = GeneratorSettings::default();
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<GeneratorSettings>(&json).unwrap(), settings);
        assert!(serde_json::from_str::<GeneratorSettings>(r#"{"modle": 1}"#).is_err());
        assert!(serde_json::from_str::<GeneratorSettings>(r#"{"kind": "openai"}"#).is_ok());
    }
}
