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
