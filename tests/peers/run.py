"""Has models that others wrote predict the test pairs of an evaluation.

    python3 tests/peers/run.py whyrank-evaluation

reads the split that `whyrank eval --output whyrank-evaluation` wrote down, installs the packages of
requirements.txt into a virtual environment beside it, trains every model on the training part with each
seed, and writes peers.json. Run `whyrank eval` again with the same output folder: nothing is trained
again, and the report has the others' figures beside our own.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
INSIDE = "--inside"


def rows(path):
    with open(path, newline="", encoding="utf-8") as table:
        return [(row["user"], row["item"], float(row["rating"])) for row in csv.DictReader(table)]


def models(seed):
    """Matrix factorisation, neighbourhood and baseline models of scikit-surprise, with its defaults."""
    import surprise

    item_based = {"name": "pearson_baseline", "user_based": False}
    user_based = {"name": "pearson_baseline", "user_based": True}
    quiet = {"verbose": False}
    return {
        "BaselineOnly": lambda: surprise.BaselineOnly(**quiet),
        "SVD": lambda: surprise.SVD(random_state=seed),
        "SVD++": lambda: surprise.SVDpp(random_state=seed, cache_ratings=True),
        "KNNBaseline, items": lambda: surprise.KNNBaseline(sim_options=item_based, **quiet),
        "KNNBaseline, users": lambda: surprise.KNNBaseline(sim_options=user_based, **quiet),
        "SlopeOne": lambda: surprise.SlopeOne(),
        "CoClustering": lambda: surprise.CoClustering(random_state=seed),
    }


# These give the same answer with every seed.
DETERMINISTIC = {"BaselineOnly", "KNNBaseline, items", "KNNBaseline, users", "SlopeOne"}


def answer(folder, seeds):
    import surprise

    training, test = rows(folder / "split/train.csv"), rows(folder / "split/test.csv")
    ratings = [rating for _, _, rating in training]
    reader = surprise.Reader(rating_scale=(min(ratings), max(ratings)))
    data = surprise.Dataset(reader).construct_trainset([(*row, None) for row in training])
    answers = []
    for name in models(0):
        runs = []
        for seed in seeds[:1] if name in DETERMINISTIC else seeds:
            print(f"{name}, seed {seed} ...", file=sys.stderr, flush=True)
            model = models(seed)[name]()
            model.fit(data)
            runs.append([round(float(model.predict(user, item).est), 4) for user, item, _ in test])
        package = f"scikit-surprise {surprise.__version__}"
        answers.append({"name": name, "package": package, "ratings": runs})
    unfinished = folder / "peers.json.part"
    unfinished.write_text(json.dumps(answers), encoding="utf-8")
    unfinished.replace(folder / "peers.json")
    print(f"{len(answers)} models answered; run `whyrank eval` again for the report", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="the output folder of `whyrank eval`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.folder / "split/test.csv").exists():
        sys.exit(f"{given.folder} has no split/test.csv: run `whyrank eval --output {given.folder}` first")
    if given.inside:
        return answer(given.folder, given.seeds)
    home = given.folder / "peers-environment"
    python = home / "bin/python"
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        requirements = HERE / "requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        (home / "complete").touch()
    seeds = [str(seed) for seed in given.seeds]
    subprocess.run([python, __file__, given.folder, "--seeds", *seeds, INSIDE], check=True)


if __name__ == "__main__":
    main()
