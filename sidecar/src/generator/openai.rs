//! A language model behind any server with an OpenAI-compatible interface.

use std::future::{Ready, ready};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::{HttpRequestFactory, ReqwestService, retry::OpenAIRetryLayer};
use async_openai::types::chat::{
    ChatCompletionRequestAssistantMessage, ChatCompletionRequestMessage,
    ChatCompletionRequestSystemMessage, ChatCompletionRequestUserMessage,
    ChatCompletionStreamOptions, CreateChatCompletionRequest, FinishReason,
};
use async_trait::async_trait;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower::retry::Policy;

use super::error::GeneratorError;
use super::settings::OpenAiSettings;
use super::{
    Delta, Generation, GenerationOptions, Generator, GeneratorIdentity, OPENINGS, Opening, Prompt,
    Usage,
};
use whyrank_plugin::secret::Secret;

/// Statuses by which a server says that it does not take this one request.
const REFUSED: [u16; 3] = [400, 413, 422];

/// A client of one server.
pub struct OpenAiGenerator {
    /// The key that was read last, with the client that sends it.
    client: Mutex<(Secret, Client<OpenAIConfig>)>,
    identity: GeneratorIdentity,
    settings: OpenAiSettings,
}

impl OpenAiGenerator {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`GeneratorError::Setting`] for an address that is none, an unreadable key file or a limit that is no limit.
    pub fn new(settings: &OpenAiSettings) -> Result<Self, GeneratorError> {
        let refuse = |key: &'static str, reason: &str| {
            Err(GeneratorError::Setting { key, reason: reason.to_string() })
        };
        if !settings.base_url.starts_with("http://") && !settings.base_url.starts_with("https://") {
            return refuse("openai.base_url", "must begin with http:// or https://");
        }
        if settings.model.is_empty() {
            return refuse("openai.model", "is empty: name the model as the server does");
        }
        if !settings.timeout_seconds.is_finite()
            || !(0.001..=86_400.0).contains(&settings.timeout_seconds)
        {
            return refuse("openai.timeout_seconds", "must be between 0.001 and 86400");
        }
        if settings.parallel == 0 {
            return refuse("openai.parallel", "must be at least 1");
        }
        let key = api_key(settings)?;
        let identity = GeneratorIdentity {
            generator: "openai".to_string(),
            model: settings.model.clone(),
            version: settings.model.clone(),
        };
        let client = Mutex::new((key.clone(), client(settings, &key)));
        Ok(Self { client, identity, settings: settings.clone() })
    }

    /// The client with the key that the file holds now. A file at fault leaves the key before in force: the
    /// server says whether that is good.
    fn client(&self) -> Client<OpenAIConfig> {
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        match api_key(&self.settings) {
            Ok(key) if key != held.0 => {
                tracing::info!("the key of the LLM's server was read again");
                let client = client(&self.settings, &key);
                *held = (key, client);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the key that was read before stays in force"),
        }
        held.1.clone()
    }

    fn request(
        &self,
        prompt: &Prompt<'_>,
        options: &GenerationOptions,
    ) -> CreateChatCompletionRequest {
        let mut messages: Vec<ChatCompletionRequestMessage> =
            vec![ChatCompletionRequestSystemMessage::from(prompt.system.as_str()).into()];
        for example in &prompt.examples {
            messages.push(ChatCompletionRequestUserMessage::from(example.user.as_str()).into());
            messages.push(
                ChatCompletionRequestAssistantMessage::from(example.assistant.as_str()).into(),
            );
        }
        messages.push(ChatCompletionRequestUserMessage::from(prompt.user.as_str()).into());
        // `seed` and `max_tokens` are deprecated by OpenAI itself but are what other servers understand.
        #[allow(deprecated)]
        CreateChatCompletionRequest {
            messages,
            model: self.settings.model.clone(),
            temperature: Some(options.temperature as f32),
            seed: Some((options.seed & (i64::MAX as u64)) as i64),
            max_tokens: (!self.settings.new_token_limit).then_some(options.max_tokens),
            max_completion_tokens: self.settings.new_token_limit.then_some(options.max_tokens),
            logprobs: options.openings.then_some(true),
            top_logprobs: options.openings.then_some(OPENINGS),
            stream: Some(true),
            stream_options: Some(ChatCompletionStreamOptions {
                include_usage: Some(true),
                include_obfuscation: None,
            }),
            ..CreateChatCompletionRequest::default()
        }
    }

    async fn stream(
        &self,
        prompt: &Prompt<'_>,
        options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
    ) -> Result<Generation, GeneratorError> {
        let started = Instant::now();
        let failed = |error: OpenAIError| self.failure(&error);
        let mut stream = self
            .client()
            .chat()
            .create_stream(self.request(prompt, options))
            .await
            .map_err(failed)?;
        let mut generation = Generation {
            text: String::new(),
            truncated: false,
            openings: Vec::new(),
            usage: Usage::default(),
        };
        let mut first_token = None;
        let mut finished = false;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(failed)?;
            if let Some(counted) = chunk.usage {
                generation.usage.prompt_tokens = u64::from(counted.prompt_tokens);
                generation.usage.completion_tokens = u64::from(counted.completion_tokens);
            }
            let Some(choice) = chunk.choices.into_iter().next() else { continue };
            if options.openings && generation.openings.is_empty() {
                let told = choice.logprobs.and_then(|told| told.content?.into_iter().next());
                generation.openings.extend(
                    told.into_iter().flat_map(|first| first.top_logprobs).map(|one| Opening {
                        text: one.token,
                        probability: f64::from(one.logprob).exp(),
                    }),
                );
            }
            if let Some(piece) = choice.delta.content.filter(|piece| !piece.is_empty()) {
                first_token.get_or_insert_with(Instant::now);
                generation.text.push_str(&piece);
                if let Some(deltas) = &deltas {
                    deltas.send(Delta::Text(piece)).await.map_err(|_| GeneratorError::Cancelled)?;
                }
            }
            if let Some(reason) = choice.finish_reason {
                finished = true;
                generation.truncated = reason == FinishReason::Length;
            }
        }
        if !finished {
            // A connection that breaks looks like the end of the stream; half an answer is none.
            let reason = "the answer ended before it was complete".to_string();
            return Err(GeneratorError::Server { url: self.settings.base_url.clone(), reason });
        }
        let first = first_token.unwrap_or_else(Instant::now);
        generation.usage.prompt_seconds = (first - started).as_secs_f64();
        generation.usage.completion_seconds = first.elapsed().as_secs_f64();
        Ok(generation)
    }

    fn failure(&self, error: &OpenAIError) -> GeneratorError {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !reason.contains(&cause_text) {
                reason = format!("{reason}: {cause_text}");
            }
            source = cause.source();
        }
        let url = self.settings.base_url.clone();
        match error {
            OpenAIError::ApiError(answer) if REFUSED.contains(&answer.status_code.as_u16()) => {
                GeneratorError::Refused { url, reason }
            }
            _ => GeneratorError::Server { url, reason },
        }
    }
}

#[async_trait]
impl Generator for OpenAiGenerator {
    fn identity(&self) -> &GeneratorIdentity {
        &self.identity
    }

    fn parallel(&self) -> usize {
        self.settings.parallel
    }

    async fn generate(
        &self,
        prompt: &Prompt<'_>,
        options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError> {
        let seconds = self.settings.timeout_seconds;
        tokio::select! {
            // Dropping the stream closes the connection, which ends the work on the server.
            () = cancel.cancelled() => Err(GeneratorError::Cancelled),
            done = tokio::time::timeout(Duration::from_secs_f64(seconds), self.stream(prompt, options, deltas)) => {
                done.unwrap_or_else(|_| Err(GeneratorError::Timeout { url: self.settings.base_url.clone(), seconds }))
            }
        }
    }
}

fn client(settings: &OpenAiSettings, key: &Secret) -> Client<OpenAIConfig> {
    let service = ServiceBuilder::new()
        .layer(OpenAIRetryLayer::new(settings.retries))
        .retry(BrokenConnections { retries: settings.retries })
        .service(ReqwestService::default());
    let config = OpenAIConfig::default()
        .with_api_base(settings.base_url.trim_end_matches('/'))
        .with_api_key(key.expose());
    Client::with_config(config).with_http_service(service)
}

/// Asks again where a connection broke before the answer began: a server may close one that was idle at any
/// time, and the layer above tries again only where none came about.
#[derive(Clone)]
struct BrokenConnections {
    /// How often still.
    retries: usize,
}

impl<Answer> Policy<HttpRequestFactory, Answer, OpenAIError> for BrokenConnections {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut HttpRequestFactory,
        result: &mut Result<Answer, OpenAIError>,
    ) -> Option<Ready<()>> {
        let Err(OpenAIError::Reqwest(error)) = result else { return None };
        let broke = error.is_request() && !error.is_connect() && !error.is_timeout();
        self.retries = self.retries.checked_sub(1).filter(|_| broke)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &HttpRequestFactory) -> Option<HttpRequestFactory> {
        Some(request.clone())
    }
}

fn api_key(settings: &OpenAiSettings) -> Result<Secret, GeneratorError> {
    let environment = &settings.api_key_environment;
    if let Some(file) = &settings.api_key_file {
        let key = std::fs::read_to_string(file).map_err(|error| GeneratorError::Setting {
            key: "openai.api_key_file",
            reason: format!("cannot read {}: {error}", file.display()),
        })?;
        return header_safe(key.trim(), "openai.api_key_file");
    }
    let key = if environment.is_empty() {
        String::new()
    } else {
        std::env::var(environment).unwrap_or_default()
    };
    header_safe(key.trim(), "openai.api_key_environment")
}

/// A key with a character that no header may hold would panic in the client.
fn header_safe(key: &str, setting: &'static str) -> Result<Secret, GeneratorError> {
    if key.chars().all(|character| character.is_ascii_graphic()) {
        return Ok(Secret::new(key));
    }
    Err(GeneratorError::Setting {
        key: setting,
        reason: "the key has a space or a character outside ASCII".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OpenAiSettings {
        OpenAiSettings {
            model: "any".into(),
            api_key_environment: String::new(),
            ..OpenAiSettings::default()
        }
    }

    #[test]
    fn unusable_settings_are_named() {
        fn check(change: impl Fn(&mut OpenAiSettings), key: &str) {
            let mut settings = settings();
            change(&mut settings);
            let error = OpenAiGenerator::new(&settings).err().expect(key).to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(OpenAiGenerator::new(&settings()).is_ok());
        check(|settings| settings.base_url = "localhost".into(), "openai.base_url");
        check(|settings| settings.model.clear(), "openai.model");
        check(|settings| settings.timeout_seconds = f64::NAN, "openai.timeout_seconds");
        check(|settings| settings.parallel = 0, "openai.parallel");
        check(
            |settings| settings.api_key_file = Some("/nowhere/key".into()),
            "openai.api_key_file",
        );
    }

    #[tokio::test]
    async fn a_connection_that_breaks_before_the_answer_is_tried_again() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let chunk = r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"any","choices":[{"index":0,"delta":{"content":"7.2"},"finish_reason":"stop","logprobs":{"content":[{"token":"7","logprob":-0.7,"bytes":null,"top_logprobs":[{"token":"7","logprob":-0.6931472,"bytes":null}]}]}}]}"#;
            let events = format!("data: {chunk}\n\ndata: [DONE]\n\n");
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n";
            let answer = format!("{head}content-length: {}\r\n\r\n{events}", events.len());
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 16_384]).await.unwrap();
                assert!(read > 0, "a question came");
                // The first two are closed without a word.
                if connection == 2 {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    return;
                }
            }
        });
        let ask = async |retries| {
            let settings = OpenAiSettings { base_url: base_url.clone(), retries, ..settings() };
            let pair = crate::generator::clean::CleanPair::new(
                &crate::generator::PairContext::default(),
                &crate::generator::CleaningSettings::default(),
            );
            let prompt = Prompt {
                system: String::new(),
                examples: Vec::new(),
                user: "\"Alien\"".into(),
                side: crate::generator::Side::Both,
                pair: &pair,
            };
            let options = GenerationOptions { openings: true, ..GenerationOptions::default() };
            let generator = OpenAiGenerator::new(&settings).unwrap();
            generator.generate(&prompt, &options, None, CancellationToken::new()).await
        };
        let error = ask(0).await.unwrap_err();
        assert!(matches!(error, GeneratorError::Server { .. }), "{error}");
        let generation = ask(1).await.unwrap();
        assert_eq!(generation.text, "7.2");
        let [opening] = &generation.openings[..] else { panic!("{generation:?}") };
        assert!(opening.text == "7" && (opening.probability - 0.5).abs() < 1e-6, "{opening:?}");
        server.await.unwrap();
    }

    #[test]
    fn the_key_comes_from_its_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-secret\n").unwrap();
        let settings = OpenAiSettings { api_key_file: Some(file.clone()), ..settings() };
        assert_eq!(api_key(&settings).unwrap().expose(), "sk-secret");
        let generator = OpenAiGenerator::new(&settings).unwrap();
        let sent = || {
            let _ = generator.client();
            generator.client.lock().unwrap().0.clone()
        };

        std::fs::write(&file, "two words").unwrap();
        let error = api_key(&settings).unwrap_err().to_string();
        assert!(error.contains("api_key_file") && !error.contains("two words"), "{error}");
        assert_eq!(sent().expose(), "sk-secret", "the key before stays in force");

        std::fs::write(&file, "sk-new").unwrap();
        assert_eq!(sent().expose(), "sk-new");
    }
}
