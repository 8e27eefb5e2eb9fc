//! A queue's attributes.

use std::collections::HashMap;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use chronik_store::queue::{QueueAddress, RedrivePolicy};

use super::aws::AwsRefusal;

/// A queue's attributes, as far as its server has them.
#[derive(Clone, Debug)]
pub struct QueueAttributes(HashMap<QueueAttributeName, String>);

impl QueueAttributes {
    pub async fn of(client: &Client, address: &QueueAddress) -> Result<Self, AwsRefusal> {
        let ask = client.get_queue_attributes().queue_url(address.as_str());
        let answer = ask.attribute_names(QueueAttributeName::All).send().await?;
        Ok(Self(answer.attributes.unwrap_or_default()))
    }

    pub fn text(&self, name: &QueueAttributeName) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub fn number(&self, name: &QueueAttributeName) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub fn policy(&self) -> Option<RedrivePolicy> {
        RedrivePolicy::parse(self.text(&QueueAttributeName::RedrivePolicy)?)
    }
}

impl<const COUNT: usize> From<[(QueueAttributeName, String); COUNT]> for QueueAttributes {
    fn from(pairs: [(QueueAttributeName, String); COUNT]) -> Self {
        Self(pairs.into())
    }
}
