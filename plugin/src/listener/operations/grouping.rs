//! Collects scored points into groups by the values of a payload key, as Qdrant does it.

use std::collections::{BTreeMap, HashMap, HashSet};

use qdrant_edge::JsonPath;
use serde_json::Value;

use crate::id::PointId;
use crate::store::{Payload, ScoredPoint};

/// What the points of a group have in common. Only strings and integers make groups.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::listener) enum GroupKey {
    /// A string.
    Text(String),
    /// An integer from 0.
    Unsigned(u64),
    /// An integer below 0.
    Signed(i64),
}

impl GroupKey {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Number(number) => {
                number.as_u64().map(Self::Unsigned).or_else(|| number.as_i64().map(Self::Signed))
            }
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The key as JSON.
    pub(in crate::listener) fn json(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Unsigned(number) => (*number).into(),
            Self::Signed(number) => (*number).into(),
        }
    }
}

/// A group of an answer: its points, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::listener) struct Group {
    /// What they have in common.
    pub(in crate::listener) key: GroupKey,
    /// The points.
    pub(in crate::listener) hits: Vec<ScoredPoint>,
}

/// Groups that are being filled.
#[derive(Debug)]
pub(super) struct Grouping {
    path: JsonPath,
    groups: usize,
    group_size: usize,
    /// Whether less is nearer.
    ascending: bool,
    found: HashMap<GroupKey, Vec<ScoredPoint>>,
    /// The keys in the order in which they were found, which decides between equal scores.
    order: Vec<GroupKey>,
    seen: HashSet<PointId>,
}

impl Grouping {
    pub(super) fn new(path: JsonPath, groups: usize, group_size: usize, ascending: bool) -> Self {
        Self {
            path,
            groups,
            group_size,
            ascending,
            found: HashMap::new(),
            order: Vec::new(),
            seen: HashSet::new(),
        }
    }

    /// Adds points to the groups of all their values. A point one of whose values cannot make a group
    /// is left out, as Qdrant leaves it out.
    pub(super) fn add(&mut self, points: Vec<ScoredPoint>) {
        for scored in points {
            // Also of a point that is left out: asked for again, it would take others' places.
            self.seen.insert(scored.point.id);
            let Some(keys) = keys(&self.path, &scored.point.payload) else { continue };
            for key in keys {
                let hits = self.found.entry(key.clone()).or_insert_with(|| {
                    self.order.push(key);
                    Vec::new()
                });
                if hits.iter().all(|hit| hit.point.id != scored.point.id) {
                    hits.push(scored.clone());
                }
            }
        }
    }

    /// The points that were added.
    pub(super) fn seen(&self) -> impl Iterator<Item = PointId> {
        self.seen.iter().copied()
    }

    /// The groups that need no more points.
    pub(super) fn filled(&self) -> Vec<GroupKey> {
        self.order.iter().filter(|key| self.is_filled(key)).cloned().collect()
    }

    /// Of the groups that would be answered now, those that need more points.
    pub(super) fn unfilled_best(&self) -> Vec<GroupKey> {
        self.best().into_iter().filter(|key| !self.is_filled(key)).collect()
    }

    /// Whether as many groups as were asked for are filled.
    pub(super) fn is_complete(&self) -> bool {
        self.best().iter().filter(|key| self.is_filled(key)).count() >= self.groups
    }

    /// The best groups, each with its nearest points.
    pub(super) fn into_groups(mut self) -> Vec<Group> {
        let best = self.best();
        let groups = best.into_iter().filter_map(|key| {
            let mut hits = self.found.remove(&key)?;
            hits.sort_by(|left, right| self.nearer(left.score, right.score));
            hits.truncate(self.group_size);
            Some(Group { key, hits })
        });
        groups.collect()
    }

    fn is_filled(&self, key: &GroupKey) -> bool {
        self.found.get(key).is_some_and(|hits| hits.len() >= self.group_size)
    }

    fn best(&self) -> Vec<GroupKey> {
        let mut best: Vec<(f32, &GroupKey)> = self
            .order
            .iter()
            .filter_map(|key| {
                let scores = self.found.get(key)?.iter().map(|hit| hit.score);
                Some((scores.min_by(|left, right| self.nearer(*left, *right))?, key))
            })
            .collect();
        best.sort_by(|left, right| self.nearer(left.0, right.0));
        best.into_iter().take(self.groups).map(|(_, key)| key.clone()).collect()
    }

    fn nearer(&self, left: f32, right: f32) -> std::cmp::Ordering {
        if self.ascending { left.total_cmp(&right) } else { right.total_cmp(&left) }
    }
}

/// The different group keys of a payload, or none if one of its values cannot be a key.
fn keys(path: &JsonPath, payload: &Payload) -> Option<Vec<GroupKey>> {
    let mut keys = Vec::new();
    for value in path.value_get(payload) {
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            single => vec![single],
        };
        for value in values {
            let key = GroupKey::of(value)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Some(keys)
}

/// The keys as values of one condition each: integers and strings are matched by different ones.
pub(super) fn by_kind(keys: &[GroupKey]) -> Vec<Value> {
    let mut kinds: BTreeMap<bool, Vec<Value>> = BTreeMap::new();
    for key in keys {
        let is_text = matches!(key, GroupKey::Text(_));
        let value = key.json();
        // An integer that the engine cannot match is left out; its points are told apart by id.
        if is_text || value.as_i64().is_some() {
            kinds.entry(is_text).or_default().push(value);
        }
    }
    kinds.into_values().map(Value::Array).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::{Point, Vectors};

    fn scored(id: u64, score: f32, value: Value) -> ScoredPoint {
        let payload = json!({"list": value}).as_object().cloned().unwrap_or_default();
        ScoredPoint { score, point: Point { id: id.into(), vectors: Vectors::new(), payload } }
    }

    fn answered(grouping: Grouping) -> Vec<(Value, Vec<PointId>)> {
        let groups = grouping.into_groups().into_iter();
        groups
            .map(|group| (group.key.json(), group.hits.iter().map(|hit| hit.point.id).collect()))
            .collect()
    }

    fn grouping(ascending: bool) -> Grouping {
        Grouping::new("list".parse().expect("a key is a path"), 2, 2, ascending)
    }

    #[test]
    fn the_best_groups_have_their_nearest_points() {
        let mut groups = grouping(false);
        groups.add(vec![
            scored(1, 0.1, json!("a")),
            scored(2, 0.9, json!("b")),
            scored(3, 0.5, json!("a")),
            scored(4, 0.4, json!("a")),
            scored(5, 0.3, json!(7)),
        ]);
        assert!(!groups.is_complete());
        assert_eq!(groups.filled(), [GroupKey::Text("a".to_owned())]);
        assert_eq!(groups.unfilled_best(), [GroupKey::Text("b".to_owned())]);
        let expected = vec![(json!("b"), vec![2.into()]), (json!("a"), vec![3.into(), 4.into()])];
        assert_eq!(answered(groups), expected);
    }

    #[test]
    fn of_distances_the_smallest_is_best() {
        let mut groups = grouping(true);
        groups.add(vec![scored(1, 3.0, json!("a")), scored(2, 1.0, json!("b"))]);
        assert_eq!(answered(groups)[0].0, json!("b"));
    }

    #[test]
    fn a_point_is_in_the_group_of_each_of_its_values_once() {
        let mut groups = grouping(false);
        groups.add(vec![scored(1, 1.0, json!(["a", "a", -3]))]);
        groups.add(vec![scored(1, 1.0, json!(["a", "a", -3]))]);
        let expected = vec![(json!("a"), vec![1.into()]), (json!(-3), vec![1.into()])];
        assert_eq!(answered(groups), expected);
    }

    #[test]
    fn a_value_that_makes_no_group_leaves_its_point_out() {
        let mut groups = grouping(false);
        for value in [json!(null), json!(1.5), json!(true), json!({}), json!(["a", 1.5])] {
            groups.add(vec![scored(1, 1.0, value)]);
        }
        assert!(answered(groups).is_empty());
    }

    #[test]
    fn keys_are_matched_by_kind() {
        let keys =
            [GroupKey::Text("a".to_owned()), GroupKey::Unsigned(1), GroupKey::Unsigned(u64::MAX)];
        assert_eq!(by_kind(&keys), [json!([1]), json!(["a"])]);
    }
}
