# terraform apply -var-file=example.tfvars
region          = "eu-central-1"
vpc_id          = "vpc-0123456789abcdef0"
subnet_ids      = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
route_table_ids = ["rtb-0123456789abcdef0"]
client_cidrs    = ["10.0.0.0/16"]

images = {
  ingest = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chronik-ingest:0.1.0"
  query  = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/chronik-query:0.1.0"
}
indexer_zip           = "../../target/lambda/x86_64/bootstrap/bootstrap.zip"
http_token_secret_arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:chronik-http-token-AbCdEf"

broker = {
  instance_type     = "m7i.large"
  volume_gib        = 200
  volume_mib_second = 250
  # Behind the VPN the private zone is not known, the machine is by this name.
  outside  = { advertised = "kafka.example.com:9094", cidrs = ["192.168.0.0/16"] }
  settings = { CHRONIK_SHIP_MAX_AGE = "30s" }
}
alarm_topic_arns = ["arn:aws:sns:eu-central-1:123456789012:on-call"]
