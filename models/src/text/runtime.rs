//! The one ONNX Runtime of this process, loaded from a library that nobody had to install.

use std::sync::Mutex;

use ort::environment::Environment;

use super::error::{Result, TextError};
use crate::weights::Weights;

/// Kept for the life of the process: ONNX Runtime allows one environment, and never a second one.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The environment that every ONNX Runtime session of this process is made in.
///
/// The first call loads the library: the one that `ORT_DYLIB_PATH` names, else the one in the
/// weights folder. Later calls return the same environment, whatever `weights` they bring.
pub fn environment(weights: &Weights) -> Result<Environment> {
    let mut kept = ENVIRONMENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = &*kept {
        return Ok(environment.clone());
    }
    let library = weights.onnx_runtime_library()?;
    let fail = |reason: String| TextError::Runtime { library: library.clone(), reason };
    let environment = ort::init_from(&library)
        .map_err(|error| fail(error.to_string()))?
        .with_name("whyrank")
        // Nothing leaves the machine that its owner did not send.
        .with_telemetry(false)
        .build()
        .map_err(|error| fail(error.to_string()))?;
    *kept = Some(environment.clone());
    Ok(environment)
}
