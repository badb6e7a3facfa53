//! The configuration: one file, `WHYRANK__SECTION__KEY` variables over it, all faults told at once.

mod files;
mod listeners;
mod load;
mod settings;
mod validate;

use std::path::Path;

pub use load::{ENVIRONMENT_PREFIX, Fault, Faults, Place};
pub use settings::{
    DemoSettings, RatingSettings, ServerSettings, Settings, TrainingLimits, VectorSettings,
    VectorSource, WeightsSettings,
};

/// The shipped configuration: every setting with its default.
pub const SHIPPED: &str = include_str!("../../../config/whyrank.toml");

/// Reads and checks a configuration; without a file the defaults and the environment count.
///
/// # Errors
/// All faults together: unreadable file, unknown keys, wrong types, values that make no sense.
pub fn read(path: Option<&Path>) -> Result<Settings, Faults> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect();
    let mut loaded = load::load::<Settings>(path, &environment)?;
    loaded.settings.source = path.map(Path::to_owned);
    files::read(&mut loaded);
    validate::validate(&mut loaded);
    loaded.finish()
}

/// The same as [`read`], from text and given variables.
///
/// # Errors
/// See [`read`].
pub fn read_text(text: &str, environment: &[(String, String)]) -> Result<Settings, Faults> {
    let mut loaded = load::load_text::<Settings>(text, "text".to_owned(), environment)?;
    files::read(&mut loaded);
    validate::validate(&mut loaded);
    loaded.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_is_the_defaults_and_shows_every_key() {
        assert_eq!(read_text(SHIPPED, &[]).unwrap(), Settings::default());
        let mut missing = Vec::new();
        let defaults = serde_json::to_value(Settings::default()).unwrap();
        hidden_keys(&defaults, &mut missing);
        assert!(missing.is_empty(), "config/whyrank.toml does not show: {missing:?}");
    }

    #[test]
    fn a_choice_takes_the_keys_of_its_own_kind_and_no_others() {
        let text = |inner: &str| format!("[store.server]\nquantization = {{ {inner} }}");
        let scalar = read_text(&text("kind = \"scalar\", quantile = 0.99"), &[]).unwrap();
        let expected =
            whyrank_plugin::Quantization::Scalar { quantile: Some(0.99), always_ram: false };
        assert_eq!(scalar.store.server.quantization, expected);
        let faults = read_text(&text("kind = \"binary\", quantile = 0.99"), &[]).unwrap_err();
        assert!(faults.to_string().contains("quantile"), "{faults}");
    }

    /// The keys that no line of the shipped file sets, or names behind a `#` where there is no default.
    fn hidden_keys(value: &serde_json::Value, missing: &mut Vec<String>) {
        let Some(entries) = value.as_object() else { return };
        for (key, value) in entries {
            let set = format!("{key} =");
            let table = format!("{key}]");
            let shown = SHIPPED
                .lines()
                .map(|line| line.trim_start_matches("# "))
                .any(|line| line.starts_with(&set) || line.ends_with(&table));
            if !shown {
                missing.push(key.clone());
            }
            hidden_keys(value, missing);
        }
    }

    #[test]
    fn the_configuration_of_the_demonstration_is_accepted() {
        let settings = read_text(include_str!("../../../config/demo.toml"), &[]).unwrap();
        assert!(settings.import.users.path.is_some());
    }

    #[test]
    fn the_configurations_of_the_evaluations_are_accepted() {
        for text in [
            include_str!("../../../config/evaluation/movies.toml"),
            include_str!("../../../config/evaluation/musical-instruments.toml"),
            include_str!("../../../config/evaluation/yelp.toml"),
        ] {
            let settings = read_text(text, &[]).unwrap();
            assert!(settings.import.items.path.is_some());
        }
    }
}
