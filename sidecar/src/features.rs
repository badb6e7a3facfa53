//! The features of a pair that the ranker sees besides vectors and codes. Training and serving both
//! come through here, so that they cannot drift apart.

use whyrank_models::metrics::cosine;
use whyrank_models::ranker::{ConsumerInput, RankerShape};
use whyrank_models::taste::Taste;
use whyrank_plugin::Statistics;

/// Names of the context features, in the order of their values; part of the ranker's contract.
pub const CONTEXT: [&str; 8] = [
    "expected_rating",
    "user_bias",
    "taste",
    "dot_product",
    "item_count_log",
    "user_count_log",
    "nearest_liked",
    "nearest_disliked",
];

/// The shape of the ranker's inputs for these dimensions.
pub fn shape(vector: usize, code: usize) -> RankerShape {
    RankerShape { vector, code, context: CONTEXT.iter().map(|name| (*name).to_owned()).collect() }
}

/// What is known of a consumer when candidates are ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerState {
    /// User vector, `[d]`.
    pub vector: Vec<f32>,
    /// Item vector `[d]` and rating of the latest interactions, oldest first.
    pub history: Vec<(Vec<f32>, f32)>,
    /// How the ratings of the whole history differ from an average consumer's.
    pub taste: Taste,
    /// Number and mean of the consumer's ratings.
    pub statistics: Statistics,
}

impl ConsumerState {
    /// The history as the ranker borrows it.
    pub fn history_rows(&self) -> Vec<(&[f32], f32)> {
        self.history.iter().map(|(vector, rating)| (vector.as_slice(), *rating)).collect()
    }

    /// The consumer's part of the ranker's input, over rows from [`Self::history_rows`].
    pub fn input<'a>(&'a self, history: &'a [(&'a [f32], f32)]) -> ConsumerInput<'a> {
        ConsumerInput { user: &self.vector, history }
    }
}

/// What ratings mean in the data at hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RatingScale {
    /// A rating from here on is a like.
    pub like_from: f32,
    /// A rating up to here is a dislike.
    pub dislike_to: f32,
    /// The lowest and the highest rating that there can be, as far as the configuration says so.
    pub possible: [Option<f32>; 2],
}

impl RatingScale {
    /// What an average consumer is expected to rate an item: the mean of its ratings before indexing has
    /// found out more, and the middle of the scale for one that nobody rated.
    pub fn expected(self, item: Statistics) -> f32 {
        let neutral = (self.like_from + self.dislike_to) / 2.0;
        item.expected_rating.or(item.mean_rating).unwrap_or(neutral)
    }

    /// Why this cannot be a rating; nothing if it can. Where the configuration names no limits, one that lies
    /// farther from all that was `learned` from, lowest and highest, than these lie apart is of another scale.
    pub fn refusal(self, rating: f32, learned: Option<[f32; 2]>) -> Option<String> {
        if !rating.is_finite() {
            return Some("not a finite number".to_owned());
        }
        let [low, high] = self.possible;
        if low.is_some_and(|low| rating < low) || high.is_some_and(|high| rating > high) {
            let low = low.map_or(String::new(), |low| format!(" from {low}"));
            let high = high.map_or(String::new(), |high| format!(" to {high}"));
            return Some(format!("{rating}, not a number{low}{high}"));
        }
        let [lowest, highest] = learned.filter(|[lowest, highest]| lowest < highest)?;
        let width = highest - lowest;
        let below = low.is_none() && rating < lowest - width;
        let above = high.is_none() && rating > highest + width;
        (below || above).then(|| {
            format!(
                "{rating}, but the ratings that were learned from go from {lowest} to {highest}; if it can be one, \
                 say so by `import.rating_minimum` and `import.rating_maximum`"
            )
        })
    }
}

/// The context features of a consumer and an item, in the order of [`CONTEXT`].
pub fn context(
    consumer: &ConsumerState,
    item: &[f32],
    item_statistics: Statistics,
    scale: RatingScale,
) -> Vec<f32> {
    let dot: f32 = consumer.vector.iter().zip(item).map(|(user, item)| user * item).sum();
    let log = |count: u64| (count as f32).ln_1p();
    let nearest = |wanted: &dyn Fn(f32) -> bool| {
        let known = consumer.history.iter().filter(|(_, rating)| wanted(*rating));
        known.map(|(vector, _)| cosine(vector, item) as f32).fold(0.0, f32::max)
    };
    vec![
        scale.expected(item_statistics),
        consumer.taste.bias,
        consumer.taste.deviation(item),
        dot,
        log(item_statistics.count),
        log(consumer.statistics.count),
        nearest(&|rating| rating >= scale.like_from),
        nearest(&|rating| rating <= scale.dislike_to),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: RatingScale =
        RatingScale { like_from: 4.0, dislike_to: 2.0, possible: [None, None] };

    #[test]
    fn each_feature_stands_in_its_place() {
        let consumer = ConsumerState {
            vector: vec![1.0, 2.0],
            history: vec![(vec![0.0, 1.0], 5.0), (vec![1.0, 0.0], 1.0)],
            taste: Taste { bias: -0.5, weights: vec![0.25, 9.0] },
            statistics: Statistics { count: 2, mean_rating: Some(3.5), ..Statistics::default() },
        };
        let item = Statistics { expected_rating: Some(3.25), ..Statistics::default() };
        let features = context(&consumer, &[3.0, 0.0], item, SCALE);
        let log = 2.0_f32.ln_1p();
        assert_eq!(features, [3.25, -0.5, 0.25, 3.0, 0.0, log, 0.0, 1.0]);
        assert_eq!(features.len(), CONTEXT.len());
    }

    #[test]
    fn the_best_that_is_known_of_an_item_is_expected() {
        let rated = Statistics { count: 1, mean_rating: Some(5.0), ..Statistics::default() };
        assert_eq!(SCALE.expected(rated), 5.0);
        assert_eq!(SCALE.expected(Statistics { expected_rating: Some(3.9), ..rated }), 3.9);
        assert_eq!(SCALE.expected(Statistics::default()), 3.0);
    }

    #[test]
    fn what_cannot_be_a_rating_is_refused() {
        let learned = Some([1.0, 5.0]);
        let told = SCALE.refusal(700.0, learned).unwrap();
        assert!(told.contains("700") && told.contains("import.rating_maximum"), "{told}");
        assert!(SCALE.refusal(-20.0, learned).is_some());
        // Perhaps nobody has given a 6 yet.
        assert_eq!(SCALE.refusal(6.0, learned), None);
        // One value alone, as of purchases, is no scale.
        assert_eq!(SCALE.refusal(700.0, Some([1.0, 1.0])), None);
        assert_eq!(SCALE.refusal(700.0, None), None);
        assert!(SCALE.refusal(f32::NAN, None).is_some());
        let limited = RatingScale { possible: [Some(0.5), Some(800.0)], ..SCALE };
        assert_eq!(limited.refusal(700.0, learned), None);
        assert_eq!(limited.refusal(0.0, learned).unwrap(), "0, not a number from 0.5 to 800");
        let above = RatingScale { possible: [None, Some(5.0)], ..SCALE };
        assert_eq!(above.refusal(6.0, learned).unwrap(), "6, not a number to 5");
    }

    #[test]
    fn a_consumer_without_history_has_finite_features() {
        let consumer = ConsumerState {
            vector: vec![0.0; 2],
            history: Vec::new(),
            taste: Taste::default(),
            statistics: Statistics::default(),
        };
        let features = context(&consumer, &[0.0, 0.0], Statistics::default(), SCALE);
        assert!(features.iter().all(|value| value.is_finite()), "{features:?}");
    }
}
