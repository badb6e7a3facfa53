//! Tests of the writer: attempts, fallback, versions.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::generator::{EvidenceItem, Generation, GeneratorSettings, Prompt, TemplateGenerator};

/// Answers with prepared texts and records how it was asked: attempts need answers that are wrong on purpose.
struct Scripted {
    identity: GeneratorIdentity,
    answers: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<GenerationOptions>>,
}

impl Scripted {
    fn new(answers: &[&'static str]) -> Arc<Self> {
        let name = || "scripted".to_string();
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Self {
            identity: GeneratorIdentity { generator: name(), model: name(), version: name() },
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Generator for Scripted {
    fn identity(&self) -> &GeneratorIdentity {
        &self.identity
    }

    async fn generate(
        &self,
        _prompt: &Prompt<'_>,
        options: &GenerationOptions,
        deltas: Option<mpsc::Sender<Delta>>,
        _cancel: CancellationToken,
    ) -> Result<Generation, GeneratorError> {
        self.asked.lock().unwrap().push(options.clone());
        let answer = self.answers.lock().unwrap().pop();
        let text =
            answer.ok_or_else(|| GeneratorError::Model("no answer left".to_string()))?.to_string();
        send(&deltas, Delta::Text(text.clone())).await?;
        let usage = Usage {
            prompt_tokens: 200,
            completion_tokens: 50,
            prompt_seconds: 2.0,
            completion_seconds: 1.0,
        };
        Ok(Generation { text, truncated: false, openings: Vec::new(), usage })
    }
}

fn pair() -> PairContext {
    let mut pair = PairContext::default();
    pair.item.title = "Alien (1979)".into();
    pair.item.attributes = vec!["Horror".into()];
    pair.evidence.liked =
        vec![EvidenceItem { title: "Star Wars (1977)".into(), ..EvidenceItem::default() }];
    pair
}

const GOOD: &str = "WHY: Like Star Wars, it takes you far away into space.\nWHY NOT: Its horror may be too much for you.";
const BAD: &str = "WHY: It is a very good film that many people enjoy.\nWHY NOT: None.";

async fn write(generator: Arc<dyn Generator>) -> Result<Written, GeneratorError> {
    let writer = Writer::from_settings(generator, &GeneratorSettings::default()).unwrap();
    writer.write(&pair(), 7, None, CancellationToken::new()).await
}

#[tokio::test]
async fn a_good_first_answer_is_taken() {
    let generator = Scripted::new(&[GOOD]);
    let written = write(generator.clone()).await.unwrap();
    assert_eq!((written.source, written.attempts, written.seed), (Source::Llm, 1, 7));
    assert_eq!(written.explanation.negative, "Its horror may be too much for you.");
    assert_eq!(generator.asked.lock().unwrap()[0].temperature, 0.0);
}

#[tokio::test]
async fn refused_answers_are_tried_again_with_another_seed() {
    let generator = Scripted::new(&[BAD, "nonsense", GOOD]);
    let written = write(generator.clone()).await.unwrap();
    assert_eq!((written.source, written.attempts), (Source::Llm, 3));
    assert!(
        written.refusals.contains(&Refusal::Ungrounded { half: Half::Positive }),
        "{:?}",
        written.refusals
    );
    assert!(written.refusals.contains(&Refusal::Missing { half: Half::Negative }));
    assert_eq!(written.usage.prompt_tokens, 600);
    let asked = generator.asked.lock().unwrap();
    let seeds: std::collections::HashSet<u64> = asked.iter().map(|options| options.seed).collect();
    assert_eq!(seeds.len(), 3);
    assert!(asked[1].temperature > 0.0);
}

#[tokio::test]
async fn after_the_last_attempt_the_template_writes_and_says_so() {
    let written = write(Scripted::new(&[BAD, BAD, BAD, GOOD])).await.unwrap();
    assert_eq!((written.source, written.attempts), (Source::Template, 3));
    assert!(written.explanation.positive.contains("Star Wars"));
}

#[tokio::test]
async fn no_attempt_begins_beyond_the_token_budget() {
    let mut settings = GeneratorSettings::default();
    settings.writer.token_budget = 300;
    let writer = Writer::from_settings(Scripted::new(&[BAD, BAD, GOOD]), &settings).unwrap();
    let written = writer.write(&pair(), 7, None, CancellationToken::new()).await.unwrap();
    assert_eq!((written.source, written.attempts), (Source::Template, 2));
}

#[tokio::test]
async fn a_failing_generator_is_an_error_and_no_template() {
    assert!(matches!(write(Scripted::new(&[])).await, Err(GeneratorError::Model(_))));
}

#[tokio::test]
async fn listeners_hear_of_a_restart() {
    let writer =
        Writer::from_settings(Scripted::new(&[BAD, GOOD]), &GeneratorSettings::default()).unwrap();
    let (sender, mut receiver) = mpsc::channel(16);
    writer.write(&pair(), 7, Some(sender), CancellationToken::new()).await.unwrap();
    let mut heard = Vec::new();
    while let Some(delta) = receiver.recv().await {
        heard.push(delta);
    }
    assert_eq!(heard, [Delta::Text(BAD.into()), Delta::Restart, Delta::Text(GOOD.into())]);
}

#[tokio::test]
async fn separate_generations_make_one_explanation() {
    let (positive, negative) = GOOD.split_once('\n').unwrap();
    let settings =
        GeneratorSettings { prompt_style: PromptStyle::Separate, ..GeneratorSettings::default() };
    let writer = Writer::from_settings(Scripted::new(&[positive, negative]), &settings).unwrap();
    let written = writer.write(&pair(), 7, None, CancellationToken::new()).await.unwrap();
    assert_eq!((written.source, written.usage.completion_tokens), (Source::Llm, 100));
}

#[tokio::test]
async fn the_template_generator_writes_for_any_pair() {
    for pair in [pair(), PairContext::default()] {
        let generator = Arc::new(TemplateGenerator::default());
        let writer = Writer::from_settings(generator, &GeneratorSettings::default()).unwrap();
        let written = writer.write(&pair, 7, None, CancellationToken::new()).await.unwrap();
        assert_eq!((written.source, written.attempts), (Source::Template, 1));
        assert_eq!(written.profile_version, writer.profile_version(&pair));
    }
}
