"""Matrix factorisation, neighbourhood and baseline models of scikit-surprise, with its defaults."""

PACKAGE = "scikit-surprise"
ENVIRONMENT = "peers-environment"
REQUIREMENTS = "requirements-surprise.txt"
MODELS = [
    "BaselineOnly",
    "SVD",
    "SVD++",
    "KNNBaseline, items",
    "KNNBaseline, users",
    "SlopeOne",
    "CoClustering",
]
# These give the same answer with every seed.
DETERMINISTIC = {"BaselineOnly", "KNNBaseline, items", "KNNBaseline, users", "SlopeOne"}


def model(name, seed):
    import surprise

    item_based = {"name": "pearson_baseline", "user_based": False}
    user_based = {"name": "pearson_baseline", "user_based": True}
    quiet = {"verbose": False}
    makers = {
        "BaselineOnly": lambda: surprise.BaselineOnly(**quiet),
        "SVD": lambda: surprise.SVD(random_state=seed),
        "SVD++": lambda: surprise.SVDpp(random_state=seed, cache_ratings=True),
        "KNNBaseline, items": lambda: surprise.KNNBaseline(sim_options=item_based, **quiet),
        "KNNBaseline, users": lambda: surprise.KNNBaseline(sim_options=user_based, **quiet),
        "SlopeOne": lambda: surprise.SlopeOne(),
        "CoClustering": lambda: surprise.CoClustering(random_state=seed),
    }
    return makers[name]()


def predictions(name, seed, training, test):
    """What the model, trained on the training rows, predicts that the test rows are rated."""
    import surprise

    ratings = [row.rating for row in training]
    reader = surprise.Reader(rating_scale=(min(ratings), max(ratings)))
    known = [(row.user, row.item, row.rating, None) for row in training]
    trained = model(name, seed).fit(surprise.Dataset(reader).construct_trainset(known))
    return [float(trained.predict(row.user, row.item).est) for row in test]
