"""What the pages say of files, settings, metrics and alerts, against what there is."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from chronik import program
from clients.page import page as clients_page
from place import INFRA, ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), INFRA / "README.md"]
OPERATING = (ROOT / "docs/operating.md").read_text()
LINK = re.compile(r"\]\(([^)#:]*)(?:#([^)]+))?\)")
# A path from the root, or a name in the folder of the path before it in the line.
FILE = re.compile(r"`((?:src|shared|ingest|indexer|query|infra|tests)/[\w./-]+|\w+\.rs)`")
METRIC = re.compile(r"\b(?:chronik|fetch|wal|tantivy)_\w+")
SETTING = re.compile(r"\[env: (\w+)(?:=[^\]]*)?\](?: \[default: ([^\]]+)\])?")


def name(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def settings():
    """(variable, plain default or None) of every program."""
    for command in (["chronik", "standalone"], ["chronik-ingest"], ["chronik-indexer"], ["chronik-query"]):
        told = subprocess.run([program(command[0]), *command[1:], "--help"], capture_output=True, text=True, check=True)
        yield from SETTING.findall(told.stdout)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_are_where_the_pages_say(page):
    for line in page.read_text().splitlines():
        folder = None
        for file in FILE.findall(line):
            if "/" in file:
                folder = (ROOT / file).parent
            if folder:
                assert (folder / Path(file).name).exists(), f"{file} in: {line}"


def test_every_setting_is_explained_with_its_default():
    rows = [row.split(" | ") for row in OPERATING.splitlines() if row.startswith("| `--")]
    defaults = {variable: row[2] for row in rows for variable in re.findall(r"`(\w+)`", row[1])}
    known = dict(settings())
    assert set(defaults) == set(known)
    assert not {variable for variable, default in known.items() if default not in defaults[variable]}


def test_every_metric_and_alert_is_explained():
    rules = (INFRA / "prometheus/alerts.yaml").read_text()
    alerts = {rule.get("alert") for group in yaml.safe_load(rules)["groups"] for rule in group["rules"]} - {None}
    panels = json.loads((INFRA / "grafana/chronik.json").read_text())["panels"]
    queries = " ".join(target["expr"] for panel in panels for target in panel.get("targets", []))
    measured = {re.sub("_(bucket|sum|count)$", "", metric) for metric in METRIC.findall(rules + queries)}
    explained = set(re.findall(r"`(\w+)`", OPERATING))
    assert alerts <= explained
    assert {metric for metric in explained if METRIC.fullmatch(metric)} == measured


def test_the_page_of_clients_says_what_their_tests_hold_them_to():
    assert (ROOT / "docs/clients.md").read_text() == clients_page(), "`just clients` writes it anew"
