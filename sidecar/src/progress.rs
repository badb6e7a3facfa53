//! Shows long work on the terminal: one bar a stage, with the time left; plain lines where no
//! terminal is attached, so that a log of the night stays readable.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use whyrank_models::progress::Progress;

/// How often a stage tells where it is when nobody watches a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// A [`Progress`] for people: bars on a terminal, lines elsewhere.
#[derive(Debug, Default)]
pub struct Terminal {
    current: Mutex<Option<Stage>>,
    cancelled: AtomicBool,
}

#[derive(Debug)]
struct Stage {
    name: String,
    total: u64,
    bar: ProgressBar,
    started: Instant,
    last_line: Instant,
    done: u64,
    visible: bool,
}

impl Terminal {
    /// A progress display on standard error.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop at its next step.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn with_stage(&self, change: impl FnOnce(&mut Option<Stage>)) {
        // A panic while a bar was drawn does no harm to the next one.
        change(&mut self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

fn style(total: u64) -> ProgressStyle {
    let template = if total == 0 {
        "{prefix:<34} {spinner} {pos} in {elapsed} {msg}"
    } else {
        "{prefix:<34} {bar:28} {human_pos:>9}/{human_len:<9} {elapsed} gone, {eta} left {msg}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Terminal {
    fn begin(&self, stage: &str, total: u64) {
        self.end();
        let visible = std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target((total > 0).then_some(total), target)
            .with_style(style(total));
        bar.set_prefix(stage.to_owned());
        let now = Instant::now();
        if !visible {
            eprintln!("{stage} ...");
        }
        self.with_stage(|current| {
            *current = Some(Stage {
                name: stage.to_owned(),
                total,
                bar,
                started: now,
                last_line: now,
                done: 0,
                visible,
            });
        });
    }

    fn advance(&self, done: u64) {
        self.with_stage(|current| {
            let Some(stage) = current else { return };
            stage.done = done;
            stage.bar.set_position(done);
            if !stage.visible && stage.last_line.elapsed() >= LINE_INTERVAL {
                stage.last_line = Instant::now();
                let left = if stage.total > done && done > 0 {
                    let rate = stage.started.elapsed().as_secs_f64() / done as f64;
                    format!(", about {:.0} s left", rate * (stage.total - done) as f64)
                } else {
                    String::new()
                };
                eprintln!("{} {done}/{}{left}", stage.name, stage.total);
            }
        });
    }

    fn note(&self, message: &str) {
        self.with_stage(|current| {
            if let Some(stage) = current {
                stage.bar.set_message(message.to_owned());
            }
        });
    }

    fn end(&self) {
        self.with_stage(|current| {
            let Some(stage) = current.take() else { return };
            let message = stage.bar.message();
            stage.bar.finish_and_clear();
            let seconds = stage.started.elapsed().as_secs_f64();
            let separator = if message.is_empty() { "" } else { "; " };
            eprintln!("{:<34} done in {seconds:.1} s{separator}{message}", stage.name);
        });
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
