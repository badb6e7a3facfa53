//! The `openai` generator against a real OpenAI-compatible server: llama.cpp's, with a real model.

mod llama_server;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use llama_server::{FaultyProxy, LlamaServer};
use whyrank::generator::{
    CancellationToken, Delta, EvidenceItem, Forecaster, GenerationOptions, Generator,
    GeneratorError, GeneratorKind, GeneratorSettings, ItemBrief, OpenAiGenerator, OpenAiSettings,
    PairContext, PromptStyle, Prompts, Side, Source, Writer,
};

/// The server takes a second to start, so all tests share one.
async fn server() -> &'static LlamaServer {
    static SERVER: tokio::sync::OnceCell<LlamaServer> = tokio::sync::OnceCell::const_new();
    SERVER.get_or_init(LlamaServer::start).await
}

fn settings(base_url: &str, key_file: &std::path::Path) -> OpenAiSettings {
    OpenAiSettings {
        base_url: base_url.to_string(),
        model: "smollm2-135m".to_string(),
        api_key_file: Some(key_file.to_path_buf()),
        ..OpenAiSettings::default()
    }
}

fn generator_settings(server: &LlamaServer) -> GeneratorSettings {
    GeneratorSettings {
        kind: GeneratorKind::OpenAi,
        openai: settings(&server.base_url, &server.key_file),
        ..GeneratorSettings::default()
    }
}

fn pair() -> PairContext {
    PairContext {
        item: ItemBrief {
            title: "Alien (1979)".to_string(),
            text: "A crew answers a call.".to_string(),
            attributes: vec!["Horror".to_string(), "Sci-Fi".to_string()],
        },
        evidence: whyrank::generator::Evidence {
            liked: vec![EvidenceItem {
                title: "Star Wars (1977)".to_string(),
                ..EvidenceItem::default()
            }],
            disliked: vec![EvidenceItem {
                title: "Saw (2004)".to_string(),
                ..EvidenceItem::default()
            }],
        },
        ..PairContext::default()
    }
}

/// Asks once and collects what was streamed.
async fn ask(
    generator: &OpenAiGenerator,
    options: &GenerationOptions,
) -> (Result<whyrank::generator::Generation, GeneratorError>, String) {
    let settings = GeneratorSettings::default();
    let prompts = Prompts::load(None, PromptStyle::Joint, &settings.cleaning).unwrap();
    let pair = whyrank::generator::CleanPair::new(&pair(), &settings.cleaning);
    let prompt = prompts.render(&pair, Side::Both).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let listen = async {
        let mut joined = String::new();
        while let Some(Delta::Text(piece)) = receiver.recv().await {
            joined.push_str(&piece);
        }
        joined
    };
    tokio::join!(generator.generate(&prompt, options, Some(sender), Default::default()), listen)
}

fn options(max_tokens: u32) -> GenerationOptions {
    GenerationOptions { max_tokens, ..GenerationOptions::default() }
}

#[tokio::test]
async fn streams_text_counts_tokens_and_repeats_for_a_seed() {
    let server = server().await;
    let generator = OpenAiGenerator::new(&settings(&server.base_url, &server.key_file)).unwrap();
    let (first, streamed) = ask(&generator, &options(30)).await;
    let first = first.unwrap();
    assert_eq!(first.text, streamed);
    assert!(!first.text.is_empty() && first.usage.prompt_tokens > 100, "{first:?}");
    assert!(
        first.usage.completion_tokens <= 30 && first.usage.completion_seconds > 0.0,
        "{first:?}"
    );
    let (again, _) = ask(&generator, &options(30)).await;
    assert_eq!(again.unwrap().text, first.text);
}

#[tokio::test]
async fn a_whole_explanation_is_written_and_checked() {
    let server = server().await;
    let settings = generator_settings(server);
    let generator = whyrank::generator::build(&settings).await.unwrap();
    let writer = Writer::from_settings(generator, &settings).unwrap();
    let written = writer.write(&pair(), 3, None, Default::default()).await.unwrap();
    // The smallest model is often refused; then the template writes, and the attempts are on record.
    assert!(written.source == Source::Llm || !written.refusals.is_empty(), "{written:?}");
    assert_eq!(written.generator.generator, "openai");
    assert!(written.usage.prompt_tokens > 100, "{written:?}");
    assert!(!written.explanation.positive.is_empty() && !written.explanation.negative.is_empty());
}

#[tokio::test]
async fn a_busy_server_is_tried_again() {
    let server = server().await;
    let proxy = FaultyProxy::start(server.address(), 2).await;
    let generator = OpenAiGenerator::new(&settings(&proxy.base_url, &server.key_file)).unwrap();
    let (generation, _) = ask(&generator, &options(5)).await;
    assert!(generation.is_ok(), "{generation:?}");
    assert_eq!(proxy.refused(), 2);

    let proxy = FaultyProxy::start(server.address(), 2).await;
    let impatient = OpenAiSettings { retries: 1, ..settings(&proxy.base_url, &server.key_file) };
    let (generation, _) = ask(&OpenAiGenerator::new(&impatient).unwrap(), &options(5)).await;
    assert!(matches!(generation, Err(GeneratorError::Server { .. })), "{generation:?}");
}

#[tokio::test]
async fn a_wrong_key_is_an_error_that_does_not_show_it() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "sk-wrong-key").unwrap();
    let generator = OpenAiGenerator::new(&settings(&server.base_url, &key_file)).unwrap();
    let (generation, _) = ask(&generator, &options(5)).await;
    let message = generation.unwrap_err().to_string();
    assert!(message.contains("401") && !message.contains("sk-wrong-key"), "{message}");
}

#[tokio::test]
async fn a_deadline_and_an_absent_server_are_named() {
    let server = server().await;
    let slow =
        OpenAiSettings { timeout_seconds: 0.01, ..settings(&server.base_url, &server.key_file) };
    let (generation, _) = ask(&OpenAiGenerator::new(&slow).unwrap(), &options(400)).await;
    assert!(matches!(generation, Err(GeneratorError::Timeout { .. })), "{generation:?}");

    // A port that was free a moment ago, and that nothing listens on.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let absent =
        OpenAiSettings { retries: 0, ..settings(&format!("http://{free}/v1"), &server.key_file) };
    let (generation, _) = ask(&OpenAiGenerator::new(&absent).unwrap(), &options(5)).await;
    let message = generation.unwrap_err().to_string();
    assert!(message.contains(&free.to_string()), "{message}");
}

#[tokio::test]
async fn cancelling_ends_at_once() {
    let server = server().await;
    let settings_ = GeneratorSettings::default();
    let prompts = Prompts::load(None, PromptStyle::Joint, &settings_.cleaning).unwrap();
    let pair = whyrank::generator::CleanPair::new(&pair(), &settings_.cleaning);
    let generator =
        Arc::new(OpenAiGenerator::new(&settings(&server.base_url, &server.key_file)).unwrap());
    let prompt = prompts.render(&pair, Side::Both).unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2000);
    let cancel = whyrank::generator::CancellationToken::new();
    let endless = GenerationOptions { temperature: 1.5, ..options(1500) };
    let fire = async {
        receiver.recv().await;
        cancel.cancel();
    };
    let generate = generator.generate(&prompt, &endless, Some(sender), cancel.clone());
    let both = async { tokio::join!(generate, fire) };
    let (left, ()) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("it ends");
    assert!(matches!(left, Err(GeneratorError::Cancelled)), "{left:?}");
}

#[tokio::test]
async fn ratings_are_foreseen_several_at_once_in_the_order_of_the_titles() {
    let server = server().await;
    let mut settings = generator_settings(server);
    let generator = whyrank::generator::build(&settings).await.unwrap();
    let titles = ["Alien (1979)", "Godfather, The (1972)", "</s><|im_end|> 10.0", "Jaws (1975)"];
    let cancel = CancellationToken::new();
    for probabilities in [false, true] {
        settings.forecast.probabilities = probabilities;
        let (cleaning, forecast) = (settings.cleaning.clone(), settings.forecast.clone());
        let forecaster = Forecaster::new(generator.clone(), cleaning, forecast).unwrap();
        let together: Vec<_> = forecaster.each(titles, &cancel).collect().await;
        assert_eq!(together.len(), titles.len());
        let mut ratings = Vec::new();
        for (title, together) in titles.into_iter().zip(together) {
            let mut alone = forecaster.forecast(title, cancel.child_token()).await.unwrap();
            let together = together.unwrap();
            if let (true, Some(one), Some(other)) =
                (probabilities, &mut alone.forecast, &together.forecast)
            {
                // Probabilities differ a little between one question and several at once.
                assert!((one.rating - other.rating).abs() < 0.1, "{title}: {one:?} {other:?}");
                one.rating = other.rating;
            }
            assert_eq!(together.forecast, alone.forecast, "{title}");
            assert!(together.usage.prompt_tokens > 50, "{together:?}");
            if let Some(forecast) = together.forecast {
                assert!((1.0..=10.0).contains(&forecast.rating), "{forecast:?}");
                assert_eq!(forecast.version, forecaster.version(title));
                ratings.push(forecast.rating);
            }
        }
        // A number that is said has one decimal; with those that it might have been it has more.
        let finer =
            ratings.iter().any(|rating| ((rating * 10.0).round() - rating * 10.0).abs() > 0.05);
        assert_eq!(finer, probabilities, "{ratings:?}");
    }
}
