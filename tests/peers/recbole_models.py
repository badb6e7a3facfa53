"""Neural models of RecBole, which predict ratings here.

RecBole trains DeepFM and DIN to predict a label between 0 and 1 by cross-entropy, and SASRec only to
order items, so SASRec is left out. The label here is where a rating lies between the lowest and the
highest of the training part. Cross-entropy with such a label is least at its expected value, just as with
a label of 0 or 1, so the models are used as they are and what they predict is a rating on that scale.

How many epochs to train is chosen on the newest tenth of each user's training part; then the model is
trained anew on the whole training part for that long, because the other peers learn from all of it too.
The test part is only predicted.

DIN sees the newest items of a user's training part, as RecBole has it: which ones, not how they were
rated. It is the only one here that knows an order of interactions. All else is RecBole's default.
"""

import collections
import logging
import os
import pathlib
import random
import tempfile
import warnings

PACKAGE = "recbole"
ENVIRONMENT = "peers-environment-recbole"
REQUIREMENTS = "requirements-recbole.txt"
MODELS = ["DeepFM", "DIN"]
DETERMINISTIC = set()

# RecBole's layers for DIN, three of 256 for each of 50 items, are fifty times as much work, too much for a
# CPU. These widths are those of the attention in the code of DIN's authors.
SETTINGS = {"DeepFM": {}, "DIN": {"mlp_hidden_size": [80, 40], "MAX_ITEM_LIST_LENGTH": 20}}

# The parts of the training part that are learned from, and that say when to stop.
CHOOSING, LEARNING = [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]


def in_order(training, seed):
    """The rows, oldest first; those with the same time in no order that the table had."""
    rows = list(training)
    random.Random(seed).shuffle(rows)
    return sorted(rows, key=lambda row: row.time)


def write_table(path, ordered, scale, seed):
    """Writes the table that RecBole reads. In place of a time it has how far into the user's own history
    an interaction is, so that the last tenth of all rows is about the last tenth of every user's: users
    of few interactions have one there by chance, which the offset decides."""
    lowest, width = scale
    draw = random.Random(seed)
    totals = collections.Counter(row.user for row in ordered)
    offsets = {user: draw.random() for user in totals}
    before = collections.Counter()
    with open(path, "w", encoding="utf-8") as table:
        print("user_id:token", "item_id:token", "share:float", "timestamp:float", sep="\t", file=table)
        users, items = numbers(ordered, "user"), numbers(ordered, "item")
        for row in ordered:
            place = (before[row.user] + offsets[row.user]) / totals[row.user]
            before[row.user] += 1
            share = (row.rating - lowest) / width
            print(users[row.user], items[row.item], share, place, sep="\t", file=table)


def numbers(rows, column):
    """A number for each user or item: their own names may hold what separates columns."""
    names = dict.fromkeys(getattr(row, column) for row in rows)
    return {name: str(number) for number, name in enumerate(names)}


def settings(name, folder, seed, split, epochs):
    return {
        "data_path": str(folder),
        "checkpoint_dir": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "share", "timestamp"]},
        "LABEL_FIELD": "share",
        "train_neg_sample_args": None,
        "repeatable": True,
        "eval_args": {"split": {"RS": split}, "group_by": None, "order": "TO", "mode": "labeled"},
        "metrics": ["RMSE"],
        "valid_metric": "RMSE",
        # After so many epochs without gain it ends.
        "stopping_step": 5,
        "seed": seed,
        # On the CPU everywhere, so that figures do not depend on who has a GPU.
        "gpu_id": "",
        "show_progress": False,
        **({"epochs": epochs} if epochs else {}),
        **SETTINGS[name],
    }


def train(name, folder, seed, split, epochs=None):
    """The trained model, its data set and the error on the validation part after each epoch."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.trainer import Trainer
    from recbole.utils import get_model, init_seed

    config = Config(model=name, dataset="split", config_dict=settings(name, folder, seed, split, epochs))
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    training, validation, _ = data_preparation(config, dataset)
    model = get_model(name)(config, training.dataset)
    errors = []
    Trainer(config, model).fit(
        training,
        validation if split[1] else None,
        verbose=False,
        saved=False,
        callback_fn=lambda epoch, error: errors.append(error),
    )
    return model, dataset, errors


def questions(dataset, ordered, test):
    """The test rows as RecBole's models are asked them; padding where training has no such user or item."""
    import torch
    from recbole.data.interaction import Interaction

    def identities(column, field):
        names = numbers(ordered, column)
        return {name: int(dataset.token2id(field, number)) for name, number in names.items()}

    users, items = identities("user", "user_id"), identities("item", "item_id")
    longest = dataset.config["MAX_ITEM_LIST_LENGTH"]
    histories = collections.defaultdict(lambda: collections.deque(maxlen=longest))
    for row in ordered:
        histories[row.user].append(items[row.item])
    lists = [list(histories[row.user]) for row in test]
    return Interaction({
        "user_id": torch.tensor([users.get(row.user, 0) for row in test]),
        "item_id": torch.tensor([items.get(row.item, 0) for row in test]),
        "item_id_list": torch.tensor([known + [0] * (longest - len(known)) for known in lists]),
        "item_length": torch.tensor([len(known) for known in lists]),
    })


def shares(model, asked):
    """What the model answers, a number between 0 and 1 each."""
    import torch

    model.eval()
    with torch.no_grad():
        parts = (asked[start : start + 4096] for start in range(0, len(asked), 4096))
        return torch.cat([model.predict(part) for part in parts]).tolist()


def predictions(name, seed, training, test):
    """What the model, trained on the training rows, predicts that the test rows are rated."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    ratings = [row.rating for row in training]
    lowest, width = min(ratings), (max(ratings) - min(ratings)) or 1.0
    ordered = in_order(training, seed)
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as home:
        # RecBole leaves logs where it is started.
        os.chdir(home)
        try:
            folder = pathlib.Path(home)
            (folder / "split").mkdir()
            write_table(folder / "split/split.inter", ordered, (lowest, width), seed)
            errors = train(name, folder, seed, CHOOSING)[2]
            epochs = errors.index(min(errors)) + 1
            model, dataset, _ = train(name, folder, seed, LEARNING, epochs)
            answered = shares(model, questions(dataset, ordered, test))
        finally:
            os.chdir(before)
    return [lowest + width * share for share in answered]
