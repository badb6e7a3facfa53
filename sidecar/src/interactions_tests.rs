//! Interactions merged into the records of consumers.

use proptest::prelude::*;

use super::*;

fn nobody() -> UserRecord {
    UserRecord {
        id: UserId(1.into()),
        external_id: "1".to_owned(),
        attributes: BTreeMap::new(),
        history: Vec::new(),
        seen: Vec::new(),
        statistics: Statistics::default(),
        vector: None,
        taste: None,
        posted: Vec::new(),
        revision: None,
        settled: None,
    }
}

fn posted(key: u64, item: u64, time: i64) -> Posted {
    let entry = HistoryEntry { item: ItemId(item.into()), rating: 3.0, time };
    Posted { key: format!("id {key}"), entry }
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_give_the_same_history(
        given in prop::collection::vec((0_u64..6, 0_i64..6), 0..30), seed in any::<u64>()
    ) {
        use rand::SeedableRng;
        use rand::seq::SliceRandom;
        let settings = InteractionSettings::default();
        let one = |(item, time): &(u64, i64)| posted(*item * 100 + *time as u64, *item, *time);
        let all: Vec<Posted> = given.iter().map(one).collect();
        let mut straight = nobody();
        let new = merge(&mut straight, &all, &settings);
        prop_assert_eq!(new, straight.history.len());
        prop_assert_eq!(merge(&mut straight, &all, &settings), 0, "sent again, nothing is new");
        let mut shuffled = all.clone();
        shuffled.extend(all);
        shuffled.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
        let mut other = nobody();
        for part in shuffled.chunks(3) {
            merge(&mut other, part, &settings);
        }
        prop_assert_eq!(&other.history, &straight.history);
        let sorted = |mut seen: Vec<ItemId>| { seen.sort_unstable(); seen };
        prop_assert_eq!(sorted(other.seen), sorted(straight.seen));
        prop_assert!(other.history.is_sorted_by_key(|entry| std::cmp::Reverse((entry.time, entry.item))));
    }
}

#[test]
fn limits_keep_the_latest() {
    let settings = InteractionSettings {
        maximum_batch: 2,
        maximum_history: 3,
        remembered: 2,
        ..InteractionSettings::default()
    };
    let mut user = nobody();
    for number in 0..5 {
        assert_eq!(merge(&mut user, &[posted(number, number, number as i64)], &settings), 1);
    }
    let times: Vec<i64> = user.history.iter().map(|entry| entry.time).collect();
    assert_eq!(times, [4, 3, 2]);
    assert_eq!(
        user.posted.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(),
        ["id 4", "id 3"]
    );
    assert_eq!(user.seen.len(), 5, "what was seen stays seen");
    assert_eq!(user.statistics.count, 3);
}
