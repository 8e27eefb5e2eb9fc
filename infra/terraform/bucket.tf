# The history. Everything else can be rebuilt from here. `chronik bucket init` makes the same, but for policy and key.
resource "aws_s3_bucket" "history" {
  #checkov:skip=CKV_AWS_144:replication to another region is a choice of the operator and doubles the cost
  #checkov:skip=CKV_AWS_18:access logs need a second bucket; CloudTrail data events do the same per account
  #checkov:skip=CKV2_AWS_62:nothing listens to events of the bucket; jobs go through the queue
  #checkov:skip=CKV_AWS_145:a KMS key is used where one is given
  bucket = local.bucket
}

resource "aws_s3_bucket_ownership_controls" "history" {
  bucket = aws_s3_bucket.history.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "history" {
  bucket                  = aws_s3_bucket.history.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "history" {
  bucket = aws_s3_bucket.history.id
  rule {
    bucket_key_enabled = var.kms_key_arn != null
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

# Versions guard against deletion by mistake; they are kept for some days only.
resource "aws_s3_bucket_versioning" "history" {
  bucket = aws_s3_bucket.history.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "history" {
  #checkov:skip=CKV_AWS_300:a rule does drop unfinished uploads; the check takes the dynamic rule for the only one
  depends_on = [aws_s3_bucket_versioning.history]
  bucket     = aws_s3_bucket.history.id

  rule {
    id     = "forget what is deleted"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.undelete_days
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  rule {
    id     = "drop uploads that were never finished"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  # Archives and the catalog are read by every search and stay where they are, and so does what is under 128 KiB.
  dynamic "rule" {
    for_each = var.infrequent_access_days == null ? [] : [var.infrequent_access_days]
    content {
      id     = "keep old segments for less"
      status = "Enabled"
      filter {
        prefix = "${local.path}lanes/"
      }
      transition {
        days          = rule.value
        storage_class = "STANDARD_IA"
      }
    }
  }
}

data "aws_iam_policy_document" "history" {
  statement {
    sid       = "OnlyEncryptedConnections"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.history.arn, "${aws_s3_bucket.history.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Who owns the bucket is decided by who creates the next claim: no role may overwrite one.
  statement {
    sid       = "ClaimsAreCreatedOnce"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.history.arn}/${local.path}claims/*", "${aws_s3_bucket.history.arn}/${local.path}cluster.json"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
  }
}

resource "aws_s3_bucket_policy" "history" {
  depends_on = [aws_s3_bucket_public_access_block.history]
  bucket     = aws_s3_bucket.history.id
  policy     = data.aws_iam_policy_document.history.json
}

# Without it every byte to and from the bucket passes, and is paid, through NAT.
resource "aws_vpc_endpoint" "s3" {
  count             = length(var.route_table_ids) == 0 ? 0 : 1
  vpc_id            = var.vpc_id
  service_name      = "com.amazonaws.${var.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.route_table_ids
}
