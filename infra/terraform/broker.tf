# One broker, on one machine with one volume. A volume is attached to one machine at a time, the service stops the old
# task before it starts the new one, and the claim in the bucket fences whatever comes alive again.

data "aws_ssm_parameter" "ami" {
  count = var.broker.ami_id == null ? 1 : 0
  name  = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
}

resource "aws_ebs_volume" "log" {
  #checkov:skip=CKV_AWS_189:a KMS key is used where one is given
  #checkov:skip=CKV2_AWS_9:what is shipped is in the bucket; a snapshot of the log would be old when it is needed
  availability_zone = data.aws_subnet.broker.availability_zone
  size              = var.broker.volume_gib
  type              = "gp3"
  iops              = var.broker.volume_iops
  throughput        = var.broker.volume_mib_second
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  tags              = { Name = "${var.name}-log" }
}

resource "aws_instance" "broker" {
  ami                    = var.broker.ami_id == null ? data.aws_ssm_parameter.ami[0].insecure_value : var.broker.ami_id
  instance_type          = var.broker.instance_type
  subnet_id              = var.subnet_ids[0]
  vpc_security_group_ids = [aws_security_group.broker.id]
  iam_instance_profile   = aws_iam_instance_profile.machine.name
  ebs_optimized          = true
  monitoring             = true
  tags                   = { Name = "${var.name}-broker" }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  maintenance_options {
    auto_recovery = "default"
  }
  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = 30
  }

  user_data = templatefile("${path.module}/machine.sh", {
    cluster = aws_ecs_cluster.this.name
    device  = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.log.id, "-", "")}"
    user    = local.container_user
  })

  lifecycle {
    # A newer image is taken when the operator replaces the machine, not whenever a plan is made.
    ignore_changes = [ami, user_data]
  }
}

resource "aws_volume_attachment" "log" {
  device_name = "/dev/sdl"
  volume_id   = aws_ebs_volume.log.id
  instance_id = aws_instance.broker.id
  # The machine stops, and so does the broker, before its volume goes.
  stop_instance_before_detaching = true
}

resource "aws_ecs_task_definition" "ingest" {
  #checkov:skip=CKV_AWS_97:the volume is a disk of the machine, encrypted above
  family                   = "${var.name}-ingest"
  requires_compatibilities = ["EC2"]
  # Kafka clients connect to the machine's address, which the zone above names.
  network_mode       = "host"
  execution_role_arn = aws_iam_role.execution.arn
  task_role_arn      = aws_iam_role.ingest.arn

  volume {
    name      = "log"
    host_path = "/var/lib/chronik"
  }

  container_definitions = jsonencode([{
    name                   = "ingest"
    image                  = var.images.ingest
    essential              = true
    cpu                    = var.broker.cpu
    memory                 = var.broker.memory_mib
    user                   = local.container_user
    readonlyRootFilesystem = true
    stopTimeout            = 60
    linuxParameters        = { capabilities = { drop = ["ALL"] }, tmpfs = [{ containerPath = "/tmp", size = 256 }] }
    mountPoints            = [{ sourceVolume = "log", containerPath = "/var/lib/chronik" }]
    portMappings           = [for port in concat([8080], values(local.listeners)[*].port) : { containerPort = port, hostPort = port }]
    ulimits                = [{ name = "nofile", softLimit = 65536, hardLimit = 65536 }]
    secrets                = [{ name = "CHRONIK_HTTP_TOKEN", valueFrom = var.http_token_secret_arn }]
    # Live, not ready: a broker that replays its log must not be stopped for it.
    healthCheck = { command = ["CMD", "/usr/local/bin/chronik-health", "live"], interval = 10, retries = 6, startPeriod = 300 }
    environment = [for name, value in merge(local.object_store, local.queue, {
      CHRONIK_DATA_DIR = "/var/lib/chronik/data"
      # A name for each network, so that clients stay in theirs.
      CHRONIK_LISTENERS            = join(",", [for name, listener in local.listeners : "${name}://:${listener.port}"])
      CHRONIK_ADVERTISED_LISTENERS = join(",", [for name, listener in local.listeners : "${name}://${listener.advertised}"])
      CHRONIK_QUERY_ENDPOINTS      = local.query_url
    }, var.broker.settings) : { name = name, value = value }]
    logConfiguration = {
      logDriver = "awslogs"
      options   = { "awslogs-group" = aws_cloudwatch_log_group.service["ingest"].name, "awslogs-region" = var.region, "awslogs-stream-prefix" = "ingest" }
    }
  }])
}

resource "aws_ecs_service" "ingest" {
  name            = "ingest"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.ingest.arn
  launch_type     = "EC2"
  desired_count   = 1
  # Never two at once.
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  availability_zone_rebalancing      = "DISABLED"
  propagate_tags                     = "SERVICE"

  placement_constraints {
    type       = "memberOf"
    expression = "attribute:chronik == broker"
  }
  depends_on = [aws_volume_attachment.log, aws_iam_role_policy.ingest]
}
