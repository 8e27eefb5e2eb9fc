resource "aws_lambda_function" "indexer" {
  #checkov:skip=CKV_AWS_117:outside of the VPC it reaches S3 and SQS without NAT
  #checkov:skip=CKV_AWS_116:failed jobs go to the queue's own dead-letter queue
  #checkov:skip=CKV_AWS_272:code signing needs a signing profile of the operator's
  #checkov:skip=CKV_AWS_173:the environment holds no secrets
  #checkov:skip=CKV_AWS_115:the event source below limits how many run at once
  function_name    = "${var.name}-indexer"
  description      = "Turns segments into archives"
  role             = aws_iam_role.indexer.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.indexer.architecture]
  filename         = var.indexer_zip
  source_code_hash = filebase64sha256(var.indexer_zip)
  memory_size      = var.indexer.memory_mib
  timeout          = var.indexer.timeout_seconds

  ephemeral_storage {
    size = var.indexer.tmp_mib
  }
  environment {
    variables = merge(local.object_store, local.queue, var.indexer.settings)
  }
  tracing_config {
    mode = "PassThrough"
  }
  depends_on = [aws_cloudwatch_log_group.service, aws_iam_role_policy.indexer]
}

resource "aws_lambda_event_source_mapping" "jobs" {
  event_source_arn = aws_sqs_queue.jobs.arn
  function_name    = aws_lambda_function.indexer.arn
  # One job is up to 64 MiB of records. A job that fails comes back alone.
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]
  scaling_config {
    maximum_concurrency = var.indexer.concurrency
  }
}
