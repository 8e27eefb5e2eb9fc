"""The Helm chart: values that it is rendered with, and what comes out."""

import yaml
from place import INFRA, run

CHART = INFRA / "helm/chronik"
# helm built from source takes itself for one of an old Kubernetes.
KUBERNETES = "1.36.0"
# The least that must be given.
LEAST = {
    "objectStore.s3.bucket": "events",
    "objectStore.s3.region": "eu-central-1",
    "queue.url": "https://sqs.eu-central-1.amazonaws.com/123456789012/chronik-jobs",
    "http.tokenSecret": "chronik-http",
}
CASES = {
    "least": {},
    "minio and elasticmq": {
        "objectStore.s3.endpoint": "http://minio:9000",
        "objectStore.s3.pathStyle": "true",
        "objectStore.s3.disableSsl": "true",
        "objectStore.s3.credentialsSecret": "minio",
        "objectStore.s3.prefix": "a/b",
        "queue.endpoint": "http://elasticmq:9324",
        "queue.credentialsSecret": "elasticmq",
        "networkPolicy.storePorts": "{9000,9324}",
    },
    "google": {
        "objectStore.backend": "gcs",
        "objectStore.gcs.bucket": "events",
        "objectStore.gcs.projectId": "p",
        "objectStore.gcs.prefix": "a",
    },
    "azure": {
        "objectStore.backend": "azure",
        "objectStore.azure.accountName": "acc",
        "objectStore.azure.container": "events",
        "objectStore.azure.prefix": "a",
        "broker.podLabels.identity": "azure",
    },
    "no indexers": {"indexer.enabled": "false", "queue.url": ""},
    "fixed numbers": {"indexer.autoscaling.by": "off", "indexer.replicas": 4, "query.autoscaling.by": "off"},
    "by external metrics": {
        "indexer.autoscaling.by": "hpa",
        "query.autoscaling.coldFetchMetric": "chronik:cold_fetch_seconds:p95",
    },
    "by the queue": {"indexer.autoscaling.by": "keda", "monitoring.podMonitors": "true", "monitoring.labels.team": "x"},
    "by a port of every node": {
        "broker.outside.advertisedAddress": "[fd00::1]:30092",
        "broker.outside.service.type": "NodePort",
        "broker.outside.service.nodePort": 30092,
    },
    "everything else": {
        "image.pullSecrets[0].name": "registry",
        "broker.service.annotations.a": "b",
        "broker.outside.advertisedAddress": "kafka.example.com:9092",
        "broker.outside.service.annotations.a": "b",
        "broker.outside.service.loadBalancerSourceRanges": "{10.0.0.0/8}",
        "broker.volume.storageClass": "gp3",
        "broker.coldReadsByQueryWorkers": "false",
        "broker.refuseEviction": "true",
        "broker.serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn": "arn:aws:iam::123456789012:role/ingest",
        "broker.settings.CHRONIK_SHIP_MAX_AGE": "30s",
        "broker.podAnnotations.a": "b",
        "broker.nodeSelector.disk": "fast",
        "broker.tolerations[0].operator": "Exists",
        "broker.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0].key": "disk",
        "broker.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
        ".nodeSelectorTerms[0].matchExpressions[0].operator": "Exists",
        "networkPolicy.kafkaFrom[0].ipBlock.cidr": "10.0.0.0/8",
        "networkPolicy.kafkaFromOutside[0].ipBlock.cidr": "192.168.0.0/16",
        "networkPolicy.httpFrom[0].namespaceSelector.matchLabels.a": "b",
        "networkPolicy.monitoringFrom[0].namespaceSelector.matchLabels.a": "b",
    },
}


def flags(values):
    return [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


def render(code=0, release="events", least=LEAST, **values):
    """The objects that the chart makes; `values` are keyed as in --set."""
    given = flags(least | values)
    text = run(
        "helm", "template", release, CHART, "--namespace", "log", "--kube-version", KUBERNETES, *given, code=code
    )
    return [each for each in yaml.safe_load_all(text) if each]
