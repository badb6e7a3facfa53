//! Tests of the factorisation as a whole, on made-up tastes and on MovieLens-100k.

use std::collections::BTreeMap;
use std::fs;

use ndarray::{Array2, ArrayView1};
use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::progress::Silent;
use crate::testing::{assert_close, table};
use crate::weights;

/// Two tastes: even users like even items, odd users odd ones. Each user has met most items.
fn two_tastes(users: u32, items: u32) -> Vec<Interaction> {
    let mut pairs = Vec::new();
    for user in 0..users {
        for item in (0..items).filter(|item| (user * 7 + item * 3) % 5 != 0) {
            let rating = if user % 2 == item % 2 { 5.0 } else { 1.0 };
            pairs.push(Interaction { user, item, rating });
        }
    }
    pairs
}

fn settings() -> FactorisationSettings {
    FactorisationSettings { dimension: 4, ..Default::default() }
}

/// A text of two features that tells the taste.
fn taste_texts(rows: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, 2), |(row, column)| if row % 2 == column { 1.0 } else { -0.5 })
}

fn dot(a: &[f32], b: ArrayView1<'_, f32>) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn learn(pairs: &[Interaction], texts: Option<&Array2<f32>>, items: usize) -> Factorisation {
    let data = FactorisationData {
        users: 30,
        items,
        interactions: pairs,
        item_texts: texts.map(|texts| texts.view()),
        user_texts: None,
    };
    Factorisation::train(&data, &settings(), &Silent).unwrap()
}

#[test]
fn unmet_items_of_ones_taste_score_higher() {
    let pairs = two_tastes(30, 20);
    let learned = learn(&pairs, None, 20);
    for user in 0..30u32 {
        let vector = learned.user_vectors().row(user as usize).to_vec();
        let met: Vec<u32> = pairs.iter().filter(|p| p.user == user).map(|p| p.item).collect();
        let mean = |taste: u32| {
            let unmet: Vec<f32> = (0..20u32)
                .filter(|item| !met.contains(item) && item % 2 == taste)
                .map(|item| dot(&vector, learned.item_vectors().row(item as usize)))
                .collect();
            unmet.iter().sum::<f32>() / unmet.len() as f32
        };
        assert!(mean(user % 2) > mean(1 - user % 2) + 0.2, "user {user}");
    }
}

#[test]
fn folding_in_a_known_user_gives_the_known_vector() {
    let pairs = two_tastes(30, 20);
    let learned = learn(&pairs, None, 20);
    let items: Vec<Vec<f32>> =
        learned.item_vectors().rows().into_iter().map(|row| row.to_vec()).collect();
    for user in [0u32, 7, 29] {
        let history: Vec<(&[f32], f32)> = pairs
            .iter()
            .filter(|pair| pair.user == user)
            .map(|pair| (items[pair.item as usize].as_slice(), pair.rating))
            .collect();
        let folded = learned.fold_in(&history, None).unwrap();
        assert_close("folded in", &folded, &learned.user_vectors().row(user as usize).to_vec());
        // Against bare item vectors the same equations hold.
        let foreign = FoldIn::new(learned.item_vectors(), &settings()).unwrap();
        assert_close("foreign", &foreign.fold_in(&history, None).unwrap(), &folded);
    }
}

#[test]
fn an_item_that_nobody_met_stands_where_its_text_says() {
    let texts = taste_texts(21);
    let learned = learn(&two_tastes(30, 20), Some(&texts), 21);
    let unmet = learned.item_vectors().row(20).to_vec();
    let from_text = learned.item_from_text(&texts.row(20).to_vec()).unwrap();
    assert_close("unmet", &unmet, &from_text);
    let score = |user: usize| dot(&unmet, learned.user_vectors().row(user));
    assert!(score(0) > score(1) + 0.2, "{} {}", score(0), score(1));
}

#[test]
fn a_profile_text_moves_a_new_user_and_stands_alone_without_history() {
    let (texts, pairs) = (taste_texts(30), two_tastes(30, 20));
    let data = FactorisationData {
        users: 30,
        items: 20,
        interactions: &pairs,
        item_texts: None,
        user_texts: Some(texts.view()),
    };
    let learned = Factorisation::train(&data, &settings(), &Silent).unwrap();
    assert!(learned.knows_user_texts());
    let even = learned.fold_in(&[], Some(&texts.row(0).to_vec())).unwrap();
    let score = |item: usize| dot(&even, learned.item_vectors().row(item));
    assert!(score(2) > score(3) + 0.2);
    let item = learned.item_vectors().row(3).to_vec();
    let history = [(item.as_slice(), 5.0)];
    let with = learned.fold_in(&history, Some(&texts.row(0).to_vec())).unwrap();
    let without = learned.fold_in(&history, None).unwrap();
    assert!(
        dot(&with, learned.item_vectors().row(2)) > dot(&without, learned.item_vectors().row(2))
    );
}

#[test]
fn the_same_seed_gives_the_same_vectors_and_the_last_rating_of_a_pair_counts() {
    let pairs = two_tastes(30, 20);
    let mut repeated: Vec<Interaction> =
        pairs.iter().map(|pair| Interaction { rating: 3.0, ..*pair }).collect();
    repeated.extend(&pairs);
    assert_eq!(learn(&pairs, None, 20), learn(&repeated, None, 20));
}

#[test]
fn a_saved_factorisation_comes_back_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("vectors.safetensors");
    let learned = learn(&two_tastes(30, 20), Some(&taste_texts(20)), 20);
    assert!(matches!(Factorisation::load(&path, 4).unwrap_err(), Error::Missing { .. }));
    learned.save(&path).unwrap();
    assert_eq!(Factorisation::load(&path, 4).unwrap(), learned);
    let error = Factorisation::load(&path, 32).unwrap_err().to_string();
    assert!(error.contains("`vector` = 4, but the data has 32"), "{error}");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = Factorisation::load(&path, 4).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "cut at {length}: {error}");
    }
}

#[test]
fn bad_input_is_named() {
    let check = |pairs: &[Interaction], texts: Option<&Array2<f32>>, expected: &str| {
        let data = FactorisationData {
            users: 3,
            items: 3,
            interactions: pairs,
            item_texts: texts.map(|texts| texts.view()),
            user_texts: None,
        };
        let error = Factorisation::train(&data, &settings(), &Silent).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let good = Interaction { user: 0, item: 0, rating: 5.0 };
    check(&[], None, "the list of interactions is empty");
    check(&[good, Interaction { item: 3, ..good }], None, "interaction 1 has user 0 and item 3");
    check(&[Interaction { rating: f32::NAN, ..good }], None, "the list of ratings holds NaN");
    check(&[good], Some(&table(1, 2, 4)), "the table of item texts has 2 rows");
    let mut texts = table(1, 3, 4);
    texts[(2, 1)] = f32::INFINITY;
    check(&[good], Some(&texts), "inf at row 2, column 1");

    let learned = learn(&two_tastes(30, 20), None, 20);
    let error = learned.fold_in(&[], None).unwrap_err().to_string();
    assert!(error.starts_with("the history is empty"), "{error}");
    let error = learned.fold_in(&[(&[1.0; 3], 5.0)], None).unwrap_err().to_string();
    assert_eq!(error, "history item 0 has width 3, but needs width 4");
    let error = learned.fold_in(&[(&[f32::NAN; 4], 5.0)], None).unwrap_err().to_string();
    assert!(error.starts_with("history item 0 holds NaN"), "{error}");
    let error = learned.item_from_text(&[1.0]).unwrap_err().to_string();
    assert!(error.contains("train with texts of items"), "{error}");
    let wrong = FactorisationSettings { regularisation: 0.0, ..settings() };
    let error = FoldIn::new(learned.item_vectors(), &wrong).unwrap_err().to_string();
    assert!(error.starts_with("setting `regularisation` is 0"), "{error}");
}

/// MovieLens-100k with each user's newest fifth held out.
struct MovieLens {
    training: Vec<Interaction>,
    seen: Vec<Vec<u32>>,
    liked_later: Vec<Vec<u32>>,
    items: usize,
    genres: Array2<f32>,
}

fn lines(file: &str) -> Vec<Vec<String>> {
    let path = weights::require("movielens-100k", file)
        .unwrap_or_else(|error| panic!("{error}: run `make test`, which fetches the data"));
    let text = fs::read_to_string(path).expect("the data set is UTF-8");
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn movie_lens() -> MovieLens {
    let mut item_rows: BTreeMap<String, u32> = BTreeMap::new();
    let mut by_user: BTreeMap<String, Vec<(f64, u32, f32)>> = BTreeMap::new();
    for row in lines("ml-100k.inter") {
        let next = item_rows.len() as u32;
        let item = *item_rows.entry(row[1].clone()).or_insert(next);
        let rating: f32 = row[2].parse().expect("a rating");
        let time: f64 = row[3].parse().expect("a time");
        by_user.entry(row[0].clone()).or_default().push((time, item, rating));
    }
    let mut training = Vec::new();
    let (mut seen, mut liked_later) = (Vec::new(), Vec::new());
    for (user, mut ratings) in by_user.into_values().enumerate() {
        ratings.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let (early, late) = ratings.split_at(ratings.len() * 4 / 5);
        training.extend(early.iter().map(|r| Interaction {
            user: user as u32,
            item: r.1,
            rating: r.2,
        }));
        seen.push(early.iter().map(|r| r.1).collect());
        liked_later.push(late.iter().filter(|r| r.2 >= 4.0).map(|r| r.1).collect());
    }
    let mut genre_columns: BTreeMap<String, usize> = BTreeMap::new();
    let described = lines("ml-100k.item");
    for genre in described.iter().flat_map(|row| row[3].split(' ')) {
        let next = genre_columns.len();
        genre_columns.entry(genre.to_owned()).or_insert(next);
    }
    let mut genres = Array2::zeros((item_rows.len(), genre_columns.len()));
    for row in &described {
        if let Some(item) = item_rows.get(&row[0]) {
            for genre in row[3].split(' ') {
                genres[(*item as usize, genre_columns[genre])] = 1.0;
            }
        }
    }
    MovieLens { training, seen, liked_later, items: item_rows.len(), genres }
}

#[test]
fn on_movielens_the_vectors_retrieve_far_better_than_popularity() {
    let data = movie_lens();
    let learned = Factorisation::train(
        &FactorisationData {
            users: data.seen.len(),
            items: data.items,
            interactions: &data.training,
            item_texts: Some(data.genres.view()),
            user_texts: None,
        },
        &FactorisationSettings::default(),
        &Silent,
    )
    .unwrap();
    let score =
        |user: usize| learned.item_vectors().dot(&learned.user_vectors().row(user)).to_vec();
    let ours = retrieval(score, &data.seen, &data.liked_later).unwrap();
    let likes = data.training.iter().filter(|pair| pair.rating >= 4.0).map(|pair| pair.item);
    let popular = popularity(data.items, likes);
    let popular = retrieval(|_| popular.clone(), &data.seen, &data.liked_later).unwrap();
    assert!(ours.recall_at_10 > 1.3 * popular.recall_at_10, "{ours:?} {popular:?}");
    assert!(ours.ndcg_at_10 > 1.3 * popular.ndcg_at_10, "{ours:?} {popular:?}");
    assert!(ours.recall_at_200 > popular.recall_at_200, "{ours:?} {popular:?}");
}

#[test]
fn items_forget_a_pair_and_keep_their_space() {
    let texts = taste_texts(20);
    let pairs = two_tastes(30, 20);
    let learned = learn(&pairs, Some(&texts), 20);
    let nearly = |left: ArrayView1<'_, f32>, right: ArrayView1<'_, f32>| {
        let difference = (&left - &right).mapv(|value| value * value).sum().sqrt();
        difference < 0.05 * left.mapv(|value| value * value).sum().sqrt()
    };
    let same = learned.items_as_known_from(30, &pairs, None).unwrap();
    for (before, after) in learned.item_vectors().rows().into_iter().zip(same.rows()) {
        assert!(nearly(before, after), "{before} {after}");
    }
    // Item 3 was rated by user 1 alone: without that it stands where its text says, and only there.
    let alone: Vec<Interaction> =
        pairs.iter().filter(|pair| pair.item != 3 || pair.user == 1).copied().collect();
    assert!(alone.iter().any(|pair| pair.item == 3));
    let learned = learn(&alone, Some(&texts), 20);
    let without: Vec<Interaction> = alone.iter().filter(|pair| pair.item != 3).copied().collect();
    let forgotten = learned.items_as_known_from(30, &without, None).unwrap();
    let prior = learned.item_from_text(&texts.row(3).to_vec()).unwrap();
    assert_close("the forgotten item", &forgotten.row(3).to_vec(), &prior);
    assert!(nearly(learned.item_vectors().row(5), forgotten.row(5)));
    let beyond = [Interaction { user: 0, item: 20, rating: 5.0 }];
    assert!(matches!(learned.items_as_known_from(30, &beyond, None), Err(Error::Shape { .. })));
}
