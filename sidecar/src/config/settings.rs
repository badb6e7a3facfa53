//! All settings with their defaults. What belongs to one part of the program is defined there and
//! only gathered here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whyrank_models::autoencoder::AutoencoderSettings;
use whyrank_models::explainer::ExplainerSettings;
use whyrank_models::factorisation::FactorisationSettings;
use whyrank_models::ranker::RankerSettings;
use whyrank_models::taste::TasteSettings;
use whyrank_models::text::TextSettings;
use whyrank_models::weights::{FetchSettings, Manifest, Weights};
use whyrank_plugin::KeyLimits;
use whyrank_plugin::gateway::GatewaySettings;
use whyrank_plugin::secret::Secret;
use whyrank_plugin::serving::{ConnectionSettings, TlsFiles};

use crate::access::AccessKey;
use crate::artifacts::ArtifactPaths;
use crate::audience::AudienceSettings;
use crate::evaluation::EvaluationSettings;
use crate::evidence::EvidenceSettings;
use crate::features::RatingScale;
use crate::generate::GenerateSettings;
use crate::generator::GeneratorSettings;
use crate::http::ConsoleSettings;
use crate::import::ImportSettings;
use crate::insights::InsightsSettings;
use crate::interactions::InteractionSettings;
use crate::queue::QueueSettings;
use crate::rerank::RerankSettings;
use crate::split::SplitSettings;
use crate::storage::StoreSettings;
use crate::telemetry::ObservabilitySettings;
use crate::versions::{ModelFolder, ModelSettings};

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The folder of the trained models.
    pub models_folder: PathBuf,
    /// How versions of the trained models are kept and switched.
    pub models: ModelSettings,
    /// Where fetched weights lie and how they are fetched.
    pub weights: WeightsSettings,
    /// The collections and the engine that holds them.
    pub store: StoreSettings,
    /// What is imported from which files.
    pub import: ImportSettings,
    /// What ratings mean.
    pub ratings: RatingSettings,
    /// How interactions are divided in time.
    pub split: SplitSettings,
    /// What an explanation stands on.
    pub evidence: EvidenceSettings,
    /// Text embedding.
    pub text: TextSettings,
    /// User and item vectors.
    pub vectors: VectorSettings,
    /// Text embedding to explanation code.
    pub autoencoder: AutoencoderSettings,
    /// Codes of pairs that nothing is written for.
    pub explainer: ExplainerSettings,
    /// The ranker.
    pub ranker: RankerSettings,
    /// Limits of training.
    pub training: TrainingLimits,
    /// The LLM and its prompts.
    pub generator: GeneratorSettings,
    /// Runs that write explanations.
    pub generate: GenerateSettings,
    /// The rerank pipeline.
    pub rerank: RerankSettings,
    /// Audiences of items and campaigns.
    pub audience: AudienceSettings,
    /// Insights into items.
    pub insights: InsightsSettings,
    /// Work that waits for the LLM.
    pub queue: QueueSettings,
    /// Interactions that come one at a time.
    pub interactions: InteractionSettings,
    /// The HTTP server.
    pub server: ServerSettings,
    /// The gateway on Qdrant's own protocol.
    pub gateway: GatewaySettings,
    /// The log and traces.
    pub observability: ObservabilitySettings,
    /// Comparisons on held-back pairs.
    pub evaluation: EvaluationSettings,
    /// The demonstration.
    pub demo: DemoSettings,
    /// The file that was read, to be read again; no setting of its own.
    #[serde(skip)]
    pub source: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models_folder: PathBuf::from("whyrank-models"),
            models: ModelSettings::default(),
            weights: WeightsSettings::default(),
            store: StoreSettings::default(),
            import: ImportSettings::default(),
            ratings: RatingSettings::default(),
            split: SplitSettings::default(),
            evidence: EvidenceSettings::default(),
            text: TextSettings::default(),
            vectors: VectorSettings::default(),
            autoencoder: AutoencoderSettings::default(),
            explainer: ExplainerSettings::default(),
            ranker: RankerSettings::default(),
            training: TrainingLimits::default(),
            generator: GeneratorSettings::default(),
            generate: GenerateSettings::default(),
            rerank: RerankSettings::default(),
            audience: AudienceSettings::default(),
            insights: InsightsSettings::default(),
            queue: QueueSettings::default(),
            interactions: InteractionSettings::default(),
            server: ServerSettings::default(),
            gateway: GatewaySettings::default(),
            observability: ObservabilitySettings::default(),
            evaluation: EvaluationSettings::default(),
            demo: DemoSettings::default(),
            source: None,
        }
    }
}

impl Settings {
    /// The folder of the trained models and their versions.
    pub fn model_folder(&self) -> ModelFolder {
        ModelFolder::new(&self.models_folder)
    }

    /// The files of the live models.
    ///
    /// # Errors
    /// When it cannot be told which are live.
    pub fn live_models(&self) -> anyhow::Result<ArtifactPaths> {
        self.model_folder().live()
    }

    /// What ratings mean.
    pub fn rating_scale(&self) -> RatingScale {
        RatingScale {
            like_from: self.ratings.like_from,
            dislike_to: self.ratings.dislike_to,
            possible: [self.import.rating_minimum, self.import.rating_maximum],
        }
    }

    /// The configured weights folder with the manifest in force.
    ///
    /// # Errors
    /// When the manifest cannot be read, or there is no folder to put weights into.
    pub fn open_weights(&self) -> Result<Weights, whyrank_models::weights::WeightsError> {
        let manifest = match &self.weights.manifest {
            Some(path) => Manifest::read(path)?,
            None => Manifest::embedded(),
        };
        let folder = match &self.weights.folder {
            Some(folder) => folder.clone(),
            None => whyrank_models::weights::folder()?,
        };
        Ok(Weights { manifest, folder })
    }
}

/// Where fetched weights lie and how they are fetched.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsSettings {
    /// The folder; absent means `WHYRANK_WEIGHTS`, else the user's cache folder.
    pub folder: Option<PathBuf>,
    /// A manifest in place of the built-in one.
    pub manifest: Option<PathBuf>,
    /// How packages are downloaded.
    pub fetch: FetchSettings,
}

/// What ratings mean in the data at hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatingSettings {
    /// A rating from here on is a like.
    pub like_from: f32,
    /// A rating up to here is a dislike.
    pub dislike_to: f32,
}

impl Default for RatingSettings {
    fn default() -> Self {
        Self { like_from: 4.0, dislike_to: 2.0 }
    }
}

/// Where user and item vectors come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorSettings {
    /// Learned here, or brought by the search team.
    pub source: VectorSource,
    /// How they are learned; of brought vectors only `dimension` and what fold-in needs count.
    pub factorisation: FactorisationSettings,
    /// How consumers' tastes are told from their ratings.
    pub taste: TasteSettings,
}

/// Where user and item vectors come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorSource {
    /// Learned from the interactions.
    #[default]
    Learned,
    /// Read from the columns that `import` names.
    Imported,
}

/// Limits of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingLimits {
    /// Rated pairs that the ranker learns from and is stopped by, at most.
    pub maximum_pairs: usize,
    /// Text embeddings that one training run keeps in memory, so that no stage computes them again;
    /// each takes 1.5 kB and its text.
    pub embedding_cache: usize,
}

impl Default for TrainingLimits {
    fn default() -> Self {
        Self { maximum_pairs: 50_000, embedding_cache: 100_000 }
    }
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// Address and port; port 0 takes a free one.
    pub address: String,
    /// The largest request body in bytes.
    pub maximum_body_bytes: usize,
    /// The most bytes of all request bodies in hand; more are refused with 429.
    pub maximum_buffered_bytes: usize,
    /// Seconds that a request body may take to arrive.
    pub body_seconds: u64,
    /// Requests answered at the same time; more are refused with 429.
    pub maximum_requests: usize,
    /// Seconds after which a request that does not wait for an LLM is given up.
    pub timeout_seconds: u64,
    /// Seconds that a caller may wait for an explanation to be written.
    pub write_timeout_seconds: u64,
    /// Seconds that requests in hand have to end when the server is stopped.
    pub grace_seconds: u64,
    /// The most inputs of one inference request of a Qdrant server.
    pub maximum_inference_inputs: usize,
    /// What a Qdrant server must send as its `inference.token`; absent lets all in.
    pub inference_token: Option<Secret>,
    /// A file with that token, read again while serving, as keys are; instead of `inference_token`.
    pub inference_token_file: Option<PathBuf>,
    /// Keys that callers must have; none lets all in. `whyrank key` makes them.
    pub keys: Vec<AccessKey>,
    /// A file with further keys, as `[[keys]]` tables; read again while serving, as `keys` are.
    pub keys_file: Option<PathBuf>,
    /// What a key may ask for, unless it has `limits` of its own.
    pub key_limits: KeyLimits,
    /// The server's certificate chain (PEM); with it and the key the server speaks TLS.
    pub certificate: Option<PathBuf>,
    /// The key of the certificate (PEM).
    pub certificate_key: Option<PathBuf>,
    /// The authorities of the clients' certificates (PEM); with them a client without such a certificate
    /// is refused.
    pub client_certificate_authority: Option<PathBuf>,
    /// A further address and port for health and metrics alone, without TLS, for probes that have no
    /// certificate; absent opens none.
    pub health_address: Option<String>,
    /// Characters of what was asked, query and body, that the audit log keeps of each request; 0 keeps
    /// only the path.
    pub audit_characters: usize,
    /// Seconds between looks at the files of keys and certificates; changed ones are read again. 0 waits
    /// for the signal SIGHUP.
    pub reload_seconds: u64,
    /// How long connections may keep a listener waiting, the gateway's too.
    pub connections: ConnectionSettings,
    /// The console under `/console`.
    pub console: ConsoleSettings,
    /// What was read from `keys_file`; no setting of its own.
    #[serde(skip)]
    pub keys_read: Vec<AccessKey>,
}

impl ServerSettings {
    /// All keys, those of the file included.
    pub fn all_keys(&self) -> Vec<AccessKey> {
        self.keys.iter().chain(&self.keys_read).cloned().collect()
    }

    /// The files of the server's own TLS, if it has any.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        TlsFiles::named(
            self.certificate.as_ref(),
            self.certificate_key.as_ref(),
            self.client_certificate_authority.as_ref(),
        )
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:6380".to_owned(),
            maximum_body_bytes: 1 << 20,
            maximum_buffered_bytes: 256 << 20,
            body_seconds: 10,
            maximum_requests: 256,
            timeout_seconds: 10,
            write_timeout_seconds: 120,
            grace_seconds: 10,
            maximum_inference_inputs: 256,
            inference_token: None,
            inference_token_file: None,
            keys: Vec::new(),
            keys_file: None,
            key_limits: KeyLimits::default(),
            certificate: None,
            certificate_key: None,
            client_certificate_authority: None,
            health_address: None,
            audit_characters: 2_000,
            reload_seconds: 30,
            connections: ConnectionSettings::default(),
            console: ConsoleSettings::default(),
            keys_read: Vec::new(),
        }
    }
}

/// The demonstration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DemoSettings {
    /// The consumer whose recommendations are shown.
    pub user: String,
    /// Rated pairs that the evidence template writes about, to learn codes from.
    pub template_pairs: usize,
    /// Rated pairs that the LLM writes about at most, to learn codes from.
    pub llm_pairs: usize,
    /// Seconds after which the LLM begins no further rated pair.
    pub llm_seconds: u64,
    /// Rows of the table.
    pub rows: usize,
}

impl Default for DemoSettings {
    fn default() -> Self {
        Self {
            user: "196".to_owned(),
            template_pairs: 1_500,
            llm_pairs: 12,
            llm_seconds: 60,
            rows: 6,
        }
    }
}
