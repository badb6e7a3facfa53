"""Has models that others wrote predict the test pairs of an evaluation.

    python3 tests/peers/run.py whyrank-evaluation

reads the split that `whyrank eval --output whyrank-evaluation` wrote down, installs the packages of
requirements-*.txt into virtual environments beside it, trains every model on the training part with each
seed, and writes peers.json. Run `whyrank eval` again with the same output folder: nothing is trained
again, and the report has the others' figures beside our own.

Models that peers.json has already are not trained again, so a run that was stopped goes on and other
programs' answers stay; `--again` makes those of the chosen models anew (as other seeds need). scikit-surprise
has factorisation, neighbourhood and baseline models and is small. RecBole has the neural ones, and PyTorch
with it: 4 GB on disk, once for all evaluations that name the same folder with `--environments`; Python 3.9,
3.10 or 3.11. `--models surprise` leaves it out.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import venv

import answers
import recbole_models
import surprise_models

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = {"surprise": surprise_models, "recbole": recbole_models}
ALL = [*PACKAGES, *(name for module in PACKAGES.values() for name in module.MODELS)]


def environment(home, requirements):
    """The Python that has these packages. Others are installed when the requirements are others."""
    python, mark = home / "bin/python", home / "complete"
    wanted = requirements.read_text(encoding="utf-8")
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted:
        print(f"installing {requirements.name} into {home} ...", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        mark.write_text(wanted, encoding="utf-8")
    return python


def chosen(module, short, models):
    return [name for name in module.MODELS if {short, name} & set(models)]


def forget(folder, names):
    left = {name: answer for name, answer in answers.kept(folder).items() if name not in names}
    answers.keep(folder, left)


def have_answered(given, module, names):
    done = answers.kept(given.folder)
    names = [name for name in names if answers.missing(module, name, given.seeds, done)]
    if not names:
        return
    python = environment(given.environments / module.ENVIRONMENT, HERE / module.REQUIREMENTS)
    seeds = [str(seed) for seed in given.seeds]
    command = [python, HERE / "answers.py", given.folder, module.__name__]
    # With one thread the sums, and so the figures, are the same whatever the number of cores.
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--models", *names, "--seeds", *seeds], check=True, env=one_thread)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="the output folder of `whyrank eval`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--models", nargs="+", default=list(PACKAGES), choices=ALL, metavar="MODEL",
        help=f"packages or models: {'; '.join(ALL)} (default: all)",
    )
    parser.add_argument("--again", action="store_true", help="train models that have answered, too")
    parser.add_argument(
        "--environments", type=pathlib.Path, help="where to install packages (default: the output folder)"
    )
    given = parser.parse_args()
    if not (given.folder / "split/test.csv").exists():
        sys.exit(f"{given.folder} has no split/test.csv: run `whyrank eval --output {given.folder}` first")
    given.folder = given.folder.resolve()
    given.environments = (given.environments or given.folder).resolve()
    models = {short: chosen(module, short, given.models) for short, module in PACKAGES.items()}
    if given.again:
        forget(given.folder, {name for names in models.values() for name in names})
    for short, names in models.items():
        have_answered(given, PACKAGES[short], names)
    count = len(answers.kept(given.folder))
    print(f"{count} models answered; run `whyrank eval` again for the report", file=sys.stderr)


if __name__ == "__main__":
    main()
