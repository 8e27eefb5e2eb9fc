"""The Helm chart: rendered with many values, held against Kubernetes' own schemas, and refusing what can't work."""

import subprocess

import kubernetes_validate
import pytest
from chart import CASES, CHART, KUBERNETES, LEAST, flags, render
from place import run, tool

# The oldest that Chart.yaml admits, and the newest.
KUBERNETES_VERSIONS = ("1.27", "1.37")
# Kinds of extensions, which Kubernetes' schemas don't describe.
EXTENSIONS = {"ScaledObject", "TriggerAuthentication", "PodMonitor"}
WORKLOADS = {"StatefulSet", "Deployment"}


@pytest.fixture(scope="module", params=CASES)
def objects(request):
    return render(**CASES[request.param])


def of_kind(objects, *kinds):
    return {each["metadata"]["name"]: each for each in objects if each["kind"] in kinds}


def environment(workload):
    return {entry["name"]: entry for entry in workload["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_helm_finds_nothing_to_criticise():
    run("helm", "lint", "--strict", CHART, "--kube-version", KUBERNETES, *flags(LEAST))


def test_kubernetes_knows_every_field(objects):
    for each in objects:
        if each["kind"] not in EXTENSIONS:
            for version in KUBERNETES_VERSIONS:
                kubernetes_validate.validate(each, version, strict=True)


def test_there_is_one_broker_and_its_log_outlives_the_release(objects):
    (broker,) = of_kind(objects, "StatefulSet").values()
    spec = broker["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (1, "OrderedReady")
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    mounts = spec["template"]["spec"]["containers"][0]["volumeMounts"]
    assert {"name": spec["volumeClaimTemplates"][0]["metadata"]["name"], "mountPath": "/var/lib/chronik"} in mounts
    scaled = of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject").values()
    assert broker["metadata"]["name"] not in {each["spec"]["scaleTargetRef"]["name"] for each in scaled}


def test_pods_have_no_rights_that_they_do_not_need(objects):
    for workload in of_kind(objects, *WORKLOADS).values():
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
        assert pod["terminationGracePeriodSeconds"] > 30
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}
            assert context["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"]
            written = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {environment(workload)["CHRONIK_DATA_DIR"]["value"], "/tmp"} <= written


def test_secrets_come_from_secrets(objects):
    for workload in of_kind(objects, *WORKLOADS).values():
        for name, entry in environment(workload).items():
            if name.endswith(("_TOKEN", "_KEY", "_KEY_ID")):
                assert entry.keys() == {"name", "valueFrom"} and entry["valueFrom"].keys() == {"secretKeyRef"}


def test_what_selects_finds_its_pods(objects):
    pods = {
        name: workload["spec"]["template"] for name, workload in of_kind(objects, "Deployment", "StatefulSet").items()
    }

    def found(labels):
        return [name for name, pod in pods.items() if labels.items() <= pod["metadata"]["labels"].items()]

    for name, service in of_kind(objects, "Service").items():
        (pod,) = found(service["spec"]["selector"])
        ports = {port["name"] for port in pods[pod]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name
    for each in of_kind(objects, "PodDisruptionBudget").values():
        assert len(found(each["spec"]["selector"]["matchLabels"])) == 1
    for workload in of_kind(objects, "Deployment", "StatefulSet").values():
        assert found(workload["spec"]["selector"]["matchLabels"]) == [workload["metadata"]["name"]]
        accounts = of_kind(objects, "ServiceAccount")
        assert workload["spec"]["template"]["spec"]["serviceAccountName"] in accounts


def test_services_name_each_other_as_they_are_called(objects):
    services = of_kind(objects, "Service")
    workloads = of_kind(objects, *WORKLOADS)
    for workload in workloads.values():
        for name in ("CHRONIK_INGEST_ENDPOINTS", "CHRONIK_QUERY_ENDPOINTS"):
            if entry := environment(workload).get(name):
                assert entry["value"].removeprefix("http://").removesuffix(":8080") in services


def listeners(broker, setting):
    """name → (host, port)"""
    parts = [part.split("://") for part in environment(broker)[setting]["value"].split(",")]
    return {name: (*address.rsplit(":", 1),) for name, address in parts}


def test_each_listener_has_a_service_and_tells_the_address_of_its_network(objects):
    services, broker = of_kind(objects, "Service"), of_kind(objects, "StatefulSet")["events-chronik-broker"]
    bound, advertised = (listeners(broker, f"CHRONIK_{kind}LISTENERS") for kind in ("", "ADVERTISED_"))
    assert bound.keys() == advertised.keys()
    ports = {port["name"]: port for port in broker["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert {int(port) for _, port in bound.values()} == {each["containerPort"] for each in ports.values()} - {8080}
    service = services["events-chronik-broker"]
    assert advertised["INSIDE"] == ("events-chronik-broker.log.svc", "9092")
    assert {"name": "kafka", "port": 9092, "targetPort": "kafka"} in service["spec"]["ports"]
    assert ports["kafka"]["containerPort"] == int(bound["INSIDE"][1])
    outside = services.get("events-chronik-broker-outside")
    assert (outside is not None) == ("OUTSIDE" in bound) == ("kafka-outside" in ports)
    (policy,) = (each for name, each in of_kind(objects, "NetworkPolicy").items() if name.endswith("-broker"))
    open_ports = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert open_ports == ports.keys()
    if outside:
        assert ports["kafka-outside"]["containerPort"] == int(bound["OUTSIDE"][1])
        (port,) = outside["spec"]["ports"]
        told = {"LoadBalancer": ("kafka.example.com", "9092"), "NodePort": ("[fd00::1]", str(port.get("nodePort")))}
        assert advertised["OUTSIDE"] == told[outside["spec"]["type"]]


def test_a_number_of_replicas_is_left_to_what_scales(objects):
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject").values()
    }
    for name, deployment in of_kind(objects, "Deployment").items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name


def test_the_queue_is_what_indexers_scale_by():
    keda = of_kind(render(**CASES["by the queue"]), "ScaledObject")["events-chronik-indexer"]
    (trigger,) = keda["spec"]["triggers"]
    assert trigger["type"] == "aws-sqs-queue" and trigger["metadata"]["queueURL"] == LEAST["queue.url"]
    hpa = of_kind(render(**CASES["by external metrics"]), "HorizontalPodAutoscaler")["events-chronik-indexer"]
    assert hpa["spec"]["metrics"][0]["external"]["metric"]["name"] == "chronik_pending_jobs"


def test_reads_of_old_records_are_what_query_workers_scale_by_too():
    hpa = of_kind(render(**CASES["by external metrics"]), "HorizontalPodAutoscaler")["events-chronik-query"]
    cpu, reads = hpa["spec"]["metrics"]
    assert cpu["resource"]["name"] == "cpu"
    assert reads["external"]["metric"]["name"] == CASES["by external metrics"]["query.autoscaling.coldFetchMetric"]
    assert reads["external"]["target"] == {"type": "Value", "value": "2"}


def test_without_indexers_nothing_of_theirs_is_there():
    objects = render(**CASES["no indexers"])
    assert not [name for name in of_kind(objects, "Deployment", "HorizontalPodAutoscaler") if "indexer" in name]
    broker = environment(of_kind(objects, "StatefulSet")["events-chronik-broker"])
    assert not {"CHRONIK_QUEUE", "SQS_QUEUE_URL"} & broker.keys()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"objectStore.s3.bucket": ""}, "objectStore.s3.bucket is empty"),
        ({"objectStore.s3.region": ""}, "objectStore.s3.region is empty"),
        ({"objectStore.backend": "gcs"}, "objectStore.gcs.bucket is empty"),
        ({"objectStore.backend": "azure"}, "objectStore.azure.accountName is empty"),
        ({"objectStore.backend": "local"}, "backend"),
        ({"http.tokenSecret": ""}, "http.tokenSecret is empty"),
        ({"queue.url": ""}, "queue.url is empty"),
        ({"queue.url": "sqs://x"}, "url"),
        ({"broker.replicas": 2}, "replicas"),
        ({"broker.outside.advertisedAddress": "kafka.example.com"}, "advertisedAddress"),
        ({"broker.settings.ship-max-age": "1s"}, "ship-max-age"),
        ({"indexer.autoscaling.by": "magic"}, "by"),
        ({"indexer.autoscaling.min": 0}, "indexer.autoscaling.min is 0"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(values, told):
    done = subprocess.run(
        [tool("helm"), "template", "c", CHART, "--kube-version", KUBERNETES, *flags(LEAST | values)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and told in done.stderr, done.stderr
