//! Writes the explanation of a pair into the store: evidence, prompt, LLM, validation, codes. What is
//! written for the same profile, prompt and model version is never written again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ndarray::ArrayView2;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use whyrank_models::autoencoder::Encoder;
use whyrank_models::progress::Silent;
use whyrank_models::text::TextEmbedder;
use whyrank_plugin::{
    Code, Codes, Explanation, ExplanationRecord, ItemRecord, Provenance, Source, UserRecord,
};

use crate::archive::{ArchivedText, TextArchive};
use crate::artifacts;
use crate::evidence::{EvidenceSettings, pair_context};
use crate::features::RatingScale;
use crate::generator::{self, Delta, ForecastSettings, Forecaster, Review, Usage, Writer, Written};
use crate::metrics::Metrics;
use crate::spans;
use crate::staleness::{self, Versions};
use crate::storage::Storage;

/// Turns explanation texts into codes.
#[derive(Debug, Clone)]
pub struct CodeMaker {
    embedder: Arc<TextEmbedder>,
    encoder: Arc<Encoder>,
    version: String,
}

impl CodeMaker {
    /// Puts text embedding and encoder together.
    pub fn new(embedder: Arc<TextEmbedder>, encoder: Encoder) -> Self {
        let version = artifacts::version(encoder.contract());
        Self { embedder, encoder: Arc::new(encoder), version }
    }

    /// The version of the encoder, as explanation records carry it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The codes of both sides of each explanation, in order.
    ///
    /// # Errors
    /// When embedding or encoding fails.
    pub fn codes(&self, explanations: &[&Explanation]) -> Result<Vec<Codes>> {
        let texts: Vec<&str> = explanations
            .iter()
            .flat_map(|explanation| [explanation.positive.as_str(), explanation.negative.as_str()])
            .collect();
        self.encode(self.embedder.embed_all(&texts, &Silent)?.view())
    }

    /// The code of one text.
    ///
    /// # Errors
    /// When embedding or encoding fails.
    pub fn code_of_text(&self, text: &str) -> Result<Code> {
        let embedding = self.embedder.embed_all(&[text], &Silent)?;
        self.encode_each(embedding.view())?.pop().context("a text has one code")
    }

    /// The code of each text that is embedded already, `[n, 384]`.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn encode_each(&self, embeddings: ArrayView2<'_, f32>) -> Result<Vec<Code>> {
        let codes = self.encoder.encode(embeddings)?;
        Ok(codes.rows().into_iter().map(|code| code.to_vec()).collect())
    }

    /// The codes of explanations whose texts are embedded already: `[2 n, 384]`, the positive and the
    /// negative text of each in turn.
    ///
    /// # Errors
    /// When encoding fails.
    pub fn encode(&self, embeddings: ArrayView2<'_, f32>) -> Result<Vec<Codes>> {
        let codes = self.encoder.encode(embeddings)?;
        let row = |place: usize| codes.row(place).to_vec();
        Ok((0..codes.nrows() / 2)
            .map(|place| Codes { positive: row(2 * place), negative: row(2 * place + 1) })
            .collect())
    }
}

/// What became of one pair.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The explanation as it is in the store now.
    pub record: ExplanationRecord,
    /// True if it was there already and current.
    pub reused: bool,
    /// What the LLM spent on it; nothing if it was reused.
    pub usage: Usage,
    /// Why attempts were refused.
    pub refusals: usize,
}

impl Outcome {
    /// The pair was written already.
    fn reused(record: ExplanationRecord) -> Self {
        Self { record, reused: true, usage: Usage::default(), refusals: 0 }
    }
}

/// Writes explanations of pairs, one at a time.
#[derive(Clone)]
pub struct PairWriter {
    storage: Storage,
    evidence: EvidenceSettings,
    scale: RatingScale,
    writer: Arc<Writer>,
    codes: Option<CodeMaker>,
    metrics: Metrics,
    /// With the digest of what is told from.
    archive: Option<(Arc<TextArchive>, String)>,
}

impl std::fmt::Debug for PairWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PairWriter").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// One pair to write about.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The consumer.
    pub user: &'a UserRecord,
    /// The item.
    pub item: &'a ItemRecord,
    /// The pair's own time, if it was rated: nothing from then on may be told.
    pub before: Option<i64>,
}

impl PairWriter {
    /// A writer into this store. Without `codes` the texts are stored and encoded later by `index`.
    pub fn new(
        storage: Storage,
        evidence: EvidenceSettings,
        scale: RatingScale,
        writer: Arc<Writer>,
        codes: Option<CodeMaker>,
        metrics: Metrics,
    ) -> Self {
        Self { storage, evidence, scale, writer, codes, metrics, archive: None }
    }

    /// The same writer, encoding with other codes.
    pub fn with_codes(&self, codes: CodeMaker) -> Self {
        Self { codes: Some(codes), ..self.clone() }
    }

    /// The same writer, which looks into `archive` before it asks an LLM, and adds what it writes. `part` is the
    /// digest of all that it is told from: a text of the same part is taken, though other vectors chose its evidence.
    pub fn with_archive(&self, archive: Arc<TextArchive>, part: String) -> Self {
        Self { archive: Some((archive, part)), ..self.clone() }
    }

    /// What the template says of the pair. Nothing is stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn template(&self, pair: Pair<'_>) -> Result<Explanation> {
        let Pair { user, item, before } = pair;
        let (evidence, scale) = (&self.evidence, self.scale);
        let context = pair_context(&self.storage, evidence, scale, user, item, before).await?;
        let generator::Explanation { positive, negative } = self.writer.template(&context);
        Ok(Explanation { positive, negative })
    }

    /// Holds a written explanation against what its writer was told; nothing if that has changed since.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn review(
        &self,
        pair: Pair<'_>,
        record: &ExplanationRecord,
    ) -> Result<Option<Review>> {
        let Pair { user, item, before } = pair;
        let (evidence, scale) = (&self.evidence, self.scale);
        let context = pair_context(&self.storage, evidence, scale, user, item, before).await?;
        if self.writer.profile_version(&context) != record.provenance.profile_version {
            return Ok(None);
        }
        let Explanation { positive, negative } = record.explanation.clone();
        let explanation = generator::Explanation { positive, negative };
        Ok(Some(self.writer.review(&context, &explanation)))
    }

    /// How many pairs should be written at once by who wants many.
    pub fn parallel(&self) -> usize {
        self.writer.parallel()
    }

    /// Foresees ratings of items with the same LLM.
    ///
    /// # Errors
    /// When there is none, or the settings are no question.
    pub fn forecaster(&self, settings: &ForecastSettings) -> Result<Forecaster> {
        Ok(self.writer.forecaster(settings)?)
    }

    /// What explanations are written with now.
    pub fn versions(&self) -> Versions {
        let (generator, prompt_version) = (self.generator_name(), self.writer.prompt_version());
        Versions { generator, prompt_version: prompt_version.to_owned() }
    }

    /// Writes the pair's explanation, or finds that it is written.
    ///
    /// # Errors
    /// When the store or the generator fails, or `cancel` fires.
    pub async fn write(
        &self,
        pair: Pair<'_>,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
    ) -> Result<Outcome> {
        let outcome = self.write_if(pair, deltas, cancel, async { Ok(true) }).await?;
        outcome.context("the text was dropped")
    }

    /// The same for a worker that may have lost the pair to another meanwhile: the text is stored only
    /// if `holds` says so when it is finished, and dropped (`None`) if not.
    ///
    /// # Errors
    /// When the store or the generator fails, or `cancel` fires.
    pub async fn write_if(
        &self,
        pair: Pair<'_>,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
        holds: impl Future<Output = Result<bool>> + Send,
    ) -> Result<Option<Outcome>> {
        let span = spans::writing();
        let outcome = self.written(pair, deltas, cancel, holds).instrument(span.clone()).await;
        let ended = match &outcome {
            Ok(Some(outcome)) if outcome.reused => "current",
            Ok(Some(_)) => "written",
            Ok(None) => "dropped",
            Err(_) => "failed",
        };
        span.record("outcome", ended);
        outcome
    }

    async fn written(
        &self,
        pair: Pair<'_>,
        deltas: Option<mpsc::Sender<Delta>>,
        cancel: CancellationToken,
        holds: impl Future<Output = Result<bool>> + Send,
    ) -> Result<Option<Outcome>> {
        let Pair { user, item, before } = pair;
        let (evidence, scale) = (&self.evidence, self.scale);
        let context = pair_context(&self.storage, evidence, scale, user, item, before).await?;
        let profile_version = self.writer.profile_version(&context);
        let current = self.current(pair, &profile_version).await?;
        let looked_up = if current.is_some() { "hit" } else { "miss" };
        self.metrics.explanation_lookups.with_label_values(&[looked_up]).inc();
        if let Some(record) = current {
            return Ok(Some(Outcome::reused(record)));
        }
        if let Some(text) = self.archived(pair) {
            let record = record_of(pair, text.explanation(), text.provenance);
            let record = self.encoded(record).await?;
            self.storage.write_explanations(std::slice::from_ref(&record)).await?;
            return Ok(Some(Outcome::reused(record)));
        }
        let started = Instant::now();
        let written = self.writer.write(&context, pair_seed(pair), deltas, cancel).await?;
        let seconds = started.elapsed().as_secs_f64();
        self.count(&written, seconds);
        spans::wrote(source_name(written.source), written.attempts, &written.usage);
        let record = self.record(pair, &written, profile_version.clone());
        let mut record = self.encoded(record).await?;
        if !holds.await? {
            return Ok(None);
        }
        // Seconds have passed: another process may have written the pair, and the consumer may have
        // acted.
        if let Some(record) = self.current(pair, &profile_version).await? {
            return Ok(Some(Outcome { usage: written.usage, ..Outcome::reused(record) }));
        }
        let now = self.storage.user(user.id).await?;
        if now.is_none_or(|now| now.history != user.history || now.attributes != user.attributes) {
            record.stale = Some(staleness::PROFILE.to_owned());
        }
        self.storage.write_explanations(std::slice::from_ref(&record)).await?;
        if let Some((archive, part)) = &self.archive {
            archive.add(ArchivedText {
                user: record.user_external_id.clone(),
                item: record.item_external_id.clone(),
                positive: record.explanation.positive.clone(),
                negative: record.explanation.negative.clone(),
                provenance: record.provenance.clone(),
                part: part.clone(),
            })?;
        }
        Ok(Some(Outcome {
            record,
            reused: false,
            usage: written.usage,
            refusals: written.refusals.len(),
        }))
    }

    /// The record with its codes, if codes are made here.
    async fn encoded(&self, mut record: ExplanationRecord) -> Result<ExplanationRecord> {
        if let Some(maker) = &self.codes {
            let (maker, explanation) = (maker.clone(), record.explanation.clone());
            record.code_version = Some(maker.version().to_owned());
            let codes = tokio::task::spawn_blocking(move || maker.codes(&[&explanation]));
            record.codes = codes.await.context("encoding an explanation")??.pop();
        }
        Ok(record)
    }

    fn archived(&self, pair: Pair<'_>) -> Option<ArchivedText> {
        let (archive, part) = self.archive.as_ref()?;
        let written = [&self.generator_name(), self.writer.prompt_version(), part.as_str()];
        let Pair { user, item, .. } = pair;
        archive.find(&user.external_id, &item.external_id, written)
    }

    /// The stored explanation, if writing again would change nothing but the words.
    async fn current(
        &self,
        pair: Pair<'_>,
        profile_version: &str,
    ) -> Result<Option<ExplanationRecord>> {
        let mut found = self.storage.explanations(&[(pair.user.id, pair.item.id)]).await?;
        let identity = self.generator_name();
        let current = found.pop().flatten().filter(|record| {
            let provenance = &record.provenance;
            let same = provenance.generator == identity
                && provenance.prompt_version == self.writer.prompt_version()
                && provenance.profile_version == profile_version;
            // A template has nothing to add where an LLM has written.
            same || (self.is_template() && provenance.source == Source::Llm)
        });
        let Some(mut record) = current else { return Ok(None) };
        // What changed did not touch what this text stands on.
        if record.provenance.profile_version == profile_version && record.stale.take().is_some() {
            staleness::mark_current(&self.storage, &record).await?;
        }
        Ok(Some(record))
    }

    fn count(&self, written: &Written, seconds: f64) {
        let source = source_name(written.source);
        self.metrics.explanations.with_label_values(&[source]).inc();
        self.metrics.explanation_seconds.with_label_values(&[source]).observe(seconds);
        self.metrics.tokens.with_label_values(&["prompt"]).inc_by(written.usage.prompt_tokens);
        let completion = self.metrics.tokens.with_label_values(&["completion"]);
        completion.inc_by(written.usage.completion_tokens);
        for refusal in &written.refusals {
            self.metrics.explanation_refusals.with_label_values(&[refusal.reason()]).inc();
        }
    }

    fn record(
        &self,
        pair: Pair<'_>,
        written: &Written,
        profile_version: String,
    ) -> ExplanationRecord {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let explanation = Explanation {
            positive: written.explanation.positive.clone(),
            negative: written.explanation.negative.clone(),
        };
        let provenance = Provenance {
            generator: self.generator_name(),
            prompt_version: self.writer.prompt_version().to_owned(),
            profile_version,
            source: match written.source {
                generator::Source::Llm => Source::Llm,
                generator::Source::Template => Source::Template,
            },
            seed: written.seed,
            attempts: written.attempts,
            written_at: now.map_or(0, |age| age.as_secs() as i64),
        };
        record_of(pair, explanation, provenance)
    }

    /// Whether no LLM is asked.
    pub fn is_template(&self) -> bool {
        self.writer.identity().generator == generator::TEMPLATE
    }

    /// `kind/model@version`, as a provenance has it.
    fn generator_name(&self) -> String {
        let identity = self.writer.identity();
        format!("{}/{}@{}", identity.generator, identity.model, identity.version)
    }
}

/// A record that is not encoded yet.
fn record_of(
    pair: Pair<'_>,
    explanation: Explanation,
    provenance: Provenance,
) -> ExplanationRecord {
    ExplanationRecord {
        user: pair.user.id,
        item: pair.item.id,
        user_external_id: pair.user.external_id.clone(),
        item_external_id: pair.item.external_id.clone(),
        explanation,
        provenance,
        codes: None,
        code_version: None,
        stale: None,
    }
}

fn source_name(source: generator::Source) -> &'static str {
    match source {
        generator::Source::Llm => "llm",
        generator::Source::Template => "template",
    }
}

/// The same pair always starts from the same seed, whatever was written before it.
fn pair_seed(pair: Pair<'_>) -> u64 {
    let digest = Sha256::digest(format!("{}/{}", pair.user.id, pair.item.id));
    u64::from_le_bytes(digest[..8].try_into().unwrap_or_default())
}
