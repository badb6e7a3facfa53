//! A language model in this process, run by mistral.rs.
//!
//! mistral.rs gives the model one thread of its own; requests queue for it here, not there, so that a
//! caller who leaves while waiting costs nothing.

use std::fs::File;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures::FutureExt;
use mistralrs::{
    Constraint, GgufModelBuilder, Model, ModelBuilder, RequestBuilder, Response, SamplingParams,
    TextMessageRole, TopLogprob,
};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::error::GeneratorError;
use super::sampling::SeededSampling;
use super::settings::MistralrsSettings;
use super::{
    Delta, Generation, GenerationOptions, Generator, GeneratorIdentity, OPENINGS, Opening, Prompt,
    Usage,
};

/// A loaded language model.
pub struct MistralrsGenerator {
    model: Model,
    turn: Semaphore,
    parallel: usize,
    identity: GeneratorIdentity,
    enforce_format: bool,
}

impl MistralrsGenerator {
    /// Loads the model that `settings` name; takes seconds, and downloads it if it is a hub id.
    ///
    /// # Errors
    /// [`GeneratorError::ModelMissing`], [`GeneratorError::ModelLoad`] for a damaged or unknown file,
    /// [`GeneratorError::Setting`] for a combination known to corrupt text or to fill the memory.
    pub async fn load(settings: &MistralrsSettings) -> Result<Self, GeneratorError> {
        refuse_unsafe(settings)?;
        Self::load_unchecked(settings).await
    }

    /// Loads without refusing the combinations that [`MistralrsGenerator::load`] refuses.
    pub(crate) async fn load_unchecked(
        settings: &MistralrsSettings,
    ) -> Result<Self, GeneratorError> {
        let path = PathBuf::from(&settings.model);
        let is_gguf =
            path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if is_gguf && settings.file.is_none() {
            check_gguf(&path)?;
        }
        let load_error =
            |reason: String| GeneratorError::ModelLoad { model: settings.model.clone(), reason };
        let hashed = path.clone();
        let version = tokio::task::spawn_blocking(move || {
            if is_gguf { file_version(&hashed).map(Some) } else { Ok(None) }
        });
        let wanted = settings.clone();
        let runtime = tokio::runtime::Handle::current();
        // Loading blocks for seconds, so it must not run on a thread that serves requests; and the
        // loader panics on some files that it cannot read.
        let loaded = tokio::task::spawn_blocking(move || {
            runtime.block_on(AssertUnwindSafe(build(&wanted, &path, is_gguf)).catch_unwind())
        });
        let model = match loaded.await {
            Ok(Ok(Ok(model))) => model,
            Ok(Ok(Err(error))) => return Err(load_error(format!("{error:#}"))),
            Ok(Err(panic)) => return Err(load_error(panic_text(&panic))),
            Err(error) => return Err(load_error(error.to_string())),
        };
        let version = version.await.map_err(|error| load_error(error.to_string()))?;
        let version = version.map_err(|error| load_error(error.to_string()))?;
        Ok(Self {
            model,
            turn: Semaphore::new(settings.parallel.max(1)),
            parallel: settings.parallel.max(1),
            identity: identity(settings, version),
            enforce_format: settings.enforce_format,
        })
    }
}

/// Refuses what was measured to go wrong; the tests `batched_output_equals_sequential` show it.
fn refuse_unsafe(settings: &MistralrsSettings) -> Result<(), GeneratorError> {
    let on_gpu = cfg!(feature = "cuda") && !settings.force_cpu;
    let refuse = |key: &'static str, reason: &str| {
        Err(GeneratorError::Setting { key, reason: reason.to_string() })
    };
    if settings.model.is_empty() {
        return refuse("mistralrs.model", "is empty: name a GGUF file or a hub id");
    }
    if settings.parallel == 0 {
        return refuse("mistralrs.parallel", "must be at least 1");
    }
    if settings.parallel > 1 && !on_gpu {
        return refuse(
            "mistralrs.parallel",
            "must be 1 on a CPU, where prompts of unequal length corrupt each other",
        );
    }
    if settings.prefix_cache > 0 && !on_gpu {
        return refuse(
            "mistralrs.prefix_cache",
            "must be 0 on a CPU, where kept prompts are never evicted from memory",
        );
    }
    Ok(())
}

async fn build(settings: &MistralrsSettings, path: &Path, is_gguf: bool) -> anyhow::Result<Model> {
    let prefixes = (settings.prefix_cache > 0).then_some(settings.prefix_cache);
    let gguf = match &settings.file {
        Some(file) => Some((settings.model.clone(), file.clone())),
        None if is_gguf => {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let name = path.file_name().unwrap_or_default();
            Some((folder.to_string_lossy().into_owned(), name.to_string_lossy().into_owned()))
        }
        None => None,
    };
    match gguf {
        Some((folder, file)) => {
            let mut builder = GgufModelBuilder::new(folder, vec![file])
                .with_max_num_seqs(settings.parallel)
                .with_prefix_cache_n(prefixes);
            if settings.force_cpu {
                builder = builder.with_force_cpu();
            }
            if let Some(revision) = &settings.revision {
                builder = builder.with_hf_revision(revision);
            }
            builder.build().await
        }
        None => {
            let mut builder = ModelBuilder::new(&settings.model)
                .with_max_num_seqs(settings.parallel)
                .with_prefix_cache_n(prefixes);
            if settings.force_cpu {
                builder = builder.with_force_cpu();
            }
            if let Some(revision) = &settings.revision {
                builder = builder.with_hf_revision(revision);
            }
            builder.build().await
        }
    }
}

/// A missing file or one of another kind is named before the loader sees it.
fn check_gguf(path: &Path) -> Result<(), GeneratorError> {
    let mut magic = [0; 4];
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(GeneratorError::ModelMissing { path: path.to_path_buf() });
        }
        Err(error) => {
            return Err(GeneratorError::ModelLoad {
                model: path.display().to_string(),
                reason: error.to_string(),
            });
        }
        Ok(mut file) => {
            // A file shorter than this leaves zeros, which are no magic number either.
            let _ = file.read(&mut magic);
            file
        }
    };
    if &magic != b"GGUF" {
        let reason = "it does not begin with `GGUF`".to_string();
        return Err(GeneratorError::ModelLoad { model: path.display().to_string(), reason });
    }
    super::gguf::check_header(file).map_err(|error| GeneratorError::ModelLoad {
        model: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn file_version(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn identity(settings: &MistralrsSettings, version: Option<String>) -> GeneratorIdentity {
    let stem =
        Path::new(&settings.model).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let revision = settings.revision.as_deref().unwrap_or("main");
    let file = settings.file.as_deref().unwrap_or_default();
    GeneratorIdentity {
        generator: "mistralrs".to_string(),
        model: if version.is_some() { stem } else { settings.model.clone() },
        version: version.unwrap_or_else(|| format!("{}@{revision}/{file}", settings.model)),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the loader panicked").to_string()
}

#[async_trait]
impl Generator for MistralrsGenerator {
    fn identity(&self) -> &GeneratorIdentity {
        &self.identity
    }

    fn parallel(&self) -> usize {
        self.parallel
    }

    async fn generate(
        &self,
        prompt: &Prompt<'_>,
        options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError> {
        let _turn = tokio::select! {
            turn = self.turn.acquire() => turn.map_err(|error| GeneratorError::Model(error.to_string()))?,
            () = cancel.cancelled() => return Err(GeneratorError::Cancelled),
        };
        let started = Instant::now();
        let request = self.request(prompt, options);
        let failed = |error: mistralrs::error::Error| GeneratorError::Model(error.to_string());
        let mut stream = self.model.stream_chat_request(request).await.map_err(failed)?;
        let mut text = String::new();
        let mut first_token = None;
        let mut openings = Vec::new();
        loop {
            // Dropping the stream makes the engine end the sequence at its next token.
            let response = tokio::select! {
                response = stream.next() => response,
                () = cancel.cancelled() => return Err(GeneratorError::Cancelled),
            };
            let chunk = match response {
                Some(Response::Chunk(chunk)) => chunk,
                Some(other) => return Err(GeneratorError::Model(unexpected(other))),
                None => {
                    return Err(GeneratorError::Model(
                        "the engine ended without finishing its answer".to_string(),
                    ));
                }
            };
            let first = *first_token.get_or_insert_with(Instant::now);
            let Some(choice) = chunk.choices.into_iter().next() else { continue };
            if options.openings && openings.is_empty() {
                openings =
                    choice.logprobs.map(|told| probable(told.top_logprobs)).unwrap_or_default();
            }
            let (piece, finish) = (choice.delta.content, choice.finish_reason);
            if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
                text.push_str(&piece);
                if let Some(deltas) = &deltas {
                    // A reader that reads no more must not hold the LLM up.
                    tokio::select! {
                        sent = deltas.send(Delta::Text(piece)) => {
                            sent.map_err(|_| GeneratorError::Cancelled)?;
                        }
                        () = cancel.cancelled() => return Err(GeneratorError::Cancelled),
                    }
                }
            }
            if let Some(finish) = finish {
                let counted = chunk.usage.unwrap_or_else(no_usage);
                return Ok(Generation {
                    text,
                    truncated: finish == "length",
                    openings,
                    usage: Usage {
                        prompt_tokens: counted.prompt_tokens as u64,
                        completion_tokens: counted.completion_tokens as u64,
                        prompt_seconds: (first - started).as_secs_f64(),
                        completion_seconds: first.elapsed().as_secs_f64(),
                    },
                });
            }
        }
    }
}

impl MistralrsGenerator {
    fn request(&self, prompt: &Prompt<'_>, options: &GenerationOptions) -> RequestBuilder {
        let mut request =
            RequestBuilder::new().add_message(TextMessageRole::System, &prompt.system);
        for example in &prompt.examples {
            request = request
                .add_message(TextMessageRole::User, &example.user)
                .add_message(TextMessageRole::Assistant, &example.assistant);
        }
        request =
            request.add_message(TextMessageRole::User, &prompt.user).set_sampling(SamplingParams {
                // The engine always takes the most probable token: sampling, if any, is done before it. But
                // mistralrs 0.8.1 knows probabilities only where it samples itself.
                temperature: Some(if options.openings { 1.0 } else { 0.0 }),
                max_len: Some(options.max_tokens as usize),
                ..SamplingParams::neutral()
            });
        if options.openings {
            request = request.return_logprobs(true).set_sampler_topn_logprobs(OPENINGS.into());
        } else if options.temperature > 0.0 {
            request = request.add_logits_processor(Arc::new(SeededSampling {
                seed: options.seed,
                temperature: options.temperature,
                min_probability: options.min_probability,
            }));
        }
        match &options.pattern {
            Some(pattern) if self.enforce_format && !options.openings => {
                request.set_constraint(Constraint::Regex(pattern.clone()))
            }
            _ => request,
        }
    }
}

/// The tokens beside which the engine took its first one. Its logarithms have the base 10.
fn probable(tokens: Vec<TopLogprob>) -> Vec<Opening> {
    let opening = |token: TopLogprob| {
        Some(Opening { text: token.bytes?, probability: 10_f64.powf(f64::from(token.logprob)) })
    };
    tokens.into_iter().filter_map(opening).collect()
}

fn unexpected(response: Response) -> String {
    match response.as_result() {
        Err(error) => error.to_string(),
        Ok(_) => "the engine sent an answer of an unexpected kind".to_string(),
    }
}

fn no_usage() -> mistralrs::Usage {
    mistralrs::Usage {
        completion_tokens: 0,
        prompt_tokens: 0,
        total_tokens: 0,
        avg_tok_per_sec: 0.0,
        avg_prompt_tok_per_sec: 0.0,
        avg_compl_tok_per_sec: 0.0,
        total_time_sec: 0.0,
        total_prompt_time_sec: 0.0,
        total_completion_time_sec: 0.0,
    }
}
