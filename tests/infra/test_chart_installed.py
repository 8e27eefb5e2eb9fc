"""The Helm chart on a real API server of Kubernetes: what that accepts, keeps, changes and deletes. No pod ever runs:
there is no scheduler."""

import json
import os
import secrets
import subprocess
from pathlib import Path

import pytest
import requests
import yaml
from chart import CASES, CHART, LEAST, flags
from chronik import PATIENCE, until
from place import ROOT, commands, run, tool
from servers.cache import FOLDER
from servers.server import free_port

# The server needs seconds, its build minutes.
pytestmark = pytest.mark.long

DEFINITIONS = {
    "keda.sh_scaledobjects.yaml": "ScaledObject",
    "keda.sh_triggerauthentications.yaml": "TriggerAuthentication",
    "monitoring.coreos.com_podmonitors.yaml": "PodMonitor",
}
KINDS = (
    "statefulset,deployment,service,serviceaccount,networkpolicy,poddisruptionbudget,horizontalpodautoscaler,"
    "scaledobject,triggerauthentication,podmonitor"
)


class Kubernetes:
    """etcd and kube-apiserver on loopback, everything in `directory`."""

    def __init__(self, directory):
        self.directory = directory
        self.url = f"https://127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(16)
        # The server signs for itself.
        self.authority = f"{directory}/certificates/apiserver.crt"
        self.processes = []

    def __enter__(self):
        etcd = f"http://127.0.0.1:{free_port()}"
        peers = f"http://127.0.0.1:{free_port()}"
        self.spawn(
            "etcd",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            "--unsafe-no-fsync",
        )
        key, tokens = self.directory / "key.pem", self.directory / "tokens.csv"
        run("openssl", "genrsa", "-out", key, "2048")
        tokens.write_text(f"{self.token},admin,1,system:masters\n")
        self.spawn(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={self.url.rsplit(':', 1)[1]}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.directory}/certificates",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16",
        )
        configuration = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": self.url, "certificate-authority": self.authority}}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "log"}}],
            "current-context": "c",
        }
        (self.directory / "kubeconfig").write_text(yaml.safe_dump(configuration))
        until(self.ready, "the API server is ready")
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=PATIENCE)

    def spawn(self, name, *arguments):
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes.append(subprocess.Popen([tool(name), *arguments], stdout=log, stderr=log))

    def ready(self):
        for process in self.processes:
            assert process.poll() is None, f"{process.args[0]} ended, see {self.directory}"
        try:
            headers = {"Authorization": f"Bearer {self.token}"}
            return requests.get(f"{self.url}/readyz", headers=headers, verify=self.authority, timeout=5).ok
        # The server may not have made its certificate yet.
        except OSError:
            return False

    def run(self, program, *arguments, **options):
        own = {"KUBECONFIG": str(self.directory / "kubeconfig"), "HOME": str(self.directory)}
        path = f"{Path(tool('helm')).parent}{os.pathsep}{os.environ['PATH']}"
        return run(program, *arguments, env=os.environ | own | {"PATH": path}, **options)

    def helm(self, *arguments):
        return self.run("helm", "--namespace", "log", *arguments)

    def get(self, kinds, *arguments):
        """name → object, of our release."""
        text = self.run("kubectl", "get", kinds, "-l", "app.kubernetes.io/name=chronik", "-o", "json", *arguments)
        return {f"{each['kind']}/{each['metadata']['name']}": each for each in json.loads(text)["items"]}


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory):
    with Kubernetes(tmp_path_factory.mktemp("kubernetes")) as kubernetes:
        kubernetes.run("kubectl", "create", "namespace", "log")
        for file, kind in DEFINITIONS.items():
            (path,) = (FOLDER / "infra/definitions").glob(f"*/{file}")
            kubernetes.run("kubectl", "create", "-f", path)
            until(lambda kind=kind: kind in kubernetes.run("kubectl", "api-resources"), f"{kind} is known")
        yield kubernetes


@pytest.fixture
def release(kubernetes):
    """Removes what a test installed."""
    yield "events"
    kubernetes.helm("uninstall", "events", "--ignore-not-found")


def install(kubernetes, release, values, *words):
    kubernetes.helm(*words, release, CHART, *flags(LEAST | values))


def test_the_page_is_right(kubernetes, release):
    kubernetes.run("bash", "-ec", commands("Kubernetes"), cwd=ROOT)
    assert f"StatefulSet/{release}-chronik-broker" in kubernetes.get(KINDS)


@pytest.mark.parametrize("name", CASES)
def test_the_server_takes_all_of_it_and_uninstalling_leaves_nothing(kubernetes, release, name):
    install(kubernetes, release, CASES[name], "install")
    made = kubernetes.get(KINDS)
    assert "StatefulSet/events-chronik-broker" in made and "Deployment/events-chronik-query" in made
    assert ("ScaledObject/events-chronik-indexer" in made) == (name == "by the queue")
    kubernetes.helm("uninstall", release)
    until(lambda: not kubernetes.get(KINDS), "everything is gone")


def test_upgrade_changes_and_rollback_brings_back(kubernetes, release):
    def broker():
        (container,) = kubernetes.get("statefulset")["StatefulSet/events-chronik-broker"]["spec"]["template"]["spec"][
            "containers"
        ]
        age = [each["value"] for each in container["env"] if each["name"] == "CHRONIK_SHIP_MAX_AGE"]
        return container["image"], age

    install(kubernetes, release, {"image.tag": "v1"}, "install")
    assert broker() == ("chronik-ingest:v1", [])
    assert "HorizontalPodAutoscaler/events-chronik-indexer" in kubernetes.get(KINDS)
    changed = {"image.tag": "v2", "broker.settings.CHRONIK_SHIP_MAX_AGE": "30s", "indexer.autoscaling.by": "keda"}
    install(kubernetes, release, changed, "upgrade")
    assert broker() == ("chronik-ingest:v2", ["30s"])
    assert "HorizontalPodAutoscaler/events-chronik-indexer" not in kubernetes.get(KINDS)
    assert "ScaledObject/events-chronik-indexer" in kubernetes.get(KINDS)
    kubernetes.helm("rollback", release, "1")
    assert broker() == ("chronik-ingest:v1", [])
    assert "ScaledObject/events-chronik-indexer" not in kubernetes.get(KINDS)


def test_the_server_does_look_at_what_it_takes(kubernetes, release):
    with pytest.raises(AssertionError, match=r"tolerations\[0\].*Unsupported value"):
        install(kubernetes, release, {"query.tolerations[0].operator": "Sometimes"}, "install")
