# Jobs for the indexer. A hint only: the broker knows what has no archive, and sends it again. `chronik bucket init` makes
# the same.
resource "aws_sqs_queue" "jobs" {
  name                    = "${var.name}-jobs"
  sqs_managed_sse_enabled = true
  # AWS asks for six times the function's time, so that a throttled batch is not seen twice.
  visibility_timeout_seconds = min(6 * var.indexer.timeout_seconds, 43200)
  message_retention_seconds  = 4 * 24 * 3600
  receive_wait_time_seconds  = 20
  # On the fifth receive the indexer reports the job as failed; what comes a seventh time is no job at all.
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.dead.arn, maxReceiveCount = 6 })
}

resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-jobs-dead"
  sqs_managed_sse_enabled   = true
  message_retention_seconds = 14 * 24 * 3600
}

resource "aws_sqs_queue_redrive_allow_policy" "dead" {
  queue_url            = aws_sqs_queue.dead.id
  redrive_allow_policy = jsonencode({ redrivePermission = "byQueue", sourceQueueArns = [aws_sqs_queue.jobs.arn] })
}
