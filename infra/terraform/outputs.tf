output "bootstrap_servers" {
  description = "What Kafka clients connect to, from inside of the VPC."
  value       = "${local.broker_address}:9092"
}

output "bootstrap_servers_outside" {
  description = "What Kafka clients of broker.outside connect to; null if it is not there."
  value       = one(var.broker.outside[*].advertised)
}

output "search_url" {
  description = "Search, and records of any age."
  value       = local.query_url
}

output "bucket" {
  description = "The bucket with the history."
  value       = aws_s3_bucket.history.id
}

output "queue_url" {
  description = "The indexer's jobs."
  value       = aws_sqs_queue.jobs.url
}

output "dead_letter_queue_url" {
  description = "Messages moved to the dead letters."
  value       = aws_sqs_queue.dead.url
}

output "connect" {
  description = "How to use it, from a machine in client_cidrs that resolves the VPC's names."
  value       = <<-TEXT
    export CHRONIK_HTTP_TOKEN=$(aws secretsmanager get-secret-value --region ${var.region} --secret-id ${var.http_token_secret_arn} --query SecretString --output text)
    kcat -b ${local.broker_address}:9092 -P -t orders
    chronik --http ${local.query_url} search orders 'paid NOT refunded'
    chronik --bootstrap ${local.broker_address}:9092 --http http://${local.broker_address}:8080 status
  TEXT
}
