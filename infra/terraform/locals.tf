data "aws_caller_identity" "this" {}

data "aws_subnet" "broker" {
  id = var.subnet_ids[0]
}

locals {
  bucket = coalesce(var.bucket, "${var.name}-${data.aws_caller_identity.this.account_id}-${var.region}")
  # "" or "some/prefix/"
  path = var.bucket_prefix == "" ? "" : "${var.bucket_prefix}/"

  broker_address = "broker.${var.dns_zone}"
  # Kafka's listeners, and what clients of each are told to connect to.
  listeners = merge(
    { INSIDE = { port = 9092, advertised = "${local.broker_address}:9092" } },
    { for outside in var.broker.outside[*] : "OUTSIDE" => { port = outside.port, advertised = outside.advertised } },
  )

  query_address = "search.${var.dns_zone}"
  query_scheme  = var.certificate_arn == null ? "http" : "https"
  query_port    = var.certificate_arn == null ? 8080 : 443
  query_url     = "${local.query_scheme}://${local.query_address}:${local.query_port}"

  object_store = merge(
    { OBJECT_STORE_BACKEND = "s3", S3_BUCKET = local.bucket, S3_REGION = var.region },
    var.bucket_prefix == "" ? {} : { S3_PREFIX = var.bucket_prefix },
  )
  queue = { CHRONIK_QUEUE = "sqs", SQS_QUEUE_URL = aws_sqs_queue.jobs.url }

  # Both run as user 10001 of their images.
  container_user = "10001:10001"
}
