"""Checks of helm/Dockerfile that need no Docker.

    python3 helm/check_image.py [--whyrank PATH]

That every file it copies exists and reaches the builder, that cargo can load the workspace from the copied files
alone, that its commands are those of Makefile and README.md, that it runs as the user of the chart on the ports of
the chart, and that its configuration is one that the binary takes. hadolint looks at the rest.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from dockerfile_parse import DockerfileParser

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DEVICES = ("cpu", "cuda")


def read():
    """The instructions, comments left out, with continued lines joined."""
    with tempfile.TemporaryDirectory() as folder:
        # The parser wants a file that it may write.
        parser = DockerfileParser(str(Path(folder) / "Dockerfile"))
        parser.content = (HERE / "Dockerfile").read_text()
        return [(one["instruction"], one["value"]) for one in parser.structure if one["instruction"] != "COMMENT"]


def copies(instructions):
    """Source, target and stage of each thing that is copied."""
    for instruction, value in instructions:
        if instruction in ("COPY", "ADD"):
            flags = re.findall(r"--(\S+?)=(\S+)", value)
            *sources, target = [word for word in value.split() if not word.startswith("--")]
            for source in sources:
                yield source, target, dict(flags).get("from")


def check_stages(instructions, faults):
    stages = []
    for instruction, value in instructions:
        if instruction != "FROM":
            continue
        image, _, stage = re.fullmatch(r"(\S+)( AS (\S+))?", value).groups()
        for device in DEVICES:
            base = image.replace("${DEVICE}", device)
            if base not in stages and ":" not in base:
                faults.append(f"FROM {base}: neither a stage above nor an image with a tag")
        if stage:
            stages.append(stage)
    for source, _, stage in copies(instructions):
        if stage and stage not in stages:
            faults.append(f"COPY --from={stage}: there is no such stage")
    return stages


def check_sources(instructions, faults):
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    sources = [source for source, _, stage in copies(instructions) if not stage]
    for source in sources:
        if not (ROOT / source).exists():
            faults.append(f"COPY {source}: there is no such file")
        if not any(source == one or source.startswith(f"{one}/") for one in allowed):
            faults.append(f"COPY {source}: .dockerignore keeps it from the builder")
    for one in allowed:
        if not any(source == one or source.startswith(f"{one}/") for source in sources):
            faults.append(f".dockerignore lets {one} through, which nothing copies")


def check_workspace(instructions, faults):
    """cargo loads the workspace, lock file included, from nothing but what is copied before the build."""
    with tempfile.TemporaryDirectory() as folder:
        for source, target, stage in copies(instructions):
            if stage or target.startswith("/") or not (ROOT / source).exists():
                continue
            path, place = ROOT / source, Path(folder) / (source if target == "./" else target)
            if path.is_dir():
                shutil.copytree(path, place, ignore=shutil.ignore_patterns("target"))
            else:
                shutil.copy(path, place)
        command = ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            faults.append(f"the copied files are no workspace: {ended.stderr}")
            return
        binaries = [target["name"] for package in json.loads(ended.stdout)["packages"]
                    for target in package["targets"] if "bin" in target["kind"]]
        if "whyrank" not in binaries:
            faults.append(f"the copied files build {binaries}, and no whyrank")
        for file in Path(folder).rglob("*.rs"):
            for included in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', file.read_text()):
                if not (file.parent / included).exists():
                    faults.append(f"{file.relative_to(folder)} includes {included}, which is not copied")


def check_commands(instructions, faults):
    makefile, readme = (ROOT / "Makefile").read_text(), (ROOT / "README.md").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split()
    # Where packages are installed, `make` is one of them and no command.
    script = " ".join(value for instruction, value in instructions if instruction == "RUN" and "apt-get" not in value)
    made = re.findall(r"\bmake ([a-z]+)", script)
    if made != ["build"]:
        faults.append(f"the image is made by `make {made}`, not by `make build`")
    if "cargo build" in script or "build" not in targets or "make build" not in readme:
        faults.append("the image, Makefile and README.md do not build by the same command, `make build`")
    settings = " ".join(value for instruction, value in instructions if instruction == "ENV")
    if "ORT_DISABLE_TELEMETRY=1" not in settings:
        faults.append("ONNX Runtime keeps events for its makers: ORT_DISABLE_TELEMETRY is not 1")
    for variable in ("FEATURES", "CARGO_TARGET_DIR"):
        if variable not in settings or variable not in makefile:
            faults.append(f"{variable} is not set, or Makefile does not know it")
    arguments = dict(value.split("=", 1) for instruction, value in instructions
                     if instruction == "ARG" and "=" in value)
    wanted = re.search(r'^rust-version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    if tuple(map(int, arguments["RUST"].split("-")[0].split("."))) < tuple(map(int, wanted.split("."))):
        faults.append(f"RUST is {arguments['RUST']}, and the workspace needs {wanted}")


def last(instructions, wanted):
    return [value for instruction, value in instructions if instruction == wanted][-1]


def check_chart(instructions, faults):
    values = yaml.safe_load((HERE / "whyrank" / "values.yaml").read_text())
    context = values["containerSecurityContext"]
    user = last(instructions, "USER")
    if user != f"{context['runAsUser']}:{context['runAsGroup']}" or user.startswith("0"):
        faults.append(f"USER is {user}, not the chart's {context['runAsUser']}:{context['runAsGroup']}")
    config = values["config"]
    addresses = [config["server"]["address"], config["gateway"]["rest_address"], config["gateway"]["grpc_address"]]
    ports = [address.split(":")[-1] for address in addresses]
    if last(instructions, "EXPOSE").split() != ports:
        faults.append(f"EXPOSE is {last(instructions, 'EXPOSE')}, and the chart listens on {ports}")
    if f":{ports[0]}/livez" not in last(instructions, "HEALTHCHECK"):
        faults.append("HEALTHCHECK does not ask /livez of the HTTP API")
    container = (HERE / "container.toml").read_text()
    for address in addresses:
        if f'"{address}"' not in container:
            faults.append(f"container.toml does not listen on {address}")
    for name, version in re.findall(r"--tag (whyrank):([0-9.]+)", (HERE / "Dockerfile").read_text()):
        chart = yaml.safe_load((HERE / "whyrank" / "Chart.yaml").read_text())
        if version != chart["appVersion"]:
            faults.append(f"the comment builds {name}:{version}, the chart wants {chart['appVersion']}")


def check_binary(instructions, binary, faults):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WHYRANK")}
    calls = [json.loads(last(instructions, "CMD")) + ["--help"],
             ["check", "--config", str(HERE / "container.toml")]]
    if json.loads(last(instructions, "ENTRYPOINT")) != ["whyrank"]:
        faults.append("ENTRYPOINT is not whyrank")
    for call in calls:
        ended = subprocess.run([str(binary), *call], env=environment, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            faults.append(f"`whyrank {' '.join(call)}`: {ended.stderr}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--whyrank", type=Path, help="the binary")
    given = arguments.parse_args().whyrank
    target = os.environ.get("CARGO_TARGET_DIR", Path.home() / ".cache/whyrank/target")
    binary = given or Path(target) / "release" / "whyrank"
    instructions, faults = read(), []
    check_stages(instructions, faults)
    check_sources(instructions, faults)
    check_workspace(instructions, faults)
    check_commands(instructions, faults)
    check_chart(instructions, faults)
    if binary.exists() or given:
        check_binary(instructions, binary, faults)
    else:
        print(f"NOT CHECKED: the image's command and configuration; there is no binary {binary}")
    for fault in faults:
        print(f"FAULT helm/Dockerfile: {fault}")
    if not faults:
        print("helm/Dockerfile: copies what there is, builds by `make build`, runs as the chart says")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
