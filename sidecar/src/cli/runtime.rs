//! Puts the parts of a process together from the settings: store, models, LLM.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use whyrank_models::factorisation::Factorisation;
use whyrank_models::text::TextEmbedder;
use whyrank_models::weights::Weights;
use whyrank_plugin::gateway::{Gateway, GatewayParts, GatewayRules, Upstream};
use whyrank_plugin::listener::Listener;

use crate::artifacts::{RerankModels, if_present, load_encoder};
use crate::audience::Audiences;
use crate::cold_start::ColdStart;
use crate::config::{Settings, VectorSource};
use crate::generator::{self, GeneratorKind, GeneratorSettings, Writer};
use crate::insights::Insights;
use crate::interactions::{InteractionParts, Interactions};
use crate::metrics::Metrics;
use crate::queue::{Jobs, MissingPairs};
use crate::rerank::{Reranker, RerankerParts};
use crate::staleness::Freshness;
use crate::storage::{Backend, Storage};
use crate::versions::{self, Dimensions, Golden, Manifest, ModelKeeper, Verified};
use crate::writing::{CodeMaker, PairWriter};

/// Begins the path of a model that `whyrank fetch` has put into the weights folder.
pub(super) const WEIGHTS_PREFIX: &str = "weights:";

/// What commands are made of.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) settings: Arc<Settings>,
    pub(super) storage: Storage,
    pub(super) weights: Weights,
    pub(super) metrics: Metrics,
    /// Id and manifest of the version that the reranker was made of.
    loaded: Arc<Mutex<Option<(String, Manifest)>>>,
}

impl Runtime {
    /// Opens the store and makes or checks its collections.
    pub(super) async fn open(settings: Settings) -> Result<Self> {
        let weights = settings.open_weights()?;
        let storage = Storage::open(&settings.store).await?;
        let dimension = settings.vectors.factorisation.dimension;
        storage.ensure(dimension, settings.autoencoder.code).await?;
        let metrics = Metrics::new()?;
        let loaded = Arc::default();
        Ok(Self { settings: Arc::new(settings), storage, weights, metrics, loaded })
    }

    pub(super) fn embedder(&self) -> Result<Arc<TextEmbedder>> {
        Ok(Arc::new(TextEmbedder::load(&self.weights, self.settings.text.clone())?))
    }

    /// The reranker with whatever models are trained already; a model file that is there and does
    /// not fit is an error.
    pub(super) async fn reranker(
        &self,
        embedder: &Arc<TextEmbedder>,
        missing: Option<MissingPairs>,
        freshness: Freshness,
    ) -> Result<Reranker> {
        let settings = &self.settings;
        let paths = settings.live_models()?;
        let dimension = settings.vectors.factorisation.dimension;
        let code = settings.autoencoder.code;
        let Verified { manifest, rerank: models, .. } =
            versions::verify(&paths, Dimensions::of(settings))?;
        if manifest.is_none() && models.is_some() {
            tracing::warn!(
                "the models in {} are of no version, so that damage to them is not noticed; \
                 `whyrank models adopt` makes a version of them",
                paths.folder().display()
            );
        }
        let loaded = paths.version().map(str::to_owned).zip(manifest);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        if let Some(models) = &models {
            versions::tell(&self.metrics, models);
        }
        let cold_start = match settings.vectors.source {
            VectorSource::Learned => if_present(&paths.factorisation(), || {
                let factorisation = Factorisation::load(&paths.factorisation(), dimension)?;
                Ok(ColdStart::learned(factorisation, embedder.clone(), &settings.vectors))
            })?,
            VectorSource::Imported => {
                let items = self.storage.all_items().await?;
                let vectors: Vec<_> = items.into_iter().filter_map(|item| item.vector).collect();
                Some(ColdStart::brought(&vectors, &settings.vectors)?)
            }
        };
        Ok(Reranker::new(RerankerParts {
            storage: self.storage.clone(),
            settings: settings.rerank.clone(),
            scale: settings.rating_scale(),
            code_dimension: code,
            models: models.map(Arc::new),
            cold_start: cold_start.map(Arc::new),
            missing,
            freshness,
            metrics: self.metrics.clone(),
        }))
    }

    /// The same reranker with what `models.shadow` and `models.feature_log` ask for. A candidate that
    /// cannot be used is told and left out: it must not keep the live models from answering.
    pub(super) fn observed(&self, reranker: Reranker) -> Result<Reranker> {
        let settings = &self.settings.models;
        let candidate = settings.shadow.as_ref().and_then(|version| {
            self.candidate(version)
                .inspect_err(|error| {
                    self.metrics.model_switches.with_label_values(&["refused"]).inc();
                    tracing::error!(
                        "version {version} (`models.shadow`) shadows nothing: {error:#}"
                    );
                })
                .ok()
        });
        reranker.observed(settings, candidate)
    }

    fn candidate(&self, version: &str) -> Result<RerankModels> {
        let settings = &self.settings;
        let verified = settings.model_folder().verify(version, Dimensions::of(settings))?;
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fits = loaded
            .zip(verified.manifest)
            .is_some_and(|((_, live), candidate)| live.same_store(&candidate));
        ensure!(
            fits,
            "its vectors or codes are not those of the live version, which the store holds"
        );
        verified.rerank.context("it has no ranker")
    }

    /// What switches the models of this reranker.
    pub(super) fn keeper(&self, reranker: &Reranker) -> ModelKeeper {
        let settings = &self.settings;
        ModelKeeper::new(
            settings.model_folder(),
            settings.models.clone(),
            Dimensions::of(settings),
            reranker.live_models().clone(),
            self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            self.metrics.clone(),
        )
    }

    /// The queue of pairs in the store.
    pub(super) fn jobs(&self) -> Jobs {
        Jobs::new(self.storage.clone(), self.settings.queue.clone(), self.metrics.clone())
    }

    /// What takes in interactions, with the reranker's vector model.
    pub(super) fn interactions(
        &self,
        reranker: &Reranker,
        embedder: &Arc<TextEmbedder>,
        jobs: Jobs,
    ) -> Interactions {
        Interactions::new(InteractionParts {
            settings: self.settings.interactions.clone(),
            import: self.settings.import.clone(),
            scale: self.settings.rating_scale(),
            learned_ratings: reranker.learned_ratings(),
            storage: self.storage.clone(),
            cold_start: reranker.vectors_of_histories(),
            embedder: embedder.clone(),
            jobs,
            metrics: self.metrics.clone(),
        })
    }

    /// The gateway in front of the store's server, or of the embedded engine.
    pub(super) fn gateway(&self, reranker: Reranker) -> Result<Gateway> {
        let Settings { store, gateway, rerank, .. } = self.settings.as_ref();
        let upstream = match store.backend {
            Backend::Embedded => {
                let listener = Listener::new(self.storage.engine().clone(), store.listener.clone());
                Upstream::in_process(listener.rest(), listener.grpc())
            }
            Backend::Server => {
                let grpc = gateway.upstream_grpc.as_ref().unwrap_or(&store.server.url);
                Upstream::server(gateway, grpc)?
            }
        };
        Ok(Gateway::new(GatewayParts {
            settings: gateway.clone(),
            rules: GatewayRules {
                items: store.items.clone(),
                users: store.users.clone(),
                candidates: rerank.candidates,
                maximum_candidates: rerank.maximum_candidates,
            },
            upstream,
            reranker: Arc::new(reranker),
            observer: Arc::new(self.metrics.clone()),
        }))
    }

    /// What turns texts into codes, if the autoencoder is trained.
    pub(super) fn codes(&self, embedder: &Arc<TextEmbedder>) -> Result<Option<CodeMaker>> {
        let paths = self.settings.live_models()?;
        let code = self.settings.autoencoder.code;
        let versioned = versions::check_files(&paths)?.is_some();
        let encoder = if_present(&paths.encoder(), || {
            let encoder = load_encoder(&paths, embedder.dimension(), code)?;
            if versioned {
                Golden::read(&paths)?.check_encoder(&encoder, &paths.encoder())?;
            }
            Ok(encoder)
        })?;
        Ok(encoder.map(|encoder| CodeMaker::new(embedder.clone(), encoder)))
    }

    /// What answers for audiences, with the reranker's models.
    pub(super) fn audiences(
        &self,
        reranker: Reranker,
        embedder: &Arc<TextEmbedder>,
    ) -> Result<Audiences> {
        let settings = self.settings.audience.clone();
        Ok(Audiences::new(reranker, self.storage.clone(), self.codes(embedder)?, settings))
    }

    /// What answers questions about items, with the reranker's models.
    pub(super) fn insights(&self, reranker: Reranker) -> Insights {
        Insights::new(reranker, self.storage.clone(), self.settings.insights.clone())
    }

    /// What writes explanations: the configured generator, or another kind of it.
    pub(super) async fn writer(
        &self,
        kind: Option<GeneratorKind>,
        codes: Option<CodeMaker>,
    ) -> Result<PairWriter> {
        let settings = generator_settings(&self.settings, &self.weights, kind)?;
        let generator = generator::build(&settings).await.context("preparing the generator")?;
        let writer = Arc::new(Writer::from_settings(generator, &settings)?);
        Ok(PairWriter::new(
            self.storage.clone(),
            self.settings.evidence.clone(),
            self.settings.rating_scale(),
            writer,
            codes,
            self.metrics.clone(),
        ))
    }

    /// Flushes and releases the store.
    pub(super) async fn close(self) -> Result<()> {
        Ok(self.storage.store().close().await?)
    }
}

/// The generator's settings, of another kind if one is asked for, with `weights:NAME` replaced by the path
/// of the fetched file.
pub(super) fn generator_settings(
    settings: &Settings,
    weights: &Weights,
    kind: Option<GeneratorKind>,
) -> Result<GeneratorSettings> {
    let mut settings = settings.generator.clone();
    settings.kind = kind.unwrap_or(settings.kind);
    if let Some(name) = settings.mistralrs.model.strip_prefix(WEIGHTS_PREFIX) {
        let artifact = weights.manifest.artifact(name)?;
        let file = artifact.files.iter().find(|file| file.name.ends_with(".gguf"));
        let file = file.with_context(|| format!("the artifact `{name}` holds no GGUF file"))?;
        // Only a generator that loads it needs the file to be there.
        if settings.kind == GeneratorKind::Mistralrs {
            let path = weights.require(name, &file.name)?;
            settings.mistralrs.model = path.display().to_string();
        }
    }
    Ok(settings)
}
