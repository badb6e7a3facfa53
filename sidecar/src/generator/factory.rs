//! Builds the generator that the settings name.

use std::sync::Arc;

use super::{
    Generator, GeneratorError, GeneratorKind, GeneratorSettings, OpenAiGenerator, Prompts,
    TemplateGenerator, Validator, Writer,
};

/// Builds the generator that `settings` name; a language model in this process is loaded, which takes seconds.
///
/// # Errors
/// When a file is missing or damaged, or a setting cannot be used in this build.
pub async fn build(settings: &GeneratorSettings) -> Result<Arc<dyn Generator>, GeneratorError> {
    Ok(match settings.kind {
        GeneratorKind::Template => Arc::new(TemplateGenerator::default()),
        GeneratorKind::OpenAi => Arc::new(OpenAiGenerator::new(&settings.openai)?),
        #[cfg(feature = "mistralrs")]
        GeneratorKind::Mistralrs => {
            Arc::new(super::MistralrsGenerator::load(&settings.mistralrs).await?)
        }
        #[cfg(not(feature = "mistralrs"))]
        GeneratorKind::Mistralrs => {
            return Err(GeneratorError::Setting {
                key: "kind",
                reason: "this build has no `mistralrs` feature: use `openai` or `template`"
                    .to_string(),
            });
        }
    })
}

impl Writer {
    /// A writer with the prompts, checks and attempts that `settings` name, around `generator`.
    ///
    /// # Errors
    /// When a prompt template cannot be used.
    pub fn from_settings(
        generator: Arc<dyn Generator>,
        settings: &GeneratorSettings,
    ) -> Result<Self, GeneratorError> {
        let prompts =
            Prompts::load(settings.prompts.as_deref(), settings.prompt_style, &settings.cleaning)?;
        let validator = Validator::new(settings.validation.clone(), prompts.example_titles());
        Ok(Self::new(
            generator,
            prompts,
            validator,
            settings.cleaning.clone(),
            settings.writer.clone(),
        ))
    }
}
