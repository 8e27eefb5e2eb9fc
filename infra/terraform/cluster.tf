resource "aws_ecs_cluster" "this" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "service" {
  #checkov:skip=CKV_AWS_158:logs hold no records; they are encrypted with CloudWatch's own key
  #checkov:skip=CKV_AWS_338:how long is the operator's choice
  for_each          = { ingest = "/chronik/${var.name}/ingest", query = "/chronik/${var.name}/query", indexer = "/aws/lambda/${var.name}-indexer" }
  name              = each.value
  retention_in_days = var.log_days
}

# Names that stay when machines and load balancers are replaced.
resource "aws_route53_zone" "this" {
  #checkov:skip=CKV2_AWS_38:DNSSEC is not for private zones
  #checkov:skip=CKV2_AWS_39:query logs are not for private zones
  name    = var.dns_zone
  comment = "Chronik cluster ${var.name}"
  vpc {
    vpc_id = var.vpc_id
  }
}

resource "aws_route53_record" "broker" {
  zone_id = aws_route53_zone.this.zone_id
  name    = local.broker_address
  type    = "A"
  ttl     = 30
  records = [aws_instance.broker.private_ip]
}

resource "aws_route53_record" "query" {
  zone_id = aws_route53_zone.this.zone_id
  name    = local.query_address
  type    = "A"
  alias {
    name                   = aws_lb.query.dns_name
    zone_id                = aws_lb.query.zone_id
    evaluate_target_health = false
  }
}
