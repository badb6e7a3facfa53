//! What is wrong with settings: all of it together for whoever starts a program, and the first of it for
//! whoever calls with them.

use std::fmt::Debug;

/// A setting with a value that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting `{name}` is {value}: {reason}")]
pub struct SettingFault {
    /// The field, below the structure that was checked, such as `training.epochs`.
    pub name: String,
    /// The value that was given.
    pub value: String,
    /// Why that cannot work.
    pub reason: &'static str,
}

/// Settings that have values which cannot work.
pub trait CheckedSettings {
    /// All of them that cannot work.
    fn faults(&self) -> Vec<SettingFault>;

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// The first fault.
    fn check(&self) -> Result<(), SettingFault> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }
}

/// Why a layer of width 0 cannot work.
pub(crate) const NO_WIDTH: &str = "a layer needs a width above 0";

/// Collects faults.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<SettingFault>);

impl Faults {
    /// A fault of this setting, unless what must hold holds.
    pub(crate) fn unless(
        &mut self,
        holds: bool,
        name: &str,
        value: impl Debug,
        reason: &'static str,
    ) {
        if !holds {
            self.0.push(SettingFault {
                name: name.to_owned(),
                value: format!("{value:?}"),
                reason,
            });
        }
    }

    /// A fault unless the number is above 0 and finite.
    pub(crate) fn unless_positive(&mut self, name: &str, value: impl Into<f64> + Copy + Debug) {
        let number: f64 = value.into();
        let holds = number > 0.0 && number.is_finite();
        self.unless(holds, name, value, "it must be a positive number");
    }

    /// A fault unless the number is 0 or more and finite.
    pub(crate) fn unless_weight(&mut self, name: &str, value: impl Into<f64> + Copy + Debug) {
        let number: f64 = value.into();
        let holds = number >= 0.0 && number.is_finite();
        self.unless(holds, name, value, "it must be zero or a positive number");
    }

    /// A fault unless the share leaves something: 0 or more, and below 1.
    pub(crate) fn unless_dropout(&mut self, name: &str, value: f32) {
        let holds = (0.0..1.0).contains(&value);
        self.unless(holds, name, value, "it must be at least 0 and below 1");
    }

    /// A fault unless the share parts a whole in two.
    pub(crate) fn unless_parting(&mut self, name: &str, value: f64) {
        let holds = value > 0.0 && value < 1.0;
        self.unless(holds, name, value, "it must lie between 0 and 1");
    }

    /// The faults of a group of settings inside these.
    pub(crate) fn of_group(&mut self, group: &str, settings: &impl CheckedSettings) {
        self.0.extend(
            settings
                .faults()
                .into_iter()
                .map(|fault| SettingFault { name: format!("{group}.{}", fault.name), ..fault }),
        );
    }
}
