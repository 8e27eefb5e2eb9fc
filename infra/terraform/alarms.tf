# What must alert an operator even where no Prometheus looks at /metrics.
locals {
  alarms = {
    dead-letters = {
      about      = "Messages moved to the dead letters. Their records are scanned instead; move the messages back once indexers know them."
      namespace  = "AWS/SQS", metric = "ApproximateNumberOfMessagesVisible", statistic = "Maximum"
      dimensions = { QueueName = aws_sqs_queue.dead.name }
      above      = 0, minutes = 5, missing = "notBreaching"
    }
    indexing-lag = {
      about      = "A job waits for an indexer. Raise indexer.concurrency, or see why jobs come again."
      namespace  = "AWS/SQS", metric = "ApproximateAgeOfOldestMessage", statistic = "Maximum"
      dimensions = { QueueName = aws_sqs_queue.jobs.name }
      above      = var.lag_alarm_seconds, minutes = 10, missing = "notBreaching"
    }
    indexer-errors = {
      about      = "The function fails as a whole (crash, memory, time) and not just a job of it."
      namespace  = "AWS/Lambda", metric = "Errors", statistic = "Sum"
      dimensions = { FunctionName = aws_lambda_function.indexer.function_name }
      above      = 5, minutes = 15, missing = "notBreaching"
    }
    indexer-throttles = {
      about      = "The account's limit of concurrent functions is reached."
      namespace  = "AWS/Lambda", metric = "Throttles", statistic = "Sum"
      dimensions = { FunctionName = aws_lambda_function.indexer.function_name }
      above      = 50, minutes = 15, missing = "notBreaching"
    }
    broker-machine = {
      about      = "The broker's machine fails its checks. Nothing is lost: its volume and the bucket have everything."
      namespace  = "AWS/EC2", metric = "StatusCheckFailed", statistic = "Maximum"
      dimensions = { InstanceId = aws_instance.broker.id }
      above      = 0, minutes = 5, missing = "breaching"
    }
    search-unhealthy = {
      about      = "Query workers that are not ready."
      namespace  = "AWS/ApplicationELB", metric = "UnHealthyHostCount", statistic = "Maximum"
      dimensions = { LoadBalancer = aws_lb.query.arn_suffix, TargetGroup = aws_lb_target_group.query.arn_suffix }
      above      = 0, minutes = 10, missing = "notBreaching"
    }
    search-errors = {
      about      = "Searches are answered with 5xx: incomplete ones among them."
      namespace  = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", statistic = "Sum"
      dimensions = { LoadBalancer = aws_lb.query.arn_suffix }
      above      = 10, minutes = 5, missing = "notBreaching"
    }
  }
}

# Without a broker there is no running task to count, so the missing number is the alarm.
resource "aws_cloudwatch_metric_alarm" "broker_running" {
  alarm_name          = "${var.name}-broker-not-running"
  alarm_description   = "No broker runs. Producers keep retrying; searches answer from the bucket."
  namespace           = "ECS/ContainerInsights"
  metric_name         = "RunningTaskCount"
  statistic           = "Minimum"
  dimensions          = { ClusterName = aws_ecs_cluster.this.name, ServiceName = aws_ecs_service.ingest.name }
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 5
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.about
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  dimensions          = each.value.dimensions
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  period              = each.value.minutes * 60
  evaluation_periods  = 1
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}
