# Search, and old records for the broker: no state but caches.
resource "aws_ecs_task_definition" "query" {
  family                   = "${var.name}-query"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.query.cpu
  memory                   = var.query.memory_mib
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.query.arn

  ephemeral_storage {
    size_in_gib = var.query.disk_gib
  }
  volume {
    name = "cache"
  }
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = "query"
    image                  = var.images.query
    essential              = true
    user                   = local.container_user
    readonlyRootFilesystem = true
    stopTimeout            = 60
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
    mountPoints            = [{ sourceVolume = "cache", containerPath = "/var/lib/chronik" }, { sourceVolume = "tmp", containerPath = "/tmp" }]
    portMappings           = [{ containerPort = 8080 }]
    secrets                = [{ name = "CHRONIK_HTTP_TOKEN", valueFrom = var.http_token_secret_arn }]
    healthCheck            = { command = ["CMD", "/usr/local/bin/chronik-health", "live"], interval = 10, retries = 6, startPeriod = 60 }
    environment = [for name, value in merge(local.object_store, {
      CHRONIK_DATA_DIR         = "/var/lib/chronik"
      CHRONIK_HTTP_BIND        = "0.0.0.0"
      CHRONIK_CACHE_DISK_BYTES = "${var.query.cache_gib}GiB"
      CHRONIK_INGEST_ENDPOINTS = "http://${local.broker_address}:8080"
    }, var.query.settings) : { name = name, value = value }]
    logConfiguration = {
      logDriver = "awslogs"
      options   = { "awslogs-group" = aws_cloudwatch_log_group.service["query"].name, "awslogs-region" = var.region, "awslogs-stream-prefix" = "query" }
    }
  }])
}

resource "aws_ecs_service" "query" {
  name                   = "query"
  cluster                = aws_ecs_cluster.this.id
  task_definition        = aws_ecs_task_definition.query.arn
  launch_type            = "FARGATE"
  desired_count          = var.query.count_min
  enable_execute_command = false
  propagate_tags         = "SERVICE"

  network_configuration {
    subnets         = var.subnet_ids
    security_groups = [aws_security_group.query.id]
  }
  load_balancer {
    target_group_arn = aws_lb_target_group.query.arn
    container_name   = "query"
    container_port   = 8080
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  lifecycle {
    ignore_changes = [desired_count]
  }
  depends_on = [aws_lb_listener.query, aws_iam_role_policy.query]
}

resource "aws_appautoscaling_target" "query" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.query.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.query.count_min
  max_capacity       = var.query.count_max
}

resource "aws_appautoscaling_policy" "query" {
  name               = "${var.name}-query-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.query.service_namespace
  resource_id        = aws_appautoscaling_target.query.resource_id
  scalable_dimension = aws_appautoscaling_target.query.scalable_dimension
  target_tracking_scaling_policy_configuration {
    target_value = var.query.cpu_percent
    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

resource "aws_lb" "query" {
  #checkov:skip=CKV_AWS_91:access logs need a bucket of their own; the workers log what they refuse
  #checkov:skip=CKV_AWS_150:it holds nothing
  #checkov:skip=CKV2_AWS_28:internal
  #checkov:skip=CKV2_AWS_20:HTTPS where a certificate is given
  name                       = "${var.name}-query"
  internal                   = true
  load_balancer_type         = "application"
  security_groups            = [aws_security_group.balancer.id]
  subnets                    = var.subnet_ids
  drop_invalid_header_fields = true
  # The longest search.
  idle_timeout = 120
}

resource "aws_lb_target_group" "query" {
  #checkov:skip=CKV_AWS_378:between load balancer and worker, inside of the VPC
  name                 = "${var.name}-query"
  vpc_id               = var.vpc_id
  target_type          = "ip"
  protocol             = "HTTP"
  port                 = 8080
  deregistration_delay = 30
  health_check {
    path                = "/health/ready"
    matcher             = "200"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "query" {
  #checkov:skip=CKV_AWS_2:HTTPS where a certificate is given
  #checkov:skip=CKV_AWS_103:HTTPS where a certificate is given
  load_balancer_arn = aws_lb.query.arn
  port              = local.query_port
  protocol          = upper(local.query_scheme)
  certificate_arn   = var.certificate_arn
  ssl_policy        = var.certificate_arn == null ? null : "ELBSecurityPolicy-TLS13-1-2-2021-06"
  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.query.arn
  }
}
