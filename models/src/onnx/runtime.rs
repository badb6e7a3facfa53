//! Loads an ONNX file that Whyrank wrote, checks its contract, and runs it with tract.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::contract::{BATCH, Contract, Dimension, METADATA_KEY, Port, VERSION};
use crate::error::{Error, Result};

/// One input of a run: a tensor of 32-bit floats, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// Sizes of the axes, outermost first.
    pub shape: &'a [usize],
    /// The numbers, row-major.
    pub data: &'a [f32],
}

/// A model file, optimised and ready to run from any number of threads.
#[derive(Debug)]
pub struct OnnxModel {
    path: PathBuf,
    contract: Contract,
    plan: Arc<TypedSimplePlan>,
    // A state holds the table of intermediate values; keeping them spares its making in each run.
    idle: Mutex<Vec<TypedSimpleState>>,
}

impl OnnxModel {
    /// Loads `path`, which must hold a model of the given kind.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unreadable`] (truncated, not ONNX, no contract),
    /// [`Error::Kind`], or [`Error::Contract`] (made by another version, or the graph's inputs are
    /// not those that its contract states).
    pub fn load(path: &Path, kind: &str) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::reading(path, source))?;
        let unreadable = |reason: String| Error::unreadable(path, reason);
        let proto =
            ModelProto::decode(bytes.as_slice()).map_err(|error| unreadable(error.to_string()))?;
        let json = proto
            .metadata_props
            .iter()
            .find(|entry| entry.key == METADATA_KEY)
            .ok_or_else(|| unreadable(format!("it has no metadata entry `{METADATA_KEY}`")))?;
        let contract = read_contract(&json.value, path)?;
        if contract.kind != kind {
            return Err(Error::Kind {
                path: path.to_owned(),
                expected: kind.to_owned(),
                got: contract.kind,
            });
        }
        check_inputs(&proto, &contract, path)?;
        let plan = || {
            let model = tract_onnx::onnx().model_for_proto_model(&proto)?;
            // Without this tract must allow for empty batches and takes slow general paths.
            model.symbols.add_assertion(format!("{BATCH} >= 1"))?;
            model.into_optimized()?.into_runnable()
        };
        // tract looks some names of a graph up without asking whether they are there.
        let plan = catch_unwind(AssertUnwindSafe(plan))
            .map_err(|_| unreadable("its graph is damaged".to_owned()))?
            .map_err(|error| unreadable(format!("{error:#}")))?;
        Ok(Self { path: path.to_owned(), contract, plan, idle: Mutex::new(Vec::new()) })
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file states about itself.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Runs the model on inputs in the contract's order; gives the outputs, row-major, in the
    /// contract's order.
    ///
    /// # Errors
    /// [`Error::Shape`] if an input does not have the promised shape; [`Error::Inference`] if the
    /// runtime fails.
    pub fn run(&self, inputs: &[Value<'_>]) -> Result<Vec<Vec<f32>>> {
        self.check_shapes(inputs)?;
        let tensors = inputs
            .iter()
            .map(|input| Ok(Tensor::from_shape(input.shape, input.data)?.into_tvalue()))
            .collect::<TractResult<TVec<TValue>>>()
            .map_err(|error| self.fault(&error))?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut state = match idle {
            Some(state) => state,
            None => self.plan.spawn().map_err(|error| self.fault(&error))?,
        };
        // A state that failed is dropped here with what it holds; only a good one is kept.
        let outputs = state.run(tensors).map_err(|error| self.fault(&error))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        outputs
            .iter()
            .map(|output| Ok(output.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
            .collect::<TractResult<Vec<_>>>()
            .map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &TractError) -> Error {
        Error::Inference { path: self.path.clone(), reason: format!("{error:#}") }
    }

    fn check_shapes(&self, inputs: &[Value<'_>]) -> Result<()> {
        let ports = &self.contract.inputs;
        if inputs.len() != ports.len() {
            return Err(Error::shape(
                format!("a run of {}", self.path.display()),
                format!("{} inputs", ports.len()),
                format!("{} inputs", inputs.len()),
            ));
        }
        let mut batch = None;
        for (input, port) in inputs.iter().zip(ports) {
            let fits = input.shape.len() == port.shape.len()
                && input.shape.iter().zip(&port.shape).all(|(size, dimension)| match dimension {
                    Dimension::Fixed(fixed) => size == fixed,
                    Dimension::Free(_) => *size > 0 && *batch.get_or_insert(*size) == *size,
                })
                && input.data.len() == input.shape.iter().product::<usize>();
            if !fits {
                return Err(Error::shape(
                    format!("the input `{}` of {}", port.name, self.path.display()),
                    format!("the shape {}", describe(port)),
                    format!("{} values in the shape {:?}", input.data.len(), input.shape),
                ));
            }
        }
        Ok(())
    }
}

fn read_contract(json: &str, path: &Path) -> Result<Contract> {
    let raw: serde_json::Value =
        serde_json::from_str(json).map_err(|e| Error::unreadable(path, e.to_string()))?;
    // The version comes first: another layout would only give a confusing message about a field.
    match raw.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        other => {
            let stated = other.map_or("no version".to_owned(), |v| format!("version {v}"));
            return Err(Error::contract(
                path,
                format!("its contract has {stated}, this build reads version {VERSION}"),
            ));
        }
    }
    serde_json::from_value(raw).map_err(|error| Error::unreadable(path, error.to_string()))
}

/// The graph's inputs must be those of the contract, or values would enter at the wrong place.
fn check_inputs(proto: &ModelProto, contract: &Contract, path: &Path) -> Result<()> {
    let names: Vec<&str> = proto
        .graph
        .iter()
        .flat_map(|graph| &graph.input)
        .map(|input| input.name.as_str())
        .collect();
    let stated: Vec<&str> = contract.inputs.iter().map(|port| port.name.as_str()).collect();
    if names == stated {
        return Ok(());
    }
    let reason = format!("its graph takes the inputs {names:?}, its contract states {stated:?}");
    Err(Error::contract(path, reason))
}

fn describe(port: &Port) -> String {
    let axes: Vec<String> = port
        .shape
        .iter()
        .map(|dimension| match dimension {
            Dimension::Fixed(size) => size.to_string(),
            Dimension::Free(name) => name.clone(),
        })
        .collect();
    format!("[{}]", axes.join(", "))
}
