# Who may talk to whom. Going out is free: bucket, queue, logs and images have names and no fixed addresses.
locals {
  ingress = {
    "clients speak Kafka"                     = { to = aws_security_group.broker.id, port = 9092, cidrs = var.client_cidrs }
    "clients ask the broker where things are" = { to = aws_security_group.broker.id, port = 8080, cidrs = var.client_cidrs }
    "clients search"                          = { to = aws_security_group.balancer.id, port = local.query_port, cidrs = var.client_cidrs }
  }
  ingress_outside = { for outside in var.broker.outside[*] : "clients from outside speak Kafka" => {
    to = aws_security_group.broker.id, port = outside.port, cidrs = outside.cidrs
  } }
  inner = {
    "query workers follow the tail"      = { to = aws_security_group.broker.id, port = 8080, from = aws_security_group.query.id }
    "the broker reads old records"       = { to = aws_security_group.balancer.id, port = local.query_port, from = aws_security_group.broker.id }
    "the load balancer hands on queries" = { to = aws_security_group.query.id, port = 8080, from = aws_security_group.balancer.id }
  }
  ingress_each = merge([for what, rule in merge(local.ingress, local.ingress_outside) : { for cidr in rule.cidrs : "${what} from ${cidr}" => merge(rule, { what = what, cidr = cidr }) }]...)
}

resource "aws_security_group" "broker" {
  name        = "${var.name}-broker"
  description = "Kafka and HTTP of the broker"
  vpc_id      = var.vpc_id
}

resource "aws_security_group" "query" {
  name        = "${var.name}-query"
  description = "The query workers"
  vpc_id      = var.vpc_id
}

resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "The search address"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each          = local.ingress_each
  security_group_id = each.value.to
  description       = each.value.what
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_ingress_rule" "inner" {
  for_each                     = local.inner
  security_group_id            = each.value.to
  description                  = each.key
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
  referenced_security_group_id = each.value.from
}

resource "aws_vpc_security_group_egress_rule" "out" {
  for_each          = { broker = aws_security_group.broker.id, query = aws_security_group.query.id }
  security_group_id = each.value
  description       = "to bucket, queue, logs and images"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "to the query workers"
  ip_protocol                  = "tcp"
  from_port                    = 8080
  to_port                      = 8080
  referenced_security_group_id = aws_security_group.query.id
}
