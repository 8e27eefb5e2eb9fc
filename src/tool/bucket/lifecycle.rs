//! Rules by which a server deletes things of a bucket by itself. The two that Chronik's bucket wants are those that the
//! Terraform templates make.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::BuildError;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleFilter, NoncurrentVersionExpiration, TransitionDefaultMinimumObjectSize,
};

use super::aws::AwsRefusal;

/// How long what is deleted or overwritten can be brought back.
pub const UNDELETE_DAYS: i32 = 7;
/// How long an upload may take.
pub const UPLOAD_DAYS: i32 = 1;

/// The rules of a bucket, seen from a prefix of it, which is empty or ends in `/`.
#[derive(Clone, Debug, Default)]
pub struct BucketLifecycle {
    prefix: String,
    rules: Vec<LifecycleRule>,
    /// From which size on objects change their storage class; written again as it is with every rule.
    size_min: Option<TransitionDefaultMinimumObjectSize>,
}

impl BucketLifecycle {
    /// Asks for the rules; a bucket without any has none.
    pub async fn of(client: &Client, bucket: &str, prefix: Option<&str>) -> Result<Self, AwsRefusal> {
        let asked = client.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
        let (rules, size_min) = match asked.map_err(AwsRefusal::from) {
            Ok(answer) => (answer.rules.unwrap_or_default(), answer.transition_default_minimum_object_size),
            Err(refusal) if refusal.code == "NoSuchLifecycleConfiguration" => (Vec::new(), None),
            Err(refusal) => return Err(refusal),
        };
        let prefix = prefix.map_or(String::new(), |prefix| format!("{prefix}/"));
        Ok(Self { prefix, rules, size_min })
    }

    /// Adds a rule to those of the bucket.
    pub async fn add(&mut self, client: &Client, bucket: &str, rule: LifecycleRule) -> Result<(), AwsRefusal> {
        let rules = [self.rules.clone(), vec![rule]].concat();
        let configuration = BucketLifecycleConfiguration::builder().set_rules(Some(rules.clone()));
        let put = client.put_bucket_lifecycle_configuration().bucket(bucket);
        put.set_lifecycle_configuration(configuration.build().ok())
            .set_transition_default_minimum_object_size(self.size_min.clone())
            .send()
            .await?;
        self.rules = rules;
        Ok(())
    }

    /// Whether uploads that were never finished go away.
    pub fn drops_uploads(&self) -> bool {
        let drops = |rule: &&LifecycleRule| rule.abort_incomplete_multipart_upload.is_some();
        self.covering().any(|rule| drops(&rule))
    }

    /// Whether earlier versions of objects go away.
    pub fn forgets_versions(&self) -> bool {
        let forgets = |rule: &&LifecycleRule| {
            let expiration = rule.noncurrent_version_expiration.as_ref();
            expiration.is_some_and(|expiration| expiration.noncurrent_days.is_some())
        };
        self.covering().any(|rule| forgets(&rule))
    }

    /// The name of a rule that deletes objects that are still needed.
    pub fn deleter(&self) -> Option<&str> {
        let deletes = |rule: &&LifecycleRule| {
            let expiration = rule.expiration.as_ref();
            expiration.is_some_and(|expiration| expiration.days.is_some() || expiration.date.is_some())
        };
        let mut touching = self
            .enabled()
            .filter(|rule| prefix_of(rule).starts_with(&self.prefix) || self.prefix.starts_with(prefix_of(rule)));
        touching.find(deletes).map(|rule| rule.id().unwrap_or("without a name"))
    }

    fn enabled(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled)
    }

    /// The rules that hold for every object of ours.
    fn covering(&self) -> impl Iterator<Item = &LifecycleRule> {
        self.enabled().filter(|rule| self.prefix.starts_with(prefix_of(rule)) && !selects(rule))
    }
}

/// The rule by which uploads that were never finished go away.
pub fn drop_uploads() -> Result<LifecycleRule, BuildError> {
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(UPLOAD_DAYS);
    LifecycleRule::builder()
        .id("drop uploads that were never finished")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .abort_incomplete_multipart_upload(abort.build())
        .build()
}

/// The rule by which earlier versions of objects go away, and what is left of a deleted object after them.
pub fn forget_versions() -> Result<LifecycleRule, BuildError> {
    let expiration = NoncurrentVersionExpiration::builder().noncurrent_days(UNDELETE_DAYS);
    let markers = LifecycleExpiration::builder().expired_object_delete_marker(true);
    LifecycleRule::builder()
        .id("forget what is deleted")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .noncurrent_version_expiration(expiration.build())
        .expiration(markers.build())
        .build()
}

/// What the names of all objects of a rule begin with.
#[allow(deprecated)]
fn prefix_of(rule: &LifecycleRule) -> &str {
    let filter = rule.filter();
    let of_filter = filter.and_then(|filter| filter.prefix().or_else(|| filter.and()?.prefix()));
    of_filter.or(rule.prefix()).unwrap_or_default()
}

/// Whether a rule holds for some objects of its prefix alone.
fn selects(rule: &LifecycleRule) -> bool {
    rule.filter().is_some_and(|filter| {
        filter.tag().is_some()
            || filter.and().is_some()
            || filter.object_size_greater_than().is_some()
            || filter.object_size_less_than().is_some()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use aws_sdk_s3::types::{LifecycleRuleAndOperator, Tag};

    use super::*;

    fn seen_from(prefix: &str, rules: &[LifecycleRule]) -> BucketLifecycle {
        BucketLifecycle { prefix: prefix.into(), rules: rules.to_vec(), size_min: None }
    }

    fn below(prefix: &str, mut rule: LifecycleRule) -> LifecycleRule {
        rule.filter = Some(LifecycleRuleFilter::builder().prefix(prefix).build());
        rule
    }

    fn deleter(prefix: &str) -> LifecycleRule {
        let rule = LifecycleRule::builder().id("r").status(ExpirationStatus::Enabled);
        let expiration = LifecycleExpiration::builder().days(30).build();
        below(prefix, rule.expiration(expiration).build().unwrap())
    }

    #[test]
    fn a_rule_counts_if_it_holds_for_everything_of_ours() {
        let (drop, forget) = (drop_uploads().unwrap(), forget_versions().unwrap());
        let own = seen_from("team/a/", &[drop.clone(), forget.clone()]);
        assert!(own.drops_uploads() && own.forgets_versions() && own.deleter().is_none());
        for (rule_prefix, counts) in
            [("", true), ("team/", true), ("team/a/", true), ("team/a/x", false), ("b/", false)]
        {
            let rule = below(rule_prefix, drop.clone());
            assert_eq!(seen_from("team/a/", &[rule]).drops_uploads(), counts, "{rule_prefix}");
        }
        let mut off = drop.clone();
        off.status = ExpirationStatus::Disabled;
        let tag = Tag::builder().key("k").value("v").build().unwrap();
        let mut tagged = drop;
        tagged.filter = Some(LifecycleRuleFilter::builder().tag(tag).build());
        assert!(!seen_from("", &[off, tagged]).drops_uploads());
    }

    #[test]
    fn a_rule_deletes_if_it_holds_for_anything_of_ours() {
        for (rule_prefix, deletes) in [("", true), ("team/a/lanes/", true), ("team/", true), ("team/b/", false)] {
            let seen = seen_from("team/a/", &[deleter(rule_prefix)]);
            assert_eq!(seen.deleter(), deletes.then_some("r"), "{rule_prefix}");
        }
        let large = LifecycleRuleAndOperator::builder().prefix("team/b/");
        let large = large.object_size_greater_than(1).build();
        let mut rule = deleter("");
        rule.filter = Some(LifecycleRuleFilter::builder().and(large).build());
        assert_eq!(seen_from("team/a/", std::slice::from_ref(&rule)).deleter(), None);
        assert_eq!(seen_from("team/b/", &[rule]).deleter(), Some("r"));
    }

    #[test]
    fn the_terraform_templates_make_the_same_rules() {
        let template = include_str!("../../../infra/terraform/bucket.tf");
        for rule in [drop_uploads().unwrap(), forget_versions().unwrap()] {
            assert!(template.contains(&format!("id     = \"{}\"", rule.id().unwrap())));
        }
        assert!(template.contains(&format!("days_after_initiation = {UPLOAD_DAYS}\n")));
        let variables = include_str!("../../../infra/terraform/variables.tf");
        let (_, undelete_days) = variables.split_once("\"undelete_days\"").unwrap();
        assert!(undelete_days.split('}').next().unwrap().ends_with(&format!("= {UNDELETE_DAYS}\n")));
    }
}
