#!/usr/bin/env python3
"""Licences and notices of what is linked into weir and weir-bench, as one text.

Usage: scripts/notices.py [--check]

Prints, for each crate in the two programs, its version, licence and source, then each licence text and
notice that the crates carry, equal ones once. --check prints each crate whose licence docs/DEPENDENCIES.md
does not allow.

Needs cargo and the sources that the lock file names (`cargo fetch --locked`); asks no network.
Exit status: 0 fine, 1 something is wrong, 2 usage.
"""

import json
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
# How a file is called that holds a licence or a notice.
NAME = re.compile(r"^(licen[cs]e|copying|notice|copyright|unlicense|authors?$)", re.IGNORECASE)
# The list of them, each as `code`, in docs/DEPENDENCIES.md.
ALLOWED = re.compile(r"^Allowed licences: (.*?)\.$", re.MULTILINE | re.DOTALL)


def packages():
    """Crates in the two programs on this platform, without our own, by name and version."""
    tree = subprocess.run(
        ["cargo", "tree", "--workspace", "--locked", "--offline", "--edges", "normal", "--prefix", "none",
         "--format", "{p}"],
        cwd=TOP, check=True, capture_output=True, text=True).stdout
    linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
    rustc = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = re.search(r"^host: (.*)$", rustc, re.MULTILINE).group(1)
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", host],
        cwd=TOP, check=True, capture_output=True, text=True).stdout)
    found = [p for p in metadata["packages"]
             if p["source"] and (p["name"], "v" + p["version"]) in linked]
    return sorted(found, key=lambda p: (p["name"], p["version"]))


def texts(package):
    """Licence texts and notices that lie in the crate, in order of their names."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and NAME.match(f.name)]
    return [f.read_text(encoding="utf-8", errors="replace").strip() for f in files]


def allowed():
    page = (TOP / "docs/DEPENDENCIES.md").read_text(encoding="utf-8")
    return set(re.findall(r"`([^`]+)`", ALLOWED.search(page).group(1)))


def choices(expression):
    """For each part of an SPDX expression, the licences to choose from; `/` is the old form of OR."""
    return [set(re.split(r" OR |/", part.strip("() "))) for part in expression.split(" AND ")]


def check():
    wrong = 0
    permitted = allowed()
    for package in packages():
        expression = package["license"] or ""
        if not all(part & permitted for part in choices(expression)):
            print(f"{package['name']} {package['version']}: licence {expression!r}: not in docs/DEPENDENCIES.md")
            wrong += 1
    return wrong


def main():
    if sys.argv[1:] == ["--check"]:
        return 1 if check() else 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    users = {}
    print("Crates in weir and weir-bench\n=============================\n")
    for package in packages():
        name = f"{package['name']} {package['version']}"
        print(f"{name}: {package['license']}; {package['repository'] or package['homepage'] or 'no address'}")
        authors = ", ".join(re.sub(r" <[^>]*>", "", author) for author in package["authors"])
        if authors:
            print(f"    by {authors}")
        found = texts(package)
        if not found:
            print("    carries no text of its licence; the standard one of that name applies")
        for text in found:
            users.setdefault(re.sub(r"\s+", " ", text), (text, []))[1].append(name)
    for text, names in users.values():
        print(f"\n{'-' * 80}\nOf {', '.join(names)}:\n\n{text}")
    return 0


sys.exit(main())
