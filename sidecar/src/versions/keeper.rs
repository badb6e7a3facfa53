//! Switches the models of a running server: on request, on SIGHUP, and when another process has made
//! another version live. Only what verifies is switched to, and only what fits the vectors and codes
//! in the store; otherwise the live version stays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    Dimensions, LiveModels, Manifest, ModelFolder, ModelSettings, UNVERSIONED, Verified,
    VersionSummary,
};
use crate::artifacts::{self, RerankModels};
use crate::hangups::{Due, Hangups};
use crate::metrics::Metrics;

/// The wait before a version that was refused is verified again. Whoever copies a folder of models may
/// bring `live.json` before the version that it names, and a disk may fail for a moment.
const FIRST_WAIT: Duration = Duration::from_secs(5 * 60);
/// The longest such wait: each one is twice as long as the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// What a switch did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Switched {
    /// The version that answers now.
    pub(crate) live: String,
    /// The version that answered before.
    pub(crate) before: String,
}

/// Switches models. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ModelKeeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: ModelFolder,
    settings: ModelSettings,
    dimensions: Dimensions,
    live: LiveModels,
    metrics: Metrics,
    /// One switch at a time.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The version that answers; none where models lie in the folder itself, or there are none.
    version: Option<String>,
    /// The manifest that the process started with: what its encoder and vector model are of.
    started: Option<Manifest>,
    /// The version that is to be live and was refused, so that it is not verified again at every look.
    refused: Option<Refused>,
}

/// A version that was refused, and when it is verified again.
#[derive(Debug)]
struct Refused {
    version: String,
    due: Instant,
    /// How long it waits until then.
    wait: Duration,
}

impl ModelKeeper {
    /// Keeps `live`, which was loaded from the version with this manifest.
    pub(crate) fn new(
        folder: ModelFolder,
        settings: ModelSettings,
        dimensions: Dimensions,
        live: LiveModels,
        started: Option<(String, Manifest)>,
        metrics: Metrics,
    ) -> Self {
        let (version, started) = started.unzip();
        let state = Mutex::new(State { version, started, refused: None });
        let inner = Inner { folder, settings, dimensions, live, metrics, state };
        Self { inner: Arc::new(inner) }
    }

    /// All versions, the oldest first, and the id of the one that this process answers with.
    pub(crate) async fn list(&self) -> Result<(String, Vec<VersionSummary>)> {
        let folder = self.inner.folder.clone();
        let listing = tokio::task::spawn_blocking(move || folder.list());
        let versions = listing.await.context("listing versions")??;
        let answering = self.inner.live.current();
        let answering = answering.map_or_else(|| UNVERSIONED.to_owned(), |m| m.version.clone());
        Ok((answering, versions))
    }

    /// Verifies a version, makes it the live one for all processes and answers with it.
    ///
    /// # Errors
    /// When it does not verify, or needs other vectors or codes than the store holds; the version
    /// before stays live then.
    pub(crate) async fn activate(&self, version: &str) -> Result<Switched> {
        let mut state = self.inner.state.lock().await;
        let models = self.verified(version, &state).await?;
        self.inner.folder.activate(version)?;
        Ok(self.switch(&mut state, version, models))
    }

    /// Makes the version live that was live before.
    ///
    /// # Errors
    /// When there is none, or as [`Self::activate`].
    pub(crate) async fn roll_back(&self) -> Result<Switched> {
        let mut state = self.inner.state.lock().await;
        let version = self.inner.folder.before()?;
        let models = self.verified(&version, &state).await?;
        self.inner.folder.roll_back_to(&version)?;
        Ok(self.switch(&mut state, &version, models))
    }

    /// Looks which version is live and switches to it if it is another than the one that answers. One
    /// that was refused is verified again when its wait is over at `now`, or when somebody `asked`; why
    /// it is refused stands in the log each time.
    ///
    /// # Errors
    /// When it cannot be told which version is live.
    pub(super) async fn look(&self, asked: bool, now: Instant) -> Result<()> {
        let mut state = self.inner.state.lock().await;
        let live = self.inner.folder.live_version()?;
        let Some(version) = live.filter(|live| state.version.as_ref() != Some(live)) else {
            self.nothing_refused(&mut state);
            return Ok(());
        };
        let before = state.refused.as_ref().filter(|refused| refused.version == version);
        if !asked && before.is_some_and(|refused| now < refused.due) {
            return Ok(());
        }
        // Whoever asked has perhaps mended something and will mend more, so that the waits begin anew.
        let before = before.filter(|_| !asked);
        let wait = before.map_or(FIRST_WAIT, |refused| (refused.wait * 2).min(LONGEST_WAIT));
        match self.verified(&version, &state).await {
            Ok(models) => {
                self.switch(&mut state, &version, models);
            }
            Err(error) => {
                tracing::error!(
                    again_after_seconds = wait.as_secs(),
                    "the models were not switched: {error:#}"
                );
                state.refused = Some(Refused { version, due: now + wait, wait });
                self.inner.metrics.models_refused.set(1);
            }
        }
        Ok(())
    }

    fn nothing_refused(&self, state: &mut State) {
        state.refused = None;
        self.inner.metrics.models_refused.set(0);
    }

    /// Looks again and again, and at every SIGHUP, until the process stops.
    pub(crate) async fn follow(self, mut hangups: Hangups, shutdown: CancellationToken) {
        let seconds = self.inner.settings.poll_seconds;
        let mut told: Option<String> = None;
        loop {
            let Some(due) = hangups.due(seconds, &shutdown).await else { return };
            let asked = due == Due::Asked;
            // A pointer that stays damaged is told once, and again when somebody asks.
            let looked = self.look(asked, Instant::now()).await;
            let fault = looked.err().map(|error| format!("{error:#}"));
            if let Some(fault) =
                fault.as_ref().filter(|fault| asked || told.as_ref() != Some(*fault))
            {
                tracing::error!("the models were not switched: {fault}");
            }
            told = fault;
        }
    }

    /// The models of a version, warm and verified.
    async fn verified(&self, version: &str, state: &State) -> Result<Arc<RerankModels>> {
        let (folder, dimensions) = (self.inner.folder.clone(), self.inner.dimensions);
        let wanted = version.to_owned();
        // Hashing and running models must not hold up requests.
        let verifying = tokio::task::spawn_blocking(move || folder.verify(&wanted, dimensions));
        let verified = verifying.await.context("verifying a version")?;
        let fitting = verified.and_then(|Verified { manifest, rerank, .. }| {
            let manifest = manifest.context("a version has a manifest")?;
            fits_store(version, &manifest, state.started.as_ref())?;
            rerank.map(Arc::new).with_context(|| {
                format!("version {version} has no ranker yet; run `whyrank train`")
            })
        });
        if fitting.is_err() {
            self.inner.metrics.model_switches.with_label_values(&["refused"]).inc();
        }
        fitting.with_context(|| format!("version {version} is not switched to"))
    }

    fn switch(&self, state: &mut State, version: &str, models: Arc<RerankModels>) -> Switched {
        self.inner.live.switch(models.clone());
        let before = state.version.replace(version.to_owned());
        let before = before.unwrap_or_else(|| UNVERSIONED.to_owned());
        self.nothing_refused(state);
        self.inner.metrics.model_switches.with_label_values(&["switched"]).inc();
        tell(&self.inner.metrics, &models);
        tracing::info!(live = version, before, "switched the models");
        Switched { live: version.to_owned(), before }
    }
}

/// Tells Prometheus which models answer.
pub(crate) fn tell(metrics: &Metrics, models: &RerankModels) {
    metrics.model_info.reset();
    for (kind, contract) in
        [("ranker", models.ranker.contract()), ("explainer", models.explainer.contract())]
    {
        let version = artifacts::version(contract);
        metrics.model_info.with_label_values(&[kind, version.as_str()]).set(1);
    }
    metrics.model_info.with_label_values(&["models", models.version.as_str()]).set(1);
}

/// A running process keeps encoder and vector model, and the store keeps what they made, so that only
/// ranker and explainer can change under it.
fn fits_store(version: &str, manifest: &Manifest, started: Option<&Manifest>) -> Result<()> {
    ensure!(
        started.is_some_and(|started| started.same_store(manifest)),
        "its vectors or codes are not those that this process started with; stop it, run \
         `whyrank models activate {version} --index`, which writes them into the store, and start it again"
    );
    Ok(())
}
