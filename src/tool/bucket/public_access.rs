//! What keeps a bucket from being opened to the world by mistake.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::PublicAccessBlockConfiguration;

use super::aws::AwsRefusal;

/// Whether all four parts of a public access block are set; nothing if there is none.
pub async fn blocked(client: &Client, bucket: &str) -> Result<Option<bool>, AwsRefusal> {
    let asked = client.get_public_access_block().bucket(bucket).send().await;
    match asked.map_err(AwsRefusal::from) {
        Ok(answer) => Ok(answer.public_access_block_configuration().map(blocks_all)),
        Err(refusal) if refusal.code == "NoSuchPublicAccessBlockConfiguration" => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn blocks_all(block: &PublicAccessBlockConfiguration) -> bool {
    [
        block.block_public_acls(),
        block.ignore_public_acls(),
        block.block_public_policy(),
        block.restrict_public_buckets(),
    ]
    .iter()
    .all(|part| *part == Some(true))
}

/// Sets all four parts.
pub async fn block(client: &Client, bucket: &str) -> Result<(), AwsRefusal> {
    let all = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    let put = client.put_public_access_block().bucket(bucket);
    put.public_access_block_configuration(all).send().await?;
    Ok(())
}
