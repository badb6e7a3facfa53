//! What only the meaning of the settings can tell: ranges, and settings that must fit each other.

use std::collections::HashSet;
use std::net::SocketAddr;

use whyrank_models::CheckedSettings;

use super::listeners;
use super::load::Loaded;
use super::settings::{Settings, VectorSource};
use crate::access::{AccessKey, KeyRole};
use crate::storage::IdScheme;
use crate::training::Arm;

/// Adds a fault for everything that makes no sense.
pub(super) fn validate(loaded: &mut Loaded<Settings>) {
    let settings = loaded.settings.clone();
    let mut check = |holds: bool, key: &str, message: &str| {
        if !holds {
            loaded.fault(key, message);
        }
    };
    let Settings {
        rerank, ratings, split, server, queue, demo, evidence, evaluation, store, ..
    } = &settings;
    check(
        evaluation.test > 0.0 && evaluation.test < 1.0,
        "evaluation.test",
        "must be above 0 and below 1",
    );
    let shares = &evaluation.shares;
    check(
        !shares.is_empty() && shares.iter().all(|share| *share > 0.0 && *share <= 1.0),
        "evaluation.shares",
        "must be numbers above 0 and up to 1, at least one",
    );
    check(
        evaluation.seeds.len() >= 2,
        "evaluation.seeds",
        "must be two seeds or more: one has no spread",
    );
    let keys = server.all_keys();
    let unusable = keys.iter().find_map(AccessKey::fault);
    check(unusable.is_none(), "server.keys", unusable.as_deref().unwrap_or_default());
    let names: HashSet<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    check(names.len() == keys.len(), "server.keys", "must not have a name twice");
    check(
        evaluation.arms.contains(&Arm::Features),
        "evaluation.arms",
        "must contain \"features\", which the others are measured against",
    );
    check(
        evaluation.written_pairs != 1,
        "evaluation.written_pairs",
        "must be 0, for all pairs, or at least 2: one pair tells nothing of others",
    );
    let ordering = &evaluation.ordering;
    check(ordering.candidates > 0, "evaluation.ordering.candidates", "must be at least 1");
    check(ordering.cutoff > 0, "evaluation.ordering.cutoff", "must be at least 1");
    check(evaluation.resamples >= 100, "evaluation.resamples", "must be at least 100");
    check(rerank.limit >= 1, "rerank.limit", "must be at least 1");
    check(rerank.candidates >= 1, "rerank.candidates", "must be at least 1");
    check(
        rerank.limit <= rerank.maximum_limit,
        "rerank.limit",
        "must not be above `rerank.maximum_limit`",
    );
    check(
        rerank.candidates <= rerank.maximum_candidates,
        "rerank.candidates",
        "must not be above `rerank.maximum_candidates`",
    );
    check(
        rerank.maximum_candidates <= store.embedded.maximum_results,
        "rerank.maximum_candidates",
        "must not be above `store.embedded.maximum_results`",
    );
    let unusable = store.server.fault();
    check(unusable.is_none(), "store.server", unusable.as_deref().unwrap_or_default());
    if let Some(existing) = &store.existing_items {
        let section = "store.existing_items";
        let unusable = existing.fault(&store.items);
        check(unusable.is_none(), section, unusable.as_deref().unwrap_or_default());
        check(
            store.ids == IdScheme::Native,
            section,
            "needs `store.ids = \"native\"`: its ids are Qdrant's point ids already",
        );
        check(
            settings.vectors.source == VectorSource::Imported,
            section,
            "needs `vectors.source = \"imported\"`: its vectors are used as they are",
        );
        check(
            settings.import.items.path.is_none(),
            section,
            "needs no `import.items.path`: the items are those of the collection",
        );
    }
    check(
        rerank.maximum_candidates <= store.server.maximum_results,
        "rerank.maximum_candidates",
        "must not be above `store.server.maximum_results`",
    );
    check(
        rerank.deadline_milliseconds >= 1,
        "rerank.deadline_milliseconds",
        "must be at least 1; there is no reranking in no time",
    );
    check(
        rerank.deadline_milliseconds < server.timeout_seconds.saturating_mul(1_000),
        "rerank.deadline_milliseconds",
        "must be shorter than `server.timeout_seconds`, or the retrieval order is never reached",
    );
    check(
        rerank.maximum_text_influence.is_finite() && rerank.maximum_text_influence >= 0.0,
        "rerank.maximum_text_influence",
        "must be a number of 0 or more; 0 lets texts move no score",
    );
    for (key, reason) in settings.generator.forecast.faults() {
        check(false, &format!("generator.{key}"), reason);
    }
    check(
        settings.generator.openai.parallel >= 1,
        "generator.openai.parallel",
        "must be at least 1",
    );
    let audience = &settings.audience;
    for (key, number, most, of) in [
        ("audience.limit", audience.limit, audience.maximum_limit, "audience.maximum_limit"),
        (
            "audience.candidates",
            audience.candidates,
            audience.maximum_candidates,
            "audience.maximum_candidates",
        ),
        (
            "audience.maximum_candidates",
            audience.maximum_candidates,
            store.embedded.maximum_results.min(store.server.maximum_results),
            "store.embedded.maximum_results` and `store.server.maximum_results",
        ),
        (
            "audience.segments",
            audience.segments,
            audience.maximum_segments,
            "audience.maximum_segments",
        ),
    ] {
        check(
            number >= 1 && number <= most,
            key,
            &format!("must be at least 1 and not above `{of}`"),
        );
    }
    check(audience.maximum_items >= 1, "audience.maximum_items", "must be at least 1");
    check(audience.timeout_seconds >= 1, "audience.timeout_seconds", "must be at least 1");
    check(
        (0.0..=1.0).contains(&audience.threshold),
        "audience.threshold",
        "is a probability: it must be from 0 to 1",
    );
    let insights = &settings.insights;
    for (key, number, most, of) in [
        (
            "insights.consumers",
            insights.consumers,
            insights.maximum_consumers,
            "insights.maximum_consumers",
        ),
        ("insights.themes", insights.themes, insights.maximum_themes, "insights.maximum_themes"),
        (
            "insights.pool",
            insights.pool,
            store.embedded.maximum_results.min(store.server.maximum_results),
            "store.embedded.maximum_results` and `store.server.maximum_results",
        ),
    ] {
        check(
            number >= 1 && number <= most,
            key,
            &format!("must be at least 1 and not above `{of}`"),
        );
    }
    for (key, number, least) in [
        ("insights.explanations", insights.explanations, 1),
        ("insights.periods", insights.periods, 2),
        ("insights.answers", insights.answers, 1),
        ("insights.resamples", insights.resamples, 100),
        ("insights.minimum_consumers", insights.minimum_consumers, 2),
        ("insights.timeout_seconds", insights.timeout_seconds as usize, 1),
    ] {
        check(number >= least, key, &format!("must be at least {least}"));
    }
    check(
        insights.epsilon > 0.0 && insights.epsilon.is_finite(),
        "insights.epsilon",
        "must be a number above 0",
    );
    let sellers = keys.iter().any(|key| key.role == KeyRole::Seller);
    check(
        !sellers || insights.noise_secret.as_ref().is_some_and(|secret| !secret.is_empty()),
        "insights.noise_secret",
        "is needed where a key has the role `seller`: without it the noise that hides single \
         consumers could be computed by anybody; `whyrank key` prints a random text that serves",
    );
    check(ratings.like_from.is_finite(), "ratings.like_from", "must be a finite number");
    check(
        ratings.dislike_to < ratings.like_from,
        "ratings.dislike_to",
        "must be below `ratings.like_from`",
    );
    let factorisation = &settings.vectors.factorisation;
    check(
        factorisation.like_threshold == ratings.like_from,
        "vectors.factorisation.like_threshold",
        "must equal `ratings.like_from`: a like is a like everywhere",
    );
    let of_models: [(&str, &dyn CheckedSettings); 6] = [
        ("vectors.factorisation", factorisation),
        ("vectors.taste", &settings.vectors.taste),
        ("autoencoder", &settings.autoencoder),
        ("explainer", &settings.explainer),
        ("ranker", &settings.ranker),
        ("text", &settings.text),
    ];
    for (section, of_model) in of_models {
        for fault in of_model.faults() {
            check(false, &format!("{section}.{}", fault.name), fault.reason);
        }
    }
    check(
        split.validation > 0.0 && split.validation < 1.0,
        "split.validation",
        "must be above 0 and below 1",
    );
    check(split.folds >= 2, "split.folds", "must be at least 2");
    check((0.0..=1.0).contains(&split.unrated_items), "split.unrated_items", "must be from 0 to 1");
    check(evidence.liked + evidence.disliked >= 1, "evidence.liked", "needs at least one item");
    check(settings.training.maximum_pairs >= 2, "training.maximum_pairs", "must be at least 2");
    check(
        server.address.parse::<SocketAddr>().is_ok(),
        "server.address",
        "must be an address and a port, such as \"127.0.0.1:6380\"",
    );
    check(server.maximum_requests >= 1, "server.maximum_requests", "must be at least 1");
    let (console, connections) = (&server.console, server.connections);
    for (key, holds) in [
        ("server.connections.head_seconds", connections.head_seconds >= 1),
        ("server.connections.probe_seconds", connections.probe_seconds >= 1),
        ("server.connections.untaken_seconds", connections.untaken_seconds >= 1),
        ("server.console.session_minutes", console.session_minutes >= 1),
        ("server.console.maximum_sessions", console.maximum_sessions >= 1),
        ("server.console.rows", console.rows >= 1),
    ] {
        check(holds, key, "must be at least 1");
    }
    check(server.body_seconds >= 1, "server.body_seconds", "must be at least 1");
    check(
        server.maximum_buffered_bytes >= server.maximum_body_bytes,
        "server.maximum_buffered_bytes",
        "must be at least `server.maximum_body_bytes`, or the largest body is never taken",
    );
    check(server.maximum_body_bytes >= 1_024, "server.maximum_body_bytes", "must be at least 1024");
    listeners::check(&settings, &mut check);
    check(queue.live >= 1, "queue.live", "must be at least 1");
    for (key, number) in [
        ("queue.capacity", queue.capacity as u64),
        ("queue.attempts", queue.attempts.into()),
        ("queue.lease_seconds", queue.lease_seconds),
        ("queue.job_timeout_seconds", queue.job_timeout_seconds),
        ("queue.poll_milliseconds", queue.poll_milliseconds),
        ("queue.retry_initial_seconds", queue.retry_initial_seconds),
    ] {
        check(number >= 1, key, "must be at least 1");
    }
    check(
        queue.retry_initial_seconds <= queue.retry_maximum_seconds,
        "queue.retry_maximum_seconds",
        "must not be below `queue.retry_initial_seconds`",
    );
    check(demo.rows >= 1, "demo.rows", "must be at least 1");
    let models = &settings.models;
    check(models.keep >= 1, "models.keep", "must be at least 1, or there is no way back");
    for (key, share) in [
        ("models.shadow_share", models.shadow_share),
        ("models.feature_log.share", models.feature_log.share),
    ] {
        check((0.0..=1.0).contains(&share), key, "must be a number from 0 to 1");
    }
    for (key, number) in [
        ("models.shadow_queue", models.shadow_queue),
        ("models.feature_log.files", models.feature_log.files),
        ("models.feature_log.queue", models.feature_log.queue),
    ] {
        check(number >= 1, key, "must be at least 1");
    }
    check(
        models.feature_log.maximum_bytes >= 1 << 20,
        "models.feature_log.maximum_bytes",
        "must be at least 1048576, or a ranking may not fit",
    );
    let names = [&store.items, &store.users, &store.explanations, &store.queue];
    check(
        HashSet::from(names).len() == names.len(),
        "store.items",
        "items, users, explanations and queue need collections of different names",
    );
    let interactions = &settings.interactions;
    for (key, number) in [
        ("interactions.maximum_batch", interactions.maximum_batch),
        ("interactions.maximum_history", interactions.maximum_history),
        ("interactions.remembered", interactions.remembered),
        ("interactions.maximum_waiting", interactions.maximum_waiting),
        ("interactions.timeout_seconds", interactions.timeout_seconds as usize),
    ] {
        check(number >= 1, key, "must be at least 1");
    }
    check(
        interactions.remembered >= interactions.maximum_batch,
        "interactions.remembered",
        "must not be below `interactions.maximum_batch`, or a batch that is sent again counts twice",
    );
}

#[cfg(test)]
mod tests {
    use super::super::read_text;

    fn check(text: &str, expected: &str) {
        let faults = read_text(text, &[]).unwrap_err().to_string();
        assert!(faults.contains(expected), "{faults}");
    }

    #[test]
    fn the_defaults_make_sense() {
        read_text("", &[]).unwrap();
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_line() {
        check("[rerank]\nlimit = 0\n", "line 2: rerank.limit: must be at least 1");
        check("[rerank]\ncandidates = 5000\n", "line 2: rerank.candidates: must not be above");
        check(
            "[rerank]\nmaximum_text_influence = -0.1\n",
            "line 2: rerank.maximum_text_influence: must be a number of 0 or more",
        );
        check("[ratings]\nlike_from = 1.0\n", "ratings.dislike_to: must be below");
        check("[evaluation]\nwritten_pairs = 1\n", "line 2: evaluation.written_pairs: must be 0");
        check("[ranker]\nstarts = 0\n", "line 2: ranker.starts: at least one network");
        check("[ranker.training]\nbatch = 0\n", "line 2: ranker.training.batch: a step needs");
        check("[vectors.taste]\nridge = 0.0\n", "line 2: vectors.taste.ridge: it must be");
        check("[text]\nmaximum_tokens = 2\n", "line 2: text.maximum_tokens: the model takes");
        check("[split]\nvalidation = 1.0\n", "line 2: split.validation");
        check("[split]\nfolds = 1\n", "line 2: split.folds: must be at least 2");
        check("[split]\nunrated_items = 1.1\n", "line 2: split.unrated_items: must be from 0 to 1");
        check("[server]\naddress = \"here\"\n", "line 2: server.address");
        check(
            "[store.existing_items]\ntitle = \"name\"\n",
            "line 1: store.existing_items: needs `store",
        );
        check(
            "[generator.openai]\nparallel = 0\n",
            "line 2: generator.openai.parallel: must be at least 1",
        );
        check("[audience]\nlimit = 0\n", "line 2: audience.limit: must be at least 1");
        check("[insights]\nepsilon = 0.0\n", "line 2: insights.epsilon: must be a number above 0");
        check(
            "[insights]\nminimum_consumers = 1\n",
            "insights.minimum_consumers: must be at least 2",
        );
        let digest = "0".repeat(64);
        let seller = format!(
            "[[server.keys]]\nname = \"shop\"\nrole = \"seller\"\nsha256 = \"{digest}\"\n\
             items = {{ must = [{{ key = \"brand\", match = {{ value = \"X\" }} }}] }}\n"
        );
        check(&seller, "insights.noise_secret: is needed");
        check("[audience]\nthreshold = 1.5\n", "line 2: audience.threshold: is a probability");
        check(
            "[rerank]\ndeadline_milliseconds = 20000\n",
            "must be shorter than `server.timeout_seconds`",
        );
    }

    #[test]
    fn meaning_and_form_are_reported_together() {
        let faults = read_text("[rerank]\nlimit = 0\nlimt = 1\n[queue]\nlive = \"x\"\n", &[]);
        assert_eq!(faults.unwrap_err().faults.len(), 3);
    }
}
