#!/usr/bin/env python3
"""The Helm chart, rendered by Helm's own engine and held to the schemas of Kubernetes.

Usage: scripts/chart-test.py [--weir PATH] [--write]

  rendered    eight sets of values (scripts/chart/sets.py), each object valid under four versions of Kubernetes, strict:
              a field that is not known is an error
  rows        what docs/KUBERNETES.md says of each object (scripts/chart/rows.py), for every set
  refused     wrong values, by the path of the value
  manifest    deploy/kubernetes/weir.yaml is the chart with its defaults
  program     options that the chart gives exist, `weir check` takes its weir.toml, and the drain fits into the grace period

  --weir PATH  the program for the last step; without it that step is left out
  --write      writes deploy/kubernetes/weir.yaml and ends

Needs Python 3.10 and the packages of scripts/chart/requirements.txt. No cluster, no network, no helm.
Exit status: 0 all of it held, 1 something did not, 2 usage, or packages are missing (a sentence names them).
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "scripts" / "chart"))
CHART = TOP / "deploy/helm/weir"
MANIFEST = TOP / "deploy/kubernetes/weir.yaml"
HEADER = """# Weir for Kubernetes: deploy/helm/weir with its defaults, as one file. docs/KUBERNETES.md explains it.
# Made by scripts/chart-test.py --write; change the chart, not this.
#
#   kubectl create namespace weir
#   kubectl apply -f deploy/kubernetes/weir.yaml
"""
VERSIONS = ["1.34", "1.35", "1.36", "1.37"]
# Of the Prometheus operator: no schema of Kubernetes has them.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
NAME = "weir"
# Of the plain manifest: what others need comes first.
ORDER = ["ServiceAccount", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service", "StatefulSet"]


def usage(words):
    print(f"chart-test: {words}; see --help", file=sys.stderr)
    sys.exit(2)


def options(arguments):
    program, write = None, False
    words = iter(arguments)
    for word in words:
        if word in ("-h", "--help"):
            print(__doc__)
            sys.exit(0)
        elif word == "--weir":
            program = next(words, None) or usage("--weir needs a path")
        elif word == "--write":
            write = True
        else:
            usage(f"{word}: unknown")
    return program, write


PROGRAM, WRITE = options(sys.argv[1:])
try:
    import helm_python as helm
    import kubernetes_validate
    import yaml
except ImportError as error:
    print(f"chart-test: skipped: {error.name} is missing (pip install -r scripts/chart/requirements.txt)",
          file=sys.stderr)
    sys.exit(2)

import rows  # noqa: E402
from sets import SETS, WRONG  # noqa: E402

passed, failed = 0, 0


def check(words, function, *arguments):
    """Runs a function; what it raises is the finding."""
    global passed, failed
    try:
        function(*arguments)
        passed += 1
    except Exception as error:  # noqa: BLE001 whatever it is, it is named
        failed += 1
        line = error.__traceback__
        while line.tb_next:
            line = line.tb_next
        print(f"NOT OK {words}: {type(error).__name__}: {error} (line {line.tb_lineno})")


def render(chart, values):
    """Text of each template that gives objects, by its path."""
    texts = chart.render(values, name=NAME, namespace=NAME)
    return {path: text for path, text in sorted(texts.items()) if not path.endswith("NOTES.txt") and text.strip()}


def documents(texts):
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


def manifest(texts):
    """The objects as one file in an order that suits kubectl, without blank documents and Helm's two labels."""
    parts = []
    for text in texts.values():
        for part in re.split(r"^---\s*$", text, flags=re.MULTILINE):
            document = yaml.safe_load(part)
            if document:
                part = re.sub(r"^ +(app.kubernetes.io/managed-by|helm.sh/chart): .*\n", "", part, flags=re.MULTILINE)
                parts.append((ORDER.index(document["kind"]), "---\n" + part.strip("\n") + "\n"))
    return HEADER + "".join(text for _, text in sorted(parts, key=lambda part: part[0]))


def valid(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def refused(chart, values, path):
    try:
        chart.validate_schema(values)
        render(chart, values)
    except helm.HelmError as error:
        assert path in str(error), f"{path} is not in: {error}"
        return
    raise AssertionError("it is taken")


def same(left, right):
    assert left == right, "it differs: scripts/chart-test.py --write"


def lint():
    findings = helm.lint(str(CHART))
    assert not findings["errors"], findings["errors"]
    # Severity 1 is information: an icon is recommended.
    worse = [each for each in findings["messages"] if each["severity"] > 1]
    assert not worse, worse


def program_takes(objects):
    """Options exist, and the file would be taken."""
    text = subprocess.run([PROGRAM, "distributor", "--help"], capture_output=True, text=True, check=True).stdout
    for word in objects.container["args"]:
        flag = word.split("=")[0]
        assert not flag.startswith("--") or f"{flag} " in text or f"{flag}[" in text, flag
    accepted(objects.one("ConfigMap")["data"]["weir.toml"])
    drain = rows.seconds(objects, "--drain-timeout")
    grace = objects.pod["terminationGracePeriodSeconds"]
    sleep = objects.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    accepted(f'[delivery]\ndrain_timeout = "{drain}s"\n', f"--grace={grace}s", f"--pre-stop={sleep}s")


def installer_copies(objects):
    """The DaemonSet's script, run: both files arrive whole, and it ends when it is asked to."""
    name = f"{objects.name}-seccomp"
    (container,) = objects.one("DaemonSet", name)["spec"]["template"]["spec"]["containers"]
    with tempfile.TemporaryDirectory() as folder:
        profiles, node = pathlib.Path(folder, "profiles"), pathlib.Path(folder, "node")
        profiles.mkdir()
        node.mkdir()
        data = objects.one("ConfigMap", name)["data"]
        for file, text in data.items():
            (profiles / file).write_text(text, encoding="utf-8")
        *shell, script = container["command"]
        script = script.replace("/profiles", str(profiles)).replace("/node", str(node))
        with subprocess.Popen([*shell, script]) as process:
            end = time.monotonic() + 10
            while len(list(node.glob("[!.]*"))) < len(data) and time.monotonic() < end:
                time.sleep(0.05)
            found = {path.name: path.read_text("utf-8") for path in node.iterdir()}
            process.terminate()
            assert process.wait(timeout=5) == 0
        assert found == data


def accepted(toml, *more):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(toml)
        file.flush()
        result = subprocess.run([PROGRAM, "check", file.name, *more], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def main():
    with helm.Chart.load(str(CHART)) as chart:
        if WRITE:
            MANIFEST.parent.mkdir(exist_ok=True)
            MANIFEST.write_text(manifest(render(chart, {})), encoding="utf-8")
            return
        print(f"chart-test: Helm {helm.helm_sdk_version()}, Kubernetes {', '.join(VERSIONS)}")
        for title, values in SETS.items():
            texts = render(chart, values)
            found = documents(texts)
            merged = chart.merge_values(values)
            name = merged["fullnameOverride"] or NAME
            objects = rows.Objects(found, merged, name)
            for row in rows.ROWS:
                check(f"{title}: {row.__doc__}", row, objects)
            for version in VERSIONS:
                for each in found:
                    if each["kind"] not in FOREIGN:
                        words = f"{title}: {each['kind']} {each['metadata']['name']} under {version}"
                        check(words, valid, each, version)
            if objects.of("DaemonSet"):
                check(f"{title}: the DaemonSet copies", installer_copies, objects)
            if PROGRAM:
                check(f"{title}: the program takes it", program_takes, objects)
            print(f"   {title}: {len(found)} objects")
        for values, path in WRONG:
            check(f"wrong: {values}", refused, chart, values, path)
        check("deploy/kubernetes/weir.yaml", same, MANIFEST.read_text("utf-8"), manifest(render(chart, {})))
    check("lint", lint)
    print(f"{passed} passed, {failed} failed")
    sys.exit(0 if failed == 0 else 1)


main()
