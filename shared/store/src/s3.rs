//! A bucket on S3, or on a server that speaks like it.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use object_store::aws::{AmazonS3Builder, Checksum};

use super::aws_chain::AwsChain;
use super::failure::BucketLocation;
use super::{BucketError, SharedStore, client};
use crate::setting::S3Place;

/// Where requests are signed for if neither the settings nor the AWS environment say so: servers that are not Amazon's
/// have no regions, but most of them know this one.
const REGION_OF_OTHERS: &str = "us-east-1";

/// Opens the bucket; the store is not asked for anything yet.
pub(crate) async fn open(place: &S3Place) -> Result<SharedStore, BucketError> {
    let environment = environment(place).await;
    let region = region(place, environment.as_ref())?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&place.bucket)
        .with_region(&region)
        .with_virtual_hosted_style_request(!place.path_style)
        // One DELETE each: its refusal has a status, where that of a bulk request hides in a body.
        .with_disable_bulk_delete(true)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_retry(client::retries());
    let plain = place.endpoint.as_ref().is_some_and(|url| url.starts_with("http:"));
    builder = builder.with_client_options(client::options(plain));
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(address(endpoint, place));
    }
    builder = match (&place.keys, environment) {
        (Some((access, secret)), _) => {
            builder.with_access_key_id(access.reveal()).with_secret_access_key(secret.reveal())
        }
        (None, Some(environment)) => builder.with_credentials(Arc::new(AwsChain::new(environment))),
        (None, None) => builder,
    };
    let objects = builder.build().map_err(|source| BucketError::Refused { backend: "s3", source })?;
    client::bucket("s3", objects, place.prefix.as_deref(), place_of(place))
}

/// The same place with the same credentials, for AWS's own client: what is asked of a bucket beside its objects.
pub async fn sdk_config(place: &S3Place) -> Result<SdkConfig, BucketError> {
    let environment = environment(place).await;
    let region = region(place, environment.as_ref())?;
    let config = match environment {
        Some(environment) => environment.into_builder(),
        None => SdkConfig::builder().behavior_version(BehaviorVersion::latest()),
    };
    let mut config = config.region(Region::new(region));
    config.set_endpoint_url(place.endpoint.clone());
    if let Some((access, secret)) = &place.keys {
        let keys = Credentials::new(access.reveal(), secret.reveal(), None, None, "settings");
        config.set_credentials_provider(Some(SharedCredentialsProvider::new(keys)));
    }
    Ok(config.build())
}

/// What the machine, its profile files and its role say; not read if the settings are complete.
async fn environment(place: &S3Place) -> Option<SdkConfig> {
    if place.keys.is_some() && (place.region.is_some() || place.endpoint.is_some()) {
        return None;
    }
    let loader = aws_config::defaults(BehaviorVersion::latest());
    Some(match &place.region {
        Some(region) => loader.region(Region::new(region.clone())).load().await,
        None => loader.load().await,
    })
}

fn region(place: &S3Place, environment: Option<&SdkConfig>) -> Result<String, BucketError> {
    let from_environment = || Some(environment?.region()?.to_string());
    let elsewhere = || place.endpoint.as_ref().map(|_| REGION_OF_OTHERS.to_owned());
    let region = place.region.clone().or_else(from_environment).or_else(elsewhere);
    region.ok_or_else(|| BucketError::NoRegion { bucket: place.bucket.clone() })
}

/// The endpoint as the client wants it: with the bucket in the host name if that is where it goes.
fn address(endpoint: &str, place: &S3Place) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) if !place.path_style => format!("{scheme}://{}.{host}", place.bucket),
        _ => endpoint.to_owned(),
    }
}

fn place_of(place: &S3Place) -> BucketLocation {
    let (endpoint, endpoint_setting) = match &place.endpoint {
        Some(endpoint) => (endpoint.as_str(), "S3_ENDPOINT"),
        None => ("Amazon S3", "S3_REGION, S3_BUCKET and the network"),
    };
    BucketLocation {
        name: format!("bucket {} at {endpoint}", place.bucket),
        bucket_setting: "S3_BUCKET",
        endpoint_setting,
        credentials_setting: match place.keys {
            Some(_) => "S3_ACCESS_KEY and S3_SECRET_KEY",
            None => "the AWS credentials of this machine",
        },
    }
}
