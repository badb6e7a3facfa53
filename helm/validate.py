"""Renders the chart with every set of values in helm/whyrank/ci and proves that the result is right.

    python3 helm/validate.py [--whyrank PATH]

Helm itself renders (bound by helm-python-sdk); every object is held against Kubernetes' schemas of the oldest
and the newest version (kubernetes-validate, strict: unknown fields are faults). What no schema can tell is
checked here: that names which refer to each other fit, that no container is privileged, that no secret is in
the open. The real binary reads the rendered `whyrank.toml` with the environment of the pod that would read it,
and the arguments of every container.

A value set is a file in helm/whyrank/ci; a line `# with: FILE` in it puts it on top of another one. Without
`--whyrank` the binary that `make build` leaves is used if it is there.
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

import helm_python as helm
import kubernetes_validate
import yaml

HERE = Path(__file__).resolve().parent
CHART = HERE / "whyrank"
ROOT = HERE.parent
# The oldest version that Chart.yaml allows, and the newest that there are schemas for.
KUBERNETES = ["1.27", kubernetes_validate.latest_version()]
# Objects of the Prometheus operator, whose schemas no package carries.
WITHOUT_SCHEMA = {"ServiceMonitor", "PrometheusRule"}
NAMESPACE = "search"
# Claims, secrets and config maps that a value set names and the cluster would have.
GIVEN = {"weights", "models", "tables", "whyrank-tls", "whyrank-key", "qdrant-apikey", "openai"}


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, which YAML libraries let pass."""


def unique_mapping(loader, node, deep=False):
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, unique_mapping)


class Results:
    """Counts what passed, and tells at once what did not."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, holds, message):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAULT {message}")


def merged(below, above):
    """Helm's merge of value files: mappings key by key, everything else replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {key: merged(below[key], above[key]) if key in below and key in above else above.get(key, below.get(key))
            for key in {**below, **above}}


def value_sets():
    """Name and values of each set: those of `ci`, and the shipped value files by themselves."""
    files = sorted((CHART / "ci").glob("*.yaml")) + sorted(CHART.glob("values-*.yaml"))
    for file in files:
        text = file.read_text()
        values = yaml.load(text, UniqueKeys) or {}
        for base in re.findall(r"^# with: (\S+)$", text, re.MULTILINE):
            values = merged(yaml.load((file.parent / base).read_text(), UniqueKeys), values)
        yield file.stem, values


def rendered(chart, values, release="whyrank"):
    """The objects that would be made, and what cannot be parsed as one."""
    manifests = chart.render(values, name=release, namespace=NAMESPACE)
    objects = []
    for path, text in manifests.items():
        if not path.endswith("NOTES.txt"):
            objects += [document for document in yaml.load_all(text, UniqueKeys) if document]
    return objects


def pod_of(workload):
    """The pod specification in an object, if it has one, and the labels of that pod."""
    kind, spec = workload["kind"], workload.get("spec", {})
    if kind == "Pod":
        return spec, workload["metadata"].get("labels", {})
    template = spec.get("jobTemplate", {}).get("spec", {}).get("template") if kind == "CronJob" else spec.get("template")
    return (template["spec"], template["metadata"]["labels"]) if template else (None, {})


def containers_of(pod):
    return pod.get("initContainers", []) + pod["containers"]


def check_names(results, name, objects):
    """The lengths and characters that Kubernetes allows, which its schemas do not tell."""
    for thing in objects:
        own = thing["metadata"]["name"]
        longest = 52 if thing["kind"] == "CronJob" else 63
        fits = len(own) <= longest and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", own)
        results.check(fits, f"{name}: {thing['kind']} cannot be called {own}")
        for key, value in {**thing["metadata"].get("labels", {}), **pod_of(thing)[1]}.items():
            fits = isinstance(value, str) and re.fullmatch(r"([A-Za-z0-9]([-._A-Za-z0-9]{0,61}[A-Za-z0-9])?)?", value)
            results.check(fits, f"{name}: {thing['kind']} {own}: the label {key} cannot be {value!r}")


def check_schema(results, name, objects):
    for thing in objects:
        what = f"{name}: {thing['kind']} {thing['metadata']['name']}"
        if thing["kind"] in WITHOUT_SCHEMA:
            continue
        for version in KUBERNETES:
            fault = ""
            try:
                kubernetes_validate.validate(thing, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                fault = f"{'.'.join(str(part) for part in error.path)}: {error.message}"
            except kubernetes_validate.SchemaNotFoundError as error:
                fault = error.message
            results.check(not fault, f"{what}, Kubernetes {version}: {fault}")


def check_security(results, what, pod):
    results.check(pod.get("automountServiceAccountToken") is False, f"{what}: mounts a token that it does not need")
    for container in containers_of(pod):
        context = container.get("securityContext", {})
        wanted = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                  "privileged": False, "capabilities": {"drop": ["ALL"]}}
        for key, value in wanted.items():
            results.check(context.get(key) == value, f"{what}, {container['name']}: {key} is {context.get(key)}")


def check_pod(results, what, pod, objects, claim_templates=()):
    """Whether all that a pod refers to is there."""
    named = {(thing["kind"], thing["metadata"]["name"]) for thing in objects}
    # A job of the standalone installation uses the claim that the StatefulSet made for its only pod.
    sets = [thing for thing in objects if thing["kind"] == "StatefulSet"]
    of_sets = {f"{claim['metadata']['name']}-{one['metadata']['name']}-0"
               for one in sets for claim in one["spec"]["volumeClaimTemplates"]}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        config = volume.get("configMap", {}).get("name")
        secret = volume.get("secret", {}).get("secretName")
        there = [
            claim is None or claim in GIVEN | of_sets or ("PersistentVolumeClaim", claim) in named,
            config is None or config in GIVEN or ("ConfigMap", config) in named,
            secret is None or secret in GIVEN,
        ]
        results.check(all(there), f"{what}: the volume {volume} refers to nothing")
    mountable = set(volumes) | set(claim_templates)
    for container in containers_of(pod):
        where = f"{what}, {container['name']}"
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            results.check(mount["name"] in mountable, f"{where}: no volume {mount['name']}")
        paths = [mount["mountPath"] for mount in mounts]
        results.check(len(paths) == len(set(paths)), f"{where}: two volumes at one path")
        variables = [one["name"] for one in container.get("env", [])]
        results.check(len(variables) == len(set(variables)), f"{where}: a variable is set twice")
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                port = container[probe]["httpGet"]["port"]
                results.check(port in ports, f"{where}: {probe} asks the port {port}, which is not open")
    used = {mount["name"] for container in containers_of(pod) for mount in container.get("volumeMounts", [])}
    results.check(set(volumes) <= used, f"{what}: volumes that nothing mounts: {set(volumes) - used}")


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def check_references(results, name, objects, values):
    pods = []
    for thing in objects:
        pod, labels = pod_of(thing)
        if pod is None:
            continue
        what = f"{name}: {thing['kind']} {thing['metadata']['name']}"
        templates = [claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])]
        check_security(results, what, pod)
        check_pod(results, what, pod, objects, templates)
        account = pod["serviceAccountName"]
        made = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
        results.check(account == "default" or account in made, f"{what}: no service account {account}")
        if thing["kind"] in ("Deployment", "StatefulSet"):
            pods.append((thing["kind"], thing["metadata"]["name"], labels, pod))
            matched = thing["spec"]["selector"]["matchLabels"]
            results.check(selects(matched, labels), f"{what}: its selector misses its own pods")
    for thing in objects:
        kind, spec = thing["kind"], thing.get("spec", {})
        what = f"{name}: {kind} {thing['metadata']['name']}"
        results.check(kind != "Secret", f"{what}: the chart makes no secret")
        if kind == "Service" and values.get("mode") != "sidecar":
            chosen = [pod for _, _, labels, pod in pods if selects(spec["selector"], labels)]
            results.check(len(chosen) == 1, f"{what}: stands for {len(chosen)} workloads")
            for port in spec["ports"]:
                open_ports = {one["name"] for pod in chosen for one in pod["containers"][0]["ports"]}
                results.check(port["targetPort"] in open_ports, f"{what}: no container opens {port['targetPort']}")
        elif kind == "PodDisruptionBudget":
            chosen = [one for one in pods if selects(spec["selector"]["matchLabels"], one[2])]
            results.check(len(chosen) == 1, f"{what}: stands for {len(chosen)} workloads")
        elif kind == "HorizontalPodAutoscaler":
            target = (spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])
            results.check(target in [one[:2] for one in pods], f"{what}: no {target}")
            free = [one for one in objects if one["kind"] == target[0] and one["metadata"]["name"] == target[1]]
            results.check(all("replicas" not in one["spec"] for one in free), f"{what}: fights with `replicas`")
        elif kind == "NetworkPolicy":
            for _, pod_name, labels, pod in pods:
                results.check(selects(spec["podSelector"]["matchLabels"], labels), f"{what}: not for {pod_name}")
                allowed = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
                opened = {port["containerPort"] for port in pod["containers"][0]["ports"]}
                results.check(opened <= allowed, f"{what}: closes {opened - allowed} of {pod_name}")
        elif kind == "ServiceMonitor":
            check_monitor(results, what, spec, objects)
        elif kind == "PrometheusRule":
            wanted = yaml.safe_load((ROOT / "config" / "alerts.yaml").read_text())
            results.check(spec == wanted, f"{what}: is not config/alerts.yaml")
        elif kind == "Ingress":
            services = {one["metadata"]["name"]: one for one in objects if one["kind"] == "Service"}
            for path in [path for rule in spec["rules"] for path in rule["http"]["paths"]]:
                backend = path["backend"]["service"]
                numbers = {port["port"] for port in services[backend["name"]]["spec"]["ports"]}
                results.check(backend["port"]["number"] in numbers, f"{what}: no port {backend['port']}")
    if values.get("metrics", {}).get("dashboard", {}).get("enabled"):
        shown = [thing["data"]["whyrank.json"] for thing in objects
                 if thing["kind"] == "ConfigMap" and "whyrank.json" in thing["data"]]
        wanted = json.loads((ROOT / "config" / "dashboard.json").read_text())
        results.check([json.loads(text) for text in shown] == [wanted], f"{name}: the dashboard is not config/dashboard.json")


def check_monitor(results, what, spec, objects):
    """The Services that are scraped: each has the port, and no pod is scraped twice."""
    chosen = []
    for thing in objects:
        labels = thing["metadata"].get("labels", {})
        wanted = all(labels.get(one["key"]) in one["values"] for one in spec["selector"].get("matchExpressions", []))
        if thing["kind"] == "Service" and wanted and selects(spec["selector"]["matchLabels"], labels):
            chosen.append(thing)
    results.check(bool(chosen), f"{what}: scrapes nothing")
    for endpoint in spec["endpoints"]:
        for service in chosen:
            ports = {port["name"] for port in service["spec"]["ports"]}
            results.check(endpoint["port"] in ports, f"{what}: no port {endpoint['port']}")
    selectors = [json.dumps(service["spec"]["selector"], sort_keys=True) for service in chosen]
    results.check(len(selectors) == len(set(selectors)), f"{what}: scrapes pods twice")


def sidecar_pod(objects):
    """The pod that Qdrant's chart makes of the printed values, as far as it is ours."""
    for thing in objects:
        text = thing.get("data", {}).get("qdrant-values.yaml") if thing["kind"] == "ConfigMap" else None
        if text:
            values = yaml.load(text, UniqueKeys)
            # What Qdrant's chart adds of its own has no part in this: only that no name is used twice.
            qdrant = {"name": "qdrant", "image": "qdrant", "ports": [
                {"name": "http", "containerPort": 6333}, {"name": "grpc", "containerPort": 6334},
                {"name": "p2p", "containerPort": 6335}]}
            return values, {
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "qdrant-0"},
                "spec": {"containers": [*values["sidecarContainers"], qdrant], "volumes": values["additionalVolumes"]},
            }
    return None, None


def check_sidecar(results, name, objects):
    values, pod = sidecar_pod(objects)
    results.check(values is not None, f"{name}: no values for Qdrant's chart are printed")
    if values is None:
        return
    results.check(set(values) == {"sidecarContainers", "additionalVolumes"}, f"{name}: {set(values)}")
    check_schema(results, name, [pod])
    ours = {**pod["spec"], "containers": values["sidecarContainers"], "automountServiceAccountToken": False}
    check_security(results, f"{name}: sidecar", ours)
    check_pod(results, f"{name}: sidecar", ours, objects)
    ports = [port for container in pod["spec"]["containers"] for port in container["ports"]]
    for key in ("name", "containerPort"):
        results.check(len({port[key] for port in ports}) == len(ports), f"{name}: two ports of one {key}")
    open_ports = {port["containerPort"] for port in values["sidecarContainers"][0]["ports"]}
    for thing in objects:
        if thing["kind"] == "Service":
            targets = {port["targetPort"] for port in thing["spec"]["ports"]}
            results.check(targets <= open_ports, f"{name}: the Service leads to {targets - open_ports}")


def environment_of(container):
    """A container's variables as Kubernetes would set them; a secret is a made-up text."""
    variables = {}
    for one in container.get("env", []):
        value = one["value"] if "value" in one else "4711"
        variables[one["name"]] = re.sub(r"\$\(([A-Za-z0-9_]+)\)", lambda name: variables.get(name[1], name[0]), value)
    return variables


class Binary:
    """The real `whyrank`, which knows best what it takes."""

    def __init__(self, path):
        self.path = path

    def run(self, arguments, variables=None):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WHYRANK")}
        command = [str(self.path), *arguments]
        return subprocess.run(command, env={**environment, **(variables or {})}, capture_output=True, text=True,
                              check=False)

    def effective(self, toml, variables=None):
        """All settings in force with this configuration, or what is wrong with it."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "whyrank.toml"
            file.write_text(toml)
            ended = self.run(["check", "--effective", "--json", "--config", str(file)], variables)
            if ended.returncode != 0:
                return None, ended.stderr.strip()
            # The whole check, which says what is missing and passes: weights and models come with volumes.
            whole = self.run(["check", "--json", "--config", str(file)], {**(variables or {}), "HOME": folder})
            return json.loads(ended.stdout), whole.stderr.strip() if whole.returncode != 0 else ""

    def artifacts(self):
        found = json.loads(self.run(["check", "--json"], {"WHYRANK_WEIGHTS": "/nonexistent"}).stdout)
        return {one["what"].split(" ")[1].split("/")[0] for one in found if one["what"].startswith("weights ")}


def differences(asked, got, path=""):
    """Settings that were asked for and are not in force, as text."""
    if isinstance(asked, dict) and isinstance(got, dict):
        for key, value in asked.items():
            if value is not None:
                yield from differences(value, got.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(asked, list) and isinstance(got, list) and len(asked) == len(got):
        for index, (one, other) in enumerate(zip(asked, got)):
            yield from differences(one, other, f"{path}[{index}]")
    else:
        numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (asked, got))
        # Some settings have half the digits of the number that JSON shows.
        if (abs(asked - got) > 1e-6 * max(1, abs(asked))) if numbers else asked != got:
            yield f"{path} is {got!r}, not {asked!r}"


def toml_of(objects):
    texts = [thing["data"]["whyrank.toml"] for thing in objects
             if thing["kind"] == "ConfigMap" and "whyrank.toml" in thing["data"]]
    assert len(texts) == 1, texts
    return texts[0]


def check_binary(results, name, objects, values, defaults, binary):
    toml = toml_of(objects)
    _, sidecar = sidecar_pod(objects)
    pods = [pod_of(thing)[0] for thing in objects if pod_of(thing)[0]]
    if sidecar:
        sidecar["spec"]["containers"].pop()
        pods.append(sidecar["spec"])
    artifacts = binary.artifacts()
    for pod in pods:
        for container in containers_of(pod):
            where = f"{name}: {container['name']}"
            if container["name"] == "ask":
                continue
            if "command" in container:
                # The sidecar's small script: one command a line.
                lines = [line.removeprefix("exec ").split() for line in container["args"][0].splitlines()]
                results.check(all(line[0] == "whyrank" for line in lines), f"{where}: {lines}")
                calls = [line[1:] for line in lines]
            else:
                calls = [container["args"]]
            for call in calls:
                said = binary.run([*call, "--help"])
                results.check(said.returncode == 0, f"{where}: `whyrank {' '.join(call)}`: {said.stderr}")
                if call[0] == "fetch":
                    unknown = set(call[3:]) - artifacts
                    results.check(not unknown, f"{where}: no artifacts {unknown}")
            variables = environment_of(container)
            results.check(variables.get("ORT_DISABLE_TELEMETRY") == "1", f"{where}: ONNX Runtime keeps events")
            got, fault = binary.effective(toml, variables)
            results.check(got is not None and not fault, f"{where}: the configuration is refused: {fault}")
            if got is None:
                continue
            asked = merged(defaults["config"], values.get("config", {}))
            if values.get("mode") == "sidecar":
                asked = {key: value for key, value in asked.items() if key not in ("gateway", "store")}
            for difference in differences(asked, got):
                results.check(False, f"{where}: {difference}")
            results.passed += 1
            secrets = {
                "apiKey": got["gateway"]["api_keys"] == ["***"],
                "inferenceToken": got["server"].get("inference_token") == "***",
            }
            for value, in_force in secrets.items():
                results.check(in_force == bool(values.get(value)), f"{where}: {value} is not what is in force")
            ports = {port["name"].removeprefix("whyrank-"): port["containerPort"] for port in container.get("ports", [])}
            settings = {"api": got["server"]["address"], "http": got["gateway"]["rest_address"],
                        "grpc": got["gateway"]["grpc_address"], "health": got["server"].get("health_address") or ""}
            for port, number in ports.items():
                results.check(settings[port].endswith(f":{number}"), f"{where}: {port} listens on {settings[port]}")
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asks = container.get(probe, {}).get("httpGet", {})
                encrypted = asks.get("port") == "api" and bool(got["server"].get("certificate"))
                results.check((asks.get("scheme") == "HTTPS") == encrypted, f"{where}: {probe} does not speak as is listened")


def check_every_setting(results, chart, binary):
    """Every setting that there is goes through `config` and comes out as it went in."""
    before, _ = binary.effective("")
    # What is hidden or absent cannot be handed in again; paths are the chart's own.
    before["weights"].pop("folder", None)
    objects = rendered(chart, {"config": before})
    after, fault = binary.effective(toml_of(objects))
    results.check(after is not None and not fault, f"every setting: refused: {fault}")
    if after is not None:
        found = list(differences(before, after))
        results.check(not found, f"every setting: {found}")


def check_refusals(results, chart):
    """The schema refuses what is wrong, and names it."""
    reference = {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    wrong = [
        ("replicas", {"replicas": 3}),
        ("replicaCount", {"replicaCount": "three"}),
        ("mode", {"mode": "beside"}),
        ("replicaCount", {"mode": "standalone", "replicaCount": 2}),
        ("apiKey", {"apiKey": "a key in the open"}),
        ("apiKey", {"qdrant": {"apiKey": True}}),
        ("nmae", {"image": {"nmae": "x"}}),
        ("roles", {"roles": ["proxy"]}),
        ("roles", {"worker": {"roles": ["api"]}}),
        ("port", {"service": {"ports": [{"name": "http", "port": 70000, "targetPort": "http"}]}}),
        ("size", {"persistence": {"size": "much"}}),
        ("config", {"config": "rerank.limit = 3"}),
        ("commands", {"jobs": {"train": {"commands": []}}}),
        ("artifacts", {"weights": {"artifacts": ["../up"]}}),
        ("vaule", {"env": [{"name": "A", "vaule": "b"}]}),
    ]
    for word, values in wrong:
        try:
            chart.validate_schema(values)
            results.check(False, f"refusals: {values} passes")
        except helm.HelmValuesError as error:
            results.check(word.lower() in str(error).lower(), f"refusals: {values}: {error}")
    chart.validate_schema({"apiKey": reference})
    for values in ({"tls": {"api": True}},
                   {"config": {"server": {"certificate": "a", "client_certificate_authority": "b"}}}):
        try:
            rendered(chart, values)
            results.check(False, f"refusals: {values} is rendered")
        except helm.HelmRenderError as error:
            word = "secretName" if "tls" in values else "health_address"
            results.check(word in str(error), f"refusals: {values}: {error}")
    try:
        rendered(chart, {"models": {"persistence": {"enabled": False}}})
        results.check(False, "refusals: a gateway without a place for models passes")
    except helm.HelmRenderError as error:
        results.check("models.existingClaim" in str(error), f"refusals: {error}")


def check_versions(results, chart):
    workspace = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    results.check(chart.metadata["appVersion"] == workspace, "Chart.yaml: `appVersion` is not the workspace's version")


def check_lint(results, name, folder, values):
    report = helm.lint(folder, values, strict=True, namespace=NAMESPACE)
    # An icon is a recommendation and no fault; it is all that Helm says of a chart without one.
    said = [one for one in report["messages"] if "icon is recommended" not in json.dumps(one)]
    results.check(not said, f"{name}: {said}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--whyrank", type=Path, help="the binary")
    given = arguments.parse_args().whyrank
    target = os.environ.get("CARGO_TARGET_DIR", Path.home() / ".cache/whyrank/target")
    path = given or Path(target) / "release" / "whyrank"
    if given and not given.exists():
        raise SystemExit(f"there is no binary {given}")
    binary = Binary(path) if path.exists() else None
    if binary is None:
        print(f"NOT CHECKED: configurations and arguments; there is no binary {path}, `make build` makes it")
    results = Results()
    table = subprocess.run([sys.executable, str(HERE / "values_table.py"), "--check"], check=False)
    results.check(table.returncode == 0, "the table of values")
    with tempfile.TemporaryDirectory() as folder:
        # As it is packaged: the alerts and the dashboard, links to the files in `config`, become files.
        packaged = shutil.copytree(CHART, Path(folder) / CHART.name)
        check_chart(results, packaged, binary)
    print(f"\n{results.passed} passed, {results.failed} failed")
    return 1 if results.failed else 0


def check_chart(results, folder, binary):
    with helm.Chart.load(folder) as chart:
        check_versions(results, chart)
        check_refusals(results, chart)
        for name, values in value_sets():
            before = results.failed
            chart.validate_schema(values)
            check_lint(results, name, folder, values)
            objects = rendered(chart, values)
            check_schema(results, name, objects)
            check_names(results, name, objects)
            check_references(results, name, objects, values)
            if values.get("mode") == "sidecar":
                check_sidecar(results, name, objects)
            if binary:
                check_binary(results, name, objects, values, chart.values, binary)
            # A release of another name, long as names can be: everything still fits together.
            other = rendered(chart, values, release="a-release-with-a-name-as-long-as-helm-lets-it-be-53ch")
            check_schema(results, f"{name}, long name", other)
            check_names(results, f"{name}, long name", other)
            check_references(results, f"{name}, long name", other, values)
            said = "ok" if results.failed == before else "FAULTS"
            print(f"{said:<7}{name}: {len(objects)} objects, Kubernetes {' and '.join(KUBERNETES)}")
        if binary:
            check_every_setting(results, chart, binary)


if __name__ == "__main__":
    sys.exit(main())
