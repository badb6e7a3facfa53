//! The configuration: one file, `WHYRANK__SECTION__KEY` variables over it, all faults told at once.

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
    validate::validate(&mut loaded);
    loaded.finish()
}

/// The same as [`read`], from text and given variables.
///
/// # Errors
/// See [`read`].
pub fn read_text(text: &str, environment: &[(String, String)]) -> Result<Settings, Faults> {
    let mut loaded = load::load_text::<Settings>(text, "text".to_owned(), environment)?;
    validate::validate(&mut loaded);
    loaded.finish()
}
