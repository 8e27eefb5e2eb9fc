#!/bin/bash
# First start of the broker's machine. It joins the cluster only once the log's volume is mounted: a broker must never
# write its log to the root disk.
set -euo pipefail

until [[ -e ${device} ]]; do sleep 1; done
blkid ${device} || mkfs.xfs ${device}
mkdir -p /var/lib/chronik
# Without `nofail`: a machine that can't mount it does not start.
echo "${device} /var/lib/chronik xfs defaults,noatime 0 2" >> /etc/fstab
mount /var/lib/chronik
mkdir -p /var/lib/chronik/data
chown ${user} /var/lib/chronik /var/lib/chronik/data

cat >> /etc/ecs/ecs.config <<'SETTINGS'
ECS_CLUSTER=${cluster}
ECS_INSTANCE_ATTRIBUTES={"chronik":"broker"}
ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST=true
ECS_CONTAINER_STOP_TIMEOUT=60s
SETTINGS
