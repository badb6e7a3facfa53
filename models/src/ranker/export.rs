//! The ranker as an ONNX graph in which one consumer's history serves all rows of a run.

use serde_json::json;

use super::KIND;
use super::network::ABSENT;
use super::train::TrainedRanker;
use crate::error::Result;
use crate::onnx::builder::{GraphBuilder, LayerWeights};
use crate::onnx::{Contract, Port};

pub(super) fn to_onnx(ranker: &TrainedRanker) -> Result<Vec<u8>> {
    let layout = ranker.network.layout;
    let statistics = &ranker.statistics;
    let (vector, key) = (layout.vector, layout.key());
    let mut graph = GraphBuilder::new();

    // The history, standardised: `[history, key]`.
    let raw = graph.concat("raw_keys", &["history", "history_rating"]);
    let mean = graph.weight("key_mean", &[1, key], &statistics.key_mean);
    let scale = graph.weight("key_scale", &[1, key], &statistics.key_scale);
    let centred = graph.binary("Sub", "centred_keys", &raw, &mean);
    let keys = graph.binary("Mul", "keys", &centred, &scale);
    let rating_mean = graph.weight("rating_mean", &[1, 1], &statistics.key_mean[vector..]);
    let rating_scale = graph.weight("rating_scale", &[1, 1], &statistics.key_scale[vector..]);
    let ratings = graph.binary("Sub", "centred_ratings", "history_rating", &rating_mean);
    let ratings = graph.binary("Mul", "ratings", &ratings, &rating_scale);
    let rated_keys = graph.binary("Mul", "rated_keys", &keys, &ratings);

    // The first layer is cut: what comes from attention multiplies the history's rows once for the
    // run instead of every candidate's attended sum. Absent items get no attention, except that
    // all get the same if there is no history at all: then the values become zero here.
    let first = ranker.network.first.weights()?;
    let plain_cut = layout.width() * first.outputs;
    let rated_cut = plain_cut + key * first.outputs;
    let shape = [key, first.outputs];
    let plain = graph.weight("first_keys.weight", &shape, &first.weight[plain_cut..rated_cut]);
    let rated = graph.weight("first_rated_keys.weight", &shape, &first.weight[rated_cut..]);
    let plain = graph.binary("MatMul", "projected_keys", &keys, &plain);
    let rated = graph.binary("MatMul", "projected_rated_keys", &rated_keys, &rated);
    let projected = graph.binary("Add", "projected_values", &plain, &rated);
    let any = graph.largest("any_present", "history_mask");
    let projected = graph.binary("Mul", "present_values", &projected, &any);

    // Attention weights of the candidates: `[batch, history]`. The query's layer meets the keys
    // before it meets the candidates, which leaves one product over the batch.
    let item_columns = vector..2 * vector;
    let mut query = ranker.network.query.weights()?.absorb_standardisation(
        &statistics.feature_mean[item_columns.clone()],
        &statistics.feature_scale[item_columns],
    );
    let shrink = 1.0 / (key as f32).sqrt();
    query.weight.iter_mut().chain(&mut query.bias).for_each(|value| *value *= shrink);
    let query_weight = graph.weight("query.weight", &[vector, key], &query.weight);
    let query_bias = graph.weight("query.bias", &[1, key], &query.bias);
    let score_weight = graph.product_with_transposed("score_weight", &query_weight, &keys);
    let score_bias = graph.product_with_transposed("score_bias", &query_bias, &keys);
    let one = graph.weight("one", &[1, 1], &[1.0]);
    let penalty = graph.weight("absent", &[1, 1], &[ABSENT]);
    let absence = graph.binary("Sub", "absence", "history_mask", &one);
    let absence = graph.binary("Mul", "absence_penalty", &absence, &penalty);
    let score_bias = graph.binary("Add", "masked_score_bias", &score_bias, &absence);
    let scores = graph.binary("MatMul", "scores", "item", &score_weight);
    let scores = graph.binary("Add", "masked_scores", &scores, &score_bias);
    let weights = graph.softmax("attention", &scores);
    let from_history = graph.binary("MatMul", "from_history", &weights, &projected);

    let product = graph.binary("Mul", "user_item", "user", "item");
    let mut inputs = vec!["user", "item", product.as_str(), "positive", "negative"];
    if layout.context > 0 {
        inputs.push("context");
    }
    let features = graph.concat("raw_features", &inputs);
    let features = graph.bound("features", &features);
    let from_features = LayerWeights {
        inputs: layout.width(),
        outputs: first.outputs,
        weight: first.weight[..plain_cut].to_vec(),
        bias: first.bias,
    }
    .absorb_standardisation(&statistics.feature_mean, &statistics.feature_scale);
    let from_features = graph.dense("first", &features, &from_features);
    let hidden = graph.binary("Add", "first_sum", &from_features, &from_history);
    let hidden = graph.unary("Relu", "first_hidden", &hidden);
    let hidden = graph.dense("second", &hidden, &ranker.network.second.weights()?);
    let hidden = graph.unary("Relu", "second_hidden", &hidden);
    let mut output = ranker.network.output.weights()?;
    for row in output.weight.chunks_exact_mut(2).chain([output.bias.as_mut_slice()]) {
        row[0] *= statistics.rating_deviation;
    }
    output.bias[0] += statistics.rating_mean;
    let mut output = graph.dense("output", &hidden, &output);
    if let Some(linear) = &ranker.network.linear {
        let columns = layout.before_context()..layout.width();
        let mut linear = linear.weights()?.absorb_standardisation(
            &statistics.feature_mean[columns.clone()],
            &statistics.feature_scale[columns],
        );
        for row in linear.weight.chunks_exact_mut(2).chain([linear.bias.as_mut_slice()]) {
            row[0] *= statistics.rating_deviation;
        }
        let context = graph.bound("context_features", "context");
        let linear = graph.dense("linear", &context, &linear);
        output = graph.binary("Add", "output_sum", &output, &linear);
    }
    graph.split(&output, &[("rating", 1), ("like_logit", 1)]);
    graph.unary("Sigmoid", "like", "like_logit");

    Ok(graph.finish(&contract(ranker)))
}

fn contract(ranker: &TrainedRanker) -> Contract {
    let layout = ranker.network.layout;
    let statistics = &ranker.statistics;
    let history = ranker.settings.history_length;
    let mut contract = Contract::new(KIND, ranker.fingerprint.clone());
    contract.dimensions = [
        ("vector", layout.vector),
        ("code", layout.code),
        ("context", layout.context),
        ("history", history),
    ]
    .map(|(name, size)| (name.to_owned(), size))
    .into();
    contract.context = ranker.shape.context.clone();
    contract.inputs = vec![
        Port::rows("user", layout.vector),
        Port::rows("item", layout.vector),
        Port::rows("positive", layout.code),
        Port::rows("negative", layout.code),
    ];
    if layout.context > 0 {
        contract.inputs.push(Port::rows("context", layout.context));
    }
    contract.inputs.extend([
        Port::fixed("history", &[history, layout.vector]),
        Port::fixed("history_rating", &[history, 1]),
        Port::fixed("history_mask", &[1, history]),
    ]);
    contract.outputs = vec![Port::rows("rating", 1), Port::rows("like", 1)];
    contract.training = json!({ "settings": ranker.settings, "report": ranker.report });
    contract.baseline = [
        ("user", &statistics.user),
        ("item", &statistics.item),
        ("positive", &statistics.positive),
        ("negative", &statistics.negative),
        ("context", &statistics.context),
        // One history item: the mean vector, then the mean rating.
        ("history", &statistics.key_mean),
    ]
    .map(|(name, mean)| (name.to_owned(), mean.clone()))
    .into();
    contract
}
