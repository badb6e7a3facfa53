//! Writes networks as ONNX files, through the protobuf types that tract ships.

use std::fs;
use std::path::Path;

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension as PbDimension, dimension::Value as PbSize};
use tract_onnx::pb::type_proto::{Tensor as PbTensorType, Value as PbType};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::contract::{Contract, Dimension, METADATA_KEY, Port};
use crate::error::{Error, Result};

/// Operator set 17: the newest in which `ReduceL2` still takes its axes as an attribute, and inside
/// the range that tract tests.
const OPERATOR_SET: i64 = 17;
/// The format version that came with operator set 17.
const FORMAT_VERSION: i64 = 8;

/// No input feature counts for more than this, so that one absurd number cannot overflow a layer.
const LARGEST_FEATURE: f32 = 1e6;

/// Collects the nodes and weights of one network; every operation returns the name of its result.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

impl GraphBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a constant of shape `dimensions`, row-major.
    pub(crate) fn weight(&mut self, name: &str, dimensions: &[usize], values: &[f32]) -> String {
        debug_assert_eq!(dimensions.iter().product::<usize>(), values.len(), "{name}");
        self.weights.push(TensorProto {
            dims: sizes(dimensions),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            name: name.to_owned(),
            ..TensorProto::default()
        });
        name.to_owned()
    }

    fn whole_numbers(&mut self, name: &str, values: &[i64]) -> String {
        self.weights.push(TensorProto {
            dims: sizes(&[values.len()]),
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            name: name.to_owned(),
            ..TensorProto::default()
        });
        name.to_owned()
    }

    /// Adds a node with one result, which is called like the node.
    fn node(
        &mut self,
        operator: &str,
        result: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![result.to_owned()],
            name: result.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes,
            ..NodeProto::default()
        });
        result.to_owned()
    }

    /// An operation on two tensors with numpy broadcasting: `Add`, `Sub`, `Mul`,
    /// `Div`, `Max`, `Min`, `MatMul`.
    pub(crate) fn binary(&mut self, operator: &str, result: &str, a: &str, b: &str) -> String {
        self.node(operator, result, &[a, b], vec![])
    }

    /// An operation on one tensor: `Relu`, `Sigmoid`, `Identity`.
    pub(crate) fn unary(&mut self, operator: &str, result: &str, input: &str) -> String {
        self.node(operator, result, &[input], vec![])
    }

    /// `input · weight + bias`, with `weight` `[inputs, outputs]` and `bias` `[outputs]`.
    pub(crate) fn dense(&mut self, result: &str, input: &str, layer: &LayerWeights) -> String {
        let (rows, columns) = (layer.inputs, layer.outputs);
        let weight = self.weight(&format!("{result}.weight"), &[rows, columns], &layer.weight);
        let bias = self.weight(&format!("{result}.bias"), &[columns], &layer.bias);
        self.node("Gemm", result, &[input, &weight, &bias], vec![])
    }

    /// Joins `[batch, n]` tensors column after column.
    pub(crate) fn concat(&mut self, result: &str, inputs: &[&str]) -> String {
        self.node("Concat", result, inputs, vec![whole("axis", 1)])
    }

    /// Limits every number to ±[`LARGEST_FEATURE`].
    ///
    /// Put between a concatenation and a layer, it also keeps tract from cutting the layer into one
    /// product for each part of the concatenation, which runs three times slower.
    pub(crate) fn bound(&mut self, result: &str, input: &str) -> String {
        let low = self.weight(&format!("{result}.low"), &[1, 1], &[-LARGEST_FEATURE]);
        let high = self.weight(&format!("{result}.high"), &[1, 1], &[LARGEST_FEATURE]);
        let raised = self.binary("Max", &format!("{result}.raised"), input, &low);
        self.binary("Min", result, &raised, &high)
    }

    /// `a · bᵀ`. A `Transpose` of its own would make tract turn what follows around as well, and a
    /// softmax along the first axis runs ten times slower than along the last.
    pub(crate) fn product_with_transposed(&mut self, result: &str, a: &str, b: &str) -> String {
        self.node("Gemm", result, &[a, b], vec![whole("transB", 1)])
    }

    /// The largest number of each row, `[rows, 1]`.
    pub(crate) fn largest(&mut self, result: &str, input: &str) -> String {
        let attributes = vec![wholes("axes", &[1]), whole("keepdims", 1)];
        self.node("ReduceMax", result, &[input], attributes)
    }

    /// Softmax along the columns.
    pub(crate) fn softmax(&mut self, result: &str, input: &str) -> String {
        self.node("Softmax", result, &[input], vec![whole("axis", 1)])
    }

    /// Scales every row to length 1; a row of zeros stays zero.
    pub(crate) fn normalise(&mut self, result: &str, input: &str, epsilon: f32) -> String {
        let attributes = vec![wholes("axes", &[1]), whole("keepdims", 1)];
        let length = self.node("ReduceL2", &format!("{result}.length"), &[input], attributes);
        let epsilon = self.weight(&format!("{result}.epsilon"), &[1, 1], &[epsilon]);
        let length = self.binary("Add", &format!("{result}.safe_length"), &length, &epsilon);
        self.binary("Div", result, input, &length)
    }

    /// Cuts the columns into parts of the given widths; the parts take the given names.
    pub(crate) fn split(&mut self, input: &str, parts: &[(&str, usize)]) {
        let widths: Vec<i64> = parts.iter().map(|p| p.1 as i64).collect();
        let widths = self.whole_numbers(&format!("{input}.widths"), &widths);
        self.nodes.push(NodeProto {
            input: vec![input.to_owned(), widths],
            output: parts.iter().map(|p| p.0.to_owned()).collect(),
            name: format!("{input}.split"),
            op_type: "Split".to_owned(),
            attribute: vec![whole("axis", 1)],
            ..NodeProto::default()
        });
    }

    /// The bytes of the ONNX file with the contract inside.
    pub(crate) fn finish(self, contract: &Contract) -> Vec<u8> {
        let graph = GraphProto {
            node: self.nodes,
            name: contract.kind.clone(),
            initializer: self.weights,
            input: contract.inputs.iter().map(port_information).collect(),
            output: contract.outputs.iter().map(port_information).collect(),
            ..GraphProto::default()
        };
        let json = serde_json::to_string(contract).expect("a contract holds only JSON values");
        ModelProto {
            ir_version: FORMAT_VERSION,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPERATOR_SET }],
            producer_name: "whyrank".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            metadata_props: vec![StringStringEntryProto {
                key: METADATA_KEY.to_owned(),
                value: json,
            }],
            ..ModelProto::default()
        }
        .encode_to_vec()
    }
}

/// The numbers of one linear layer, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerWeights {
    /// Width of the input.
    pub(crate) inputs: usize,
    /// Width of the output.
    pub(crate) outputs: usize,
    /// `[inputs, outputs]`, row-major.
    pub(crate) weight: Vec<f32>,
    /// `[outputs]`.
    pub(crate) bias: Vec<f32>,
}

impl LayerWeights {
    /// The layer that gives on raw inputs what this one gives on `(input - mean) * scale`.
    pub(crate) fn absorb_standardisation(mut self, mean: &[f32], scale: &[f32]) -> Self {
        for row in 0..self.inputs {
            let weights = &mut self.weight[row * self.outputs..(row + 1) * self.outputs];
            for (weight, bias) in weights.iter_mut().zip(&mut self.bias) {
                *weight *= scale[row];
                *bias -= *weight * mean[row];
            }
        }
        self
    }
}

/// Writes a file so that no reader ever sees a part of it: beside its place first, then renamed.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let fault = |action| move |source| Error::File { action, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fault("creating the folder of"))?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    fs::write(&part, bytes).map_err(fault("writing"))?;
    fs::rename(&part, path).map_err(fault("moving into place"))
}

fn sizes(dimensions: &[usize]) -> Vec<i64> {
    dimensions.iter().map(|d| *d as i64).collect()
}

fn whole(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn wholes(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

fn port_information(port: &Port) -> ValueInfoProto {
    let axis = |dimension: &Dimension| PbDimension {
        value: Some(match dimension {
            Dimension::Fixed(size) => PbSize::DimValue(*size as i64),
            Dimension::Free(name) => PbSize::DimParam(name.clone()),
        }),
        ..PbDimension::default()
    };
    let tensor = PbTensorType {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: port.shape.iter().map(axis).collect() }),
    };
    ValueInfoProto {
        name: port.name.clone(),
        r#type: Some(TypeProto { value: Some(PbType::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
