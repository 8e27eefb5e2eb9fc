"""Alert rules and dashboard, against promtool and against a Prometheus that scrapes the real services."""

import json
import re
import subprocess

import pytest
import requests
import yaml
from chronik import PATIENCE, Indexer, Ingest, Query, until
from place import INFRA, ROOT, run, tool
from servers import sqs
from servers.elasticmq import Elasticmq
from servers.server import free_port

ALERTS = INFRA / "prometheus/alerts.yaml"
DASHBOARD = INFRA / "grafana/chronik.json"
NAME = re.compile(r"\b(?:chronik|fetch|wal|tantivy)_\w+")


class Prometheus:
    """A Prometheus that scrapes `targets` (job → host:port) every second and evaluates the project's rules."""

    def __init__(self, directory, targets):
        self.jobs = len(targets)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
            ],
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
        until(self.up, "Prometheus has scraped the services")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE)
        self.log.close()

    def up(self):
        try:
            return len(self.query("up == 1")) == self.jobs
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
    """Scrapes services that have produced, shipped, indexed, fetched and searched, and soon have deleted something."""
    directory = tmp_path_factory.mktemp("monitoring")
    broker, worker = free_port(), free_port()
    with Elasticmq() as elasticmq:
        queue = {"queue": "sqs", "SQS_QUEUE_URL": sqs.make_queue(elasticmq.url)} | sqs.credentials()
        soon = {"ship_max_age": "1s", "index_batch_age": "1s"}
        workers = f"http://127.0.0.1:{worker}"
        with (
            Ingest(directory / "ingest", http_port=broker, query_endpoints=workers, **soon, **queue) as ingest,
            Indexer(directory / "indexer", local_storage_path=ingest.bucket, **queue) as indexer,
            Query(directory / "query", http_port=worker, ingest_endpoints=ingest.http).reads(ingest) as query,
        ):
            services = {"chronik-ingest": ingest, "chronik-indexer": indexer, "chronik-query": query}
            targets = {job: service.http.removeprefix("http://") for job, service in services.items()}
            with Prometheus(directory, targets) as prometheus:
                # A job's result is deleted once a later segment contains its command.
                for _ in range(2):
                    ingest.tool("produce", "orders", stdin=b"order 4711 paid\n" * 1000)
                    ingest.seal()
                    ingest.wait_archived()
                assert query.search("orders", "paid")["total"]["value"]
                assert ingest.tool("consume", "orders", "--count", 1000)
                yield prometheus


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions():
    """(title, query as Grafana sends it with all jobs chosen)"""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$job", ".+")


def rules():
    """Alerts, and what is recorded for other purposes."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_the_alert_rules_are_valid():
    run("promtool", "check", "rules", "--lint=all", "--lint-fatal", ALERTS)


def test_each_alert_fires_where_it_should_and_only_there():
    cases = ROOT / "tests/infra/alerts.test.yaml"
    run("promtool", "test", "rules", cases)
    tested = cases.read_text()
    assert not [rule for rule in rules() if rule.get("alert", rule.get("record")) not in tested]


def test_every_query_of_the_dashboard_finds_something(prometheus):
    for title, expression in expressions():
        until(lambda expression=expression: prometheus.query(expression), f"{title} shows something: {expression}")


def test_dashboard_and_rules_name_what_is_measured_and_nothing_else(prometheus):
    used = {
        name for text in (*(e for _, e in expressions()), *(r["expr"] for r in rules())) for name in NAME.findall(text)
    }

    def measured():
        return {name for name in prometheus.names() if NAME.fullmatch(name)}

    until(lambda: used <= measured(), "all names are measured")
    parts = re.compile("_(bucket|sum|count)$")
    assert {parts.sub("", name) for name in measured()} == {parts.sub("", name) for name in used}


def test_the_rules_are_quiet_on_healthy_services(prometheus):
    def evaluated():
        groups = prometheus.get("/api/v1/rules")["groups"]
        found = {rule["name"]: rule for group in groups for rule in group["rules"]}
        return found if all(rule["health"] != "unknown" for rule in found.values()) else None

    found = until(evaluated, "all rules are evaluated")
    assert len(found) == len(rules())
    assert {name: (r["health"], r["state"]) for name, r in found.items() if r["health"] != "ok"} == {}
    assert {name: r["alerts"] for name, r in found.items() if r.get("state") == "firing"} == {}


def test_panels_have_their_own_place():
    cells = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not taken & cells, panel["title"]
        cells |= taken
    identities = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(identities) == len(set(identities))
