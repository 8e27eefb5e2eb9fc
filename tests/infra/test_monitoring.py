"""Alert rules and dashboard, against promtool and against a Prometheus that scrapes the real server."""

import json
import re
import subprocess

import pytest
import requests
import yaml
from chronik import PATIENCE, Chronik, until
from place import INFRA, ROOT, free_port, run, tool

ALERTS = INFRA / "prometheus/alerts.yaml"
DASHBOARD = INFRA / "grafana/chronik.json"
NAME = re.compile(r"\b(?:chronik|fetch|wal|tantivy)_\w+")


class Prometheus:
    """A Prometheus that scrapes `target` (host:port) every second and evaluates the project's rules."""

    def __init__(self, directory, target):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "chronik", "static_configs": [{"targets": [target]}]}],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        self.log = (directory / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def __enter__(self):
        until(self.up, "Prometheus has scraped the server")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)
        self.log.close()

    def up(self):
        try:
            return self.query('up{job="chronik"} == 1')
        except requests.ConnectionError:
            assert self.process.poll() is None, "Prometheus ended"
            return False

    def get(self, path, **parameters):
        answer = requests.get(self.url + path, params=parameters, timeout=PATIENCE)
        if answer.status_code == 503:
            return []
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def query(self, expression):
        return (self.get("/api/v1/query", query=expression) or {"result": []})["result"]

    def names(self):
        return set(self.get("/api/v1/label/__name__/values"))


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Scrapes a server that has produced, shipped, indexed, fetched and searched."""
    directory = tmp_path_factory.mktemp("monitoring")
    with (
        Chronik(directory / "server", ship_max_age="1s", index_batch_age="1s") as server,
        Prometheus(directory, server.http.removeprefix("http://")) as prometheus,
    ):
        server.tool("produce", "orders", stdin=b"order 4711 paid\n" * 1000)
        server.seal()
        server.wait_archived()
        assert server.search("orders", "paid")["total"]["value"]
        assert server.tool("consume", "orders", "--count", 1000)
        yield prometheus


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions():
    """(title, query as Grafana sends it with all jobs chosen)"""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$job", ".+")


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_the_alert_rules_are_valid():
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", ALERTS)


def test_each_alert_fires_where_it_should_and_only_there():
    cases = ROOT / "tests/infra/alerts.test.yaml"
    run("promtool", "test", "rules", cases)
    tested = cases.read_text()
    assert not [rule["alert"] for rule in rules() if rule["alert"] not in tested]


def test_every_query_of_the_dashboard_finds_something(prometheus):
    for title, expression in expressions():
        until(lambda expression=expression: prometheus.query(expression), f"{title} shows something: {expression}")


def test_dashboard_and_alerts_name_only_what_is_measured(prometheus):
    used = {
        name for text in [*(e for _, e in expressions()), *(r["expr"] for r in rules())] for name in NAME.findall(text)
    }
    assert used, "no names found"
    assert used <= prometheus.names()


def test_the_rules_are_quiet_on_a_healthy_server(prometheus):
    def evaluated():
        groups = prometheus.get("/api/v1/rules")["groups"]
        found = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return found if all(rule["health"] != "unknown" for rule in found.values()) else None

    found = until(evaluated, "all rules are evaluated")
    assert len(found) == len(rules())
    assert {name: (r["health"], r["state"]) for name, r in found.items() if r["health"] != "ok"} == {}
    assert {name: r["alerts"] for name, r in found.items() if r["state"] == "firing"} == {}


def test_panels_have_their_own_place():
    cells = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not taken & cells, panel["title"]
        cells |= taken
    identities = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(identities) == len(set(identities))
