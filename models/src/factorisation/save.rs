//! Saves the learned vectors as safetensors with a contract, and loads them where they fit.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use nalgebra::DMatrix;
use ndarray::Array2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::json;

use super::solve::OtherSide;
use super::{Factorisation, FactorisationSettings, FoldIn, KIND, TextProjection};
use crate::error::{Error, Result};
use crate::onnx::Contract;
use crate::onnx::builder::write_file;
use crate::onnx::contract::{METADATA_KEY, VERSION};

impl Factorisation {
    /// Writes vectors, maps and fold-in state to one file.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let items = &self.fold_in.items;
        let mut contract = Contract::new(KIND, self.fingerprint.clone());
        contract.dimensions = [
            ("vector", self.item_vectors.ncols()),
            ("items", self.item_vectors.nrows()),
            ("users", self.user_vectors.nrows()),
            ("met_items", items.count),
        ]
        .map(|(name, size)| (name.to_owned(), size))
        .into();
        contract.training = json!({ "settings": self.fold_in.settings });
        let json = serde_json::to_string(&contract).expect("a contract holds only JSON values");
        let mut tables: Vec<(&str, Vec<usize>, Dtype, Vec<u8>)> = vec![
            floats("item_vectors", &self.item_vectors),
            floats("user_vectors", &self.user_vectors),
            (
                "item_gram",
                vec![items.gram.nrows(), items.gram.ncols()],
                Dtype::F64,
                items.gram.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ),
        ];
        for (name, map) in [("item_texts", &self.item_texts), ("user_texts", &self.user_texts)] {
            tables.extend(map.as_ref().map(|map| floats(name, &map.weights)));
        }
        tables.extend(self.item_priors.as_ref().map(|priors| floats("item_priors", priors)));
        let views = tables.iter().map(|(name, shape, kind, bytes)| {
            let view = TensorView::new(*kind, shape.clone(), bytes).expect("bytes fit the shape");
            (*name, view)
        });
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        let bytes = serialize(views, Some(metadata)).map_err(|error| Error::File {
            action: "encoding",
            path: path.to_owned(),
            source: std::io::Error::other(error),
        })?;
        write_file(path, &bytes)
    }

    /// Loads a file that [`Factorisation::save`] wrote, for vectors of width `dimension`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Unreadable`], [`Error::Kind`], [`Error::Contract`].
    pub fn load(path: &Path, dimension: usize) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::reading(path, source))?;
        let unreadable = |reason: String| Error::unreadable(path, reason);
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let json = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(METADATA_KEY))
            .ok_or_else(|| unreadable(format!("it has no metadata entry `{METADATA_KEY}`")))?;
        let contract: Contract =
            serde_json::from_str(json).map_err(|error| unreadable(error.to_string()))?;
        if contract.version != VERSION {
            let reason = format!(
                "its contract has version {}, this build reads version {VERSION}",
                contract.version
            );
            return Err(Error::contract(path, reason));
        }
        if contract.kind != KIND {
            let expected = KIND.to_owned();
            return Err(Error::Kind { path: path.to_owned(), expected, got: contract.kind });
        }
        contract.require("vector", dimension, path)?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let settings: FactorisationSettings = contract
            .training
            .get("settings")
            .cloned()
            .and_then(|settings| serde_json::from_value(settings).ok())
            .ok_or_else(|| Error::contract(path, "its contract states no settings"))?;
        let table = |name: &str| -> Result<Option<Array2<f32>>> {
            if tensors.names().contains(&name) {
                read_floats(&tensors, name).map(Some).map_err(&unreadable)
            } else {
                Ok(None)
            }
        };
        let needed = |name: &str| -> Result<Array2<f32>> {
            table(name)?
                .filter(|table| table.ncols() == dimension)
                .ok_or_else(|| unreadable(format!("it has no table `{name}` of width {dimension}")))
        };
        let gram = read_gram(&tensors, dimension).map_err(&unreadable)?;
        let items = OtherSide { gram, count: contract.dimension("met_items", path)? };
        let map = |name: &str| -> Result<Option<TextProjection>> {
            Ok(table(name)?.map(|weights| TextProjection { weights }))
        };
        Ok(Self {
            item_vectors: needed("item_vectors")?,
            user_vectors: needed("user_vectors")?,
            item_texts: map("item_texts")?,
            user_texts: map("user_texts")?,
            item_priors: table("item_priors")?,
            fold_in: FoldIn::from_side(items, settings),
            fingerprint: contract.fingerprint,
        })
    }
}

fn floats<'a>(name: &'a str, table: &Array2<f32>) -> (&'a str, Vec<usize>, Dtype, Vec<u8>) {
    let bytes = table.iter().flat_map(|value| value.to_le_bytes()).collect();
    (name, table.shape().to_vec(), Dtype::F32, bytes)
}

fn read_floats(tensors: &SafeTensors<'_>, name: &str) -> Result<Array2<f32>, String> {
    let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
    let (Dtype::F32, [rows, columns]) = (tensor.dtype(), tensor.shape()) else {
        return Err(format!("`{name}` is not a table of 32-bit floats"));
    };
    let values = tensor
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        .collect();
    Array2::from_shape_vec((*rows, *columns), values).map_err(|error| error.to_string())
}

fn read_gram(tensors: &SafeTensors<'_>, dimension: usize) -> Result<DMatrix<f64>, String> {
    let tensor = tensors.tensor("item_gram").map_err(|error| error.to_string())?;
    if tensor.dtype() != Dtype::F64 || tensor.shape() != [dimension, dimension] {
        return Err(format!("`item_gram` is not a {dimension} by {dimension} matrix"));
    }
    let values = tensor
        .data()
        .chunks_exact(8)
        .map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    Ok(DMatrix::from_iterator(dimension, dimension, values))
}
