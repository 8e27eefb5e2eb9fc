variable "name" {
  description = "Name of this cluster, and prefix of what is made for it."
  type        = string
  default     = "chronik"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}$", var.name))
    error_message = "name is up to 24 lower-case letters, digits and dashes, and begins with a letter."
  }
}

variable "region" {
  description = "AWS region of everything."
  type        = string
}

variable "tags" {
  description = "Tags on everything, beside application and cluster."
  type        = map(string)
  default     = {}
}

# ── Network: an existing one

variable "vpc_id" {
  description = "The VPC that all pieces run in. It needs DNS hostnames."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, in at least two availability zones, that reach ECR, SQS and CloudWatch (NAT or endpoints). The broker and its volume live in the first one's zone."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "subnet_ids needs two subnets at least: the load balancer asks for two zones."
  }
}

variable "route_table_ids" {
  description = "Route tables of these subnets: they get a gateway endpoint to S3, which costs nothing, where NAT is paid by the byte. Empty where there is one already."
  type        = list(string)
  default     = []
}

variable "client_cidrs" {
  description = "Networks of Kafka clients and of those who search."
  type        = list(string)
}

variable "dns_zone" {
  description = "Private DNS zone that is made for the broker and the search address."
  type        = string
  default     = "chronik.internal"
}

# ── Images and code

variable "images" {
  description = "Container images of the broker and of the query workers, by tag or digest."
  type        = object({ ingest = string, query = string })
}

variable "indexer_zip" {
  description = "The zip file of the indexer's Lambda function, as infra/lambda/build makes it."
  type        = string
}

# ── Secrets and keys

variable "http_token_secret_arn" {
  description = "A Secrets Manager secret whose value every HTTP request must bear. Made outside, so that it is not in Terraform's state."
  type        = string
}

variable "kms_key_arn" {
  description = "KMS key for bucket and volume; null takes the keys that S3 and EBS manage."
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "ACM certificate for the search address; null serves plain HTTP inside of the VPC."
  type        = string
  default     = null
}

# ── The bucket

variable "bucket" {
  description = "Name of the bucket; null makes one up from name, account and region."
  type        = string
  default     = null
}

variable "bucket_prefix" {
  description = "Prefix of all objects, without a slash at either end; one prefix is one cluster. Empty: none."
  type        = string
  default     = ""
}

variable "undelete_days" {
  description = "How long what is deleted or overwritten can be brought back (versioning). Chronik overwrites one small object; the rest is never changed."
  type        = number
  default     = 7
}

variable "infrequent_access_days" {
  description = "Age at which segments go to Standard-IA: half the price to keep, more to read. null: never."
  type        = number
  default     = null
}

# ── The broker

variable "broker" {
  description = "The broker's machine, and its volume, which holds what is not shipped yet. outside: a second listener for clients of networks (cidrs) that know the machine, or what stands before its port, by another name (advertised, as host:port) than the private zone's."
  type = object({
    instance_type     = optional(string, "m7i.large")
    ami_id            = optional(string)
    cpu               = optional(number, 1792)
    memory_mib        = optional(number, 6144)
    volume_gib        = optional(number, 100)
    volume_iops       = optional(number, 3000)
    volume_mib_second = optional(number, 250)
    outside           = optional(object({ advertised = string, cidrs = list(string), port = optional(number, 9094) }))
    settings          = optional(map(string), {})
  })
  default = {}
  validation {
    condition     = var.broker.outside == null || can(regex("^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+$", var.broker.outside.advertised))
    error_message = "broker.outside.advertised is what clients connect to, as host:port."
  }
}

# ── Indexer and query workers

variable "indexer" {
  description = "The Lambda function: its size, its time, how many may run at once, and what the zip was built for (x86_64 or arm64)."
  type = object({
    architecture    = optional(string, "x86_64")
    memory_mib      = optional(number, 2048)
    tmp_mib         = optional(number, 4096)
    timeout_seconds = optional(number, 300)
    concurrency     = optional(number, 20)
    settings        = optional(map(string), {})
  })
  default = {}
}

variable "query" {
  description = "The query workers on Fargate. cache_gib: how much of the disk, less than all, is a cache of what was read of the bucket; 0: none."
  type = object({
    count_min   = optional(number, 2)
    count_max   = optional(number, 10)
    cpu         = optional(number, 1024)
    memory_mib  = optional(number, 4096)
    disk_gib    = optional(number, 50)
    cache_gib   = optional(number, 40)
    cpu_percent = optional(number, 60)
    settings    = optional(map(string), {})
  })
  default = {}
}

# ── Watching

variable "log_days" {
  description = "How long logs are kept."
  type        = number
  default     = 30
}

variable "alarm_topic_arns" {
  description = "SNS topics that alarms go to."
  type        = list(string)
  default     = []
}

variable "lag_alarm_seconds" {
  description = "A job that waits longer than this raises the alarm."
  type        = number
  default     = 1800
}
