"""Writes the table of values in helm/whyrank/README.md from the comments in helm/whyrank/values.yaml.

    python3 helm/values_table.py            writes the table
    python3 helm/values_table.py --check    fails when the table is not what it would write

The comment lines right above a key say what the value means. A mapping whose keys have comments of their own
becomes one row for each of them; any other value is one row. A value without a comment is an error: every
value is explained somewhere.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parent / "whyrank"
BEGIN = "<!-- values: begin; written by helm/values_table.py -->"
END = "<!-- values: end -->"


def comment_above(lines, line):
    """The text of the comment that ends right above this line, counted from 0."""
    found = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip().lstrip("#").strip())
    return " ".join(found)


def has_comments_below(node, lines):
    return isinstance(node, yaml.MappingNode) and any(
        comment_above(lines, key.start_mark.line) or has_comments_below(value, lines)
        for key, value in node.value
    )


def rows(node, value, lines, path=()):
    """Pairs of key, default and comment, in the order of the file."""
    for key_node, value_node in node.value:
        key = key_node.value
        here = (*path, key)
        comment = comment_above(lines, key_node.start_mark.line)
        if has_comments_below(value_node, lines):
            # The comment of the mapping itself says something about all of its rows.
            if comment:
                yield ".".join(here), "", comment
            yield from rows(value_node, value[key], lines, here)
        elif comment:
            yield ".".join(here), f"`{json.dumps(value[key])}`", comment
        else:
            raise SystemExit(f"values.yaml, line {key_node.start_mark.line + 1}: {'.'.join(here)} has no comment")


def cell(text):
    return text.replace("|", "\\|")


def table():
    text = (CHART / "values.yaml").read_text()
    lines = text.splitlines()
    node = yaml.compose(text)
    out = ["| value | default | |", "|---|---|---|"]
    for key, default, comment in rows(node, yaml.safe_load(text), lines):
        out.append(f"| `{key}` | {cell(default)} | {cell(comment)} |")
    return "\n".join(out)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="only compare")
    check = arguments.parse_args().check
    readme = CHART / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{readme} has no place for the table: {BEGIN} and {END}")
    wanted = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if check:
        if wanted != text:
            raise SystemExit("helm/whyrank/README.md is out of date; run `python3 helm/values_table.py`")
        print("README.md of the chart is up to date")
    elif wanted != text:
        readme.write_text(wanted)
        print("README.md of the chart was written")


if __name__ == "__main__":
    sys.exit(main())
