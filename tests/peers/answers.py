"""Has the models of one package answer for the test pairs, inside the environment that run.py made for it.

What is answered goes into peers.json after each seed, so a run that was stopped goes on where it was.
"""

import argparse
import collections
import csv
import hashlib
import importlib
import importlib.metadata
import json
import pathlib
import sys
import time

ANSWERS = "peers.json"
# Which split the answers are of: whoever splits anew, into as many pairs, must not keep the old ones.
SPLIT = "peers-split.sha256"
PARTS = ["split/train.csv", "split/test.csv"]

Row = collections.namedtuple("Row", ["user", "item", "rating", "time"])


def rows(path):
    with open(path, newline="", encoding="utf-8") as table:
        return [
            Row(row["user"], row["item"], float(row["rating"]), float(row["time"]))
            for row in csv.DictReader(table)
        ]


def write(path, text):
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def fingerprint(folder):
    return hashlib.sha256(b"".join((folder / part).read_bytes() for part in PARTS)).hexdigest()


def kept(folder):
    """The answers that are there already, by name, where they are of this split. Answers that came without
    a mark, by another program, are taken when they are as many as there are pairs."""
    path, mark = folder / ANSWERS, folder / SPLIT
    answers = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    pairs = len(rows(folder / PARTS[1]))
    fits = all(len(ratings) == pairs for answer in answers for ratings in answer["ratings"])
    same = not mark.exists() or mark.read_text(encoding="utf-8") == fingerprint(folder)
    if not fits or not same:
        print(f"{path} is of another split; its models answer anew", file=sys.stderr)
        answers = []
    return {answer["name"]: answer for answer in answers}


def keep(folder, answers):
    write(folder / ANSWERS, json.dumps(list(answers.values())))
    write(folder / SPLIT, fingerprint(folder))


def missing(module, name, seeds, answers):
    """The seeds that a model has not answered with: its answers are in the order of the seeds."""
    wanted = seeds[:1] if name in module.DETERMINISTIC else seeds
    return wanted[len(answers[name]["ratings"]) :] if name in answers else wanted


def answer(folder, module, names, seeds):
    package = f"{module.PACKAGE} {importlib.metadata.version(module.PACKAGE)}"
    training, test = (rows(folder / part) for part in PARTS)
    answers = kept(folder)
    for name in names:
        for seed in missing(module, name, seeds, answers):
            print(f"{name}, seed {seed} ...", file=sys.stderr, end=" ", flush=True)
            started = time.monotonic()
            ratings = module.predictions(name, seed, training, test)
            fresh = {"name": name, "package": package, "ratings": []}
            answers.setdefault(name, fresh)["ratings"].append([round(rating, 4) for rating in ratings])
            keep(folder, answers)
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("module", help="the file of the package, without .py")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    given = parser.parse_args()
    answer(given.folder, importlib.import_module(given.module), given.models, given.seeds)


if __name__ == "__main__":
    main()
