//! `whyrank doctor`: explains a sick installation. Everything that a server needs is tried as a server
//! would use it; nothing is changed.

mod answers;
mod files;
mod stored;

use anyhow::{Result, bail};
use serde::Serialize;

use super::output::print;
use crate::config::{Faults, Settings};

/// How well it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// It works, though something should be done.
    Warning,
    /// It does not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    what: String,
    state: State,
    found: String,
    /// What to do about it.
    todo: Option<String>,
}

/// All findings of one examination.
#[derive(Debug, Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, what: impl Into<String>, found: impl Into<String>) {
        let (what, found) = (what.into(), found.into());
        self.findings.push(Finding { what, state: State::Ok, found, todo: None });
    }

    fn warning(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(State::Warning, what.into(), found.into(), todo.into());
    }

    fn fault(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.add(State::Fault, what.into(), found.into(), todo.into());
    }

    fn add(&mut self, state: State, what: String, found: String, todo: String) {
        self.findings.push(Finding { what, state, found, todo: Some(todo) });
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Finding { what, state, found, todo } in &self.findings {
            let mark = match state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Fault => "FAULT",
            };
            text.push_str(&format!("{mark:<8}{what}: {found}\n"));
            if let Some(todo) = todo {
                text.push_str(&format!("        -> {todo}\n"));
            }
        }
        let (faults, warnings) = (self.count(State::Fault), self.count(State::Warning));
        text.push_str(&format!(
            "{} looked at: {faults} faults, {warnings} warnings",
            self.findings.len()
        ));
        text
    }
}

/// Examines the installation; `generate` also has the LLM write a sentence.
pub(super) async fn doctor(settings: &Settings, generate: bool, json: bool) -> Result<()> {
    let mut findings = Findings::default();
    findings.ok("configuration", "every setting can be used");
    answers::keys(settings, &mut findings);
    files::weights(settings, &mut findings);
    let encoder = files::models(settings, &mut findings);
    files::disks(settings, &mut findings);
    let running = stored::store(settings, encoder.as_deref(), &mut findings).await;
    answers::ports(settings, running, &mut findings);
    if generate {
        answers::generator(settings, &mut findings).await;
    }
    told(&findings, json)
}

/// Tells what is wrong with a configuration that cannot be used; nothing else can be looked at then.
pub(super) fn misconfigured(faults: &Faults, json: bool) -> Result<()> {
    let mut findings = Findings::default();
    for fault in &faults.faults {
        let todo = "correct it; config/whyrank.toml shows every setting with its default";
        findings.fault(format!("configuration {}", faults.source), fault.to_string(), todo);
    }
    told(&findings, json)
}

fn told(findings: &Findings, json: bool) -> Result<()> {
    print(json, findings, || findings.text())?;
    let faults = findings.count(State::Fault);
    if faults > 0 {
        bail!("the installation has {faults} faults");
    }
    Ok(())
}
