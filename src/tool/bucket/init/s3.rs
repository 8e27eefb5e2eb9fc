//! A bucket on S3, as the Terraform templates make it, but for its policy and keys of one's own.

use anyhow::{Result, bail};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, LifecycleRule, VersioningConfiguration,
};
use chronik_store::setting::S3Place;

use super::part::SetupPart;
use crate::tool::bucket::aws::{AwsRefusal, s3_client};
use crate::tool::bucket::lifecycle::{self, BucketLifecycle};
use crate::tool::bucket::public_access;

const PUBLIC: &str = "public access block";
const UPLOADS: &str = "lifecycle: drop unfinished uploads";
const FORGET: &str = "lifecycle: forget what is deleted";
const VERSIONS: &str = "versions";
/// Where buckets are made if no region is set.
const FIRST_REGION: &str = "us-east-1";

/// Makes what is not there. Without the bucket itself there is nothing to go on with.
pub async fn make(place: &S3Place) -> Result<Vec<SetupPart>> {
    let (client, region) = s3_client(place).await?;
    let mut parts = vec![bucket(&client, place, &region).await?];
    parts.push(public_access_block(&client, &place.bucket).await);
    parts.extend(kept_for_a_while(&client, place).await);
    Ok(parts)
}

async fn bucket(client: &Client, place: &S3Place, region: &str) -> Result<SetupPart> {
    let bucket = &place.bucket;
    let part = format!("bucket {bucket}");
    let refusal = match client.head_bucket().bucket(bucket).send().await {
        Ok(_) => return Ok(SetupPart::kept(part)),
        Err(error) => AwsRefusal::from(error),
    };
    match refusal.status {
        Some(404) => {}
        Some(301) => bail!("bucket {bucket} is in another region than {region}: check S3_REGION"),
        Some(403) => bail!(
            "bucket {bucket} may not be looked at: it is another account's, or the credentials are wrong or lack \
             s3:ListBucket ({refusal})"
        ),
        _ => bail!("bucket {bucket} can't be asked for: {refusal}; check S3_ENDPOINT and S3_REGION"),
    }
    let create = client.create_bucket().bucket(bucket);
    let create = match region {
        FIRST_REGION => create,
        region => {
            let there = BucketLocationConstraint::from(region);
            let configuration = CreateBucketConfiguration::builder().location_constraint(there);
            create.create_bucket_configuration(configuration.build())
        }
    };
    match create.send().await.map_err(AwsRefusal::from) {
        Ok(_) => Ok(SetupPart::made(part)),
        Err(refusal) if refusal.code == "BucketAlreadyOwnedByYou" => Ok(SetupPart::kept(part)),
        Err(refusal) if refusal.is_forbidden() => bail!("{part} can't be made ({refusal}): allow s3:CreateBucket"),
        Err(refusal) => bail!("{part} can't be made: {refusal}"),
    }
}

async fn public_access_block(client: &Client, bucket: &str) -> SetupPart {
    match public_access::blocked(client, bucket).await {
        Ok(Some(true)) => SetupPart::kept(PUBLIC),
        Ok(Some(false)) => SetupPart::different(PUBLIC, "it leaves something open"),
        Ok(None) => match public_access::block(client, bucket).await {
            Ok(()) => SetupPart::made(PUBLIC),
            Err(refusal) => SetupPart::refused(PUBLIC, refusal),
        },
        Err(refusal) => SetupPart::refused(PUBLIC, refusal),
    }
}

/// Lifecycle and versions. What is deleted is kept only once there is a rule that forgets it some day. A bucket that
/// has kept versions without one may keep another program's history: no such rule is added to it.
async fn kept_for_a_while(client: &Client, place: &S3Place) -> Vec<SetupPart> {
    let bucket = &place.bucket;
    let mut rules = match BucketLifecycle::of(client, bucket, place.prefix.as_deref()).await {
        Ok(rules) => rules,
        Err(refusal) => return [FORGET, UPLOADS].map(|part| SetupPart::refused(part, &refusal)).to_vec(),
    };
    let forget = match rules.forgets_versions() {
        true => SetupPart::kept(FORGET),
        false => match client.get_bucket_versioning().bucket(bucket).send().await.map_err(AwsRefusal::from) {
            Ok(answer) if answer.status.is_some() => {
                SetupPart::different(FORGET, "versions from before are kept for ever")
            }
            Err(refusal) if refusal.status != Some(200) => SetupPart::refused(FORGET, refusal),
            // There are servers that say in words of their own that versions were never set.
            _ => add(&mut rules, client, bucket, FORGET, lifecycle::forget_versions()).await,
        },
    };
    let uploads = match rules.drops_uploads() {
        true => SetupPart::kept(UPLOADS),
        false => add(&mut rules, client, bucket, UPLOADS, lifecycle::drop_uploads()).await,
    };
    let versions = match rules.forgets_versions() {
        true => versions(client, bucket).await,
        false => SetupPart::refused(VERSIONS, "without a rule that forgets them they would be kept for ever"),
    };
    vec![forget, uploads, versions]
}

async fn add(
    rules: &mut BucketLifecycle,
    client: &Client,
    bucket: &str,
    part: &str,
    rule: Result<LifecycleRule, BuildError>,
) -> SetupPart {
    match rule {
        Ok(rule) => match rules.add(client, bucket, rule).await {
            Ok(()) => SetupPart::made(part),
            Err(refusal) => SetupPart::refused(part, refusal),
        },
        Err(error) => SetupPart::refused(part, error),
    }
}

async fn versions(client: &Client, bucket: &str) -> SetupPart {
    let asked = client.get_bucket_versioning().bucket(bucket).send().await;
    match asked.map_err(AwsRefusal::from) {
        Ok(answer) => match answer.status {
            Some(BucketVersioningStatus::Enabled) => return SetupPart::kept(VERSIONS),
            Some(_) => return SetupPart::different(VERSIONS, "versioning is suspended"),
            None => {}
        },
        Err(refusal) => return SetupPart::refused(VERSIONS, refusal),
    }
    let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled);
    let put = client.put_bucket_versioning().bucket(bucket);
    match put.versioning_configuration(enabled.build()).send().await {
        Ok(_) => SetupPart::made(VERSIONS),
        Err(error) => SetupPart::refused(VERSIONS, AwsRefusal::from(error)),
    }
}
