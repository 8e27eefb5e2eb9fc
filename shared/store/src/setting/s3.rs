//! A bucket on S3, or on a server that speaks like it.

use clap::{ArgAction, Args};

use super::bucket::{BucketSettingsError, given, prefix};
use chronik_service::setting::{Secret, switch, without_user};

/// What an operator can say about a bucket on S3.
#[derive(Args, Clone, Debug)]
pub struct S3Settings {
    /// Where S3 is, if it is not Amazon's.
    #[arg(long, env = "S3_ENDPOINT", value_name = "URL")]
    pub s3_endpoint: Option<String>,
    /// The bucket's region [default: as the AWS environment says; us-east-1 with an endpoint].
    #[arg(long, env = "S3_REGION", value_name = "REGION")]
    pub s3_region: Option<String>,
    /// The bucket.
    #[arg(long, env = "S3_BUCKET", value_name = "BUCKET")]
    pub s3_bucket: Option<String>,
    /// Without the two keys the standard AWS credential chain is used.
    #[arg(long, env = "S3_ACCESS_KEY", value_name = "KEY", hide_env_values = true)]
    pub s3_access_key: Option<Secret>,
    /// Goes with the access key.
    #[arg(long, env = "S3_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub s3_secret_key: Option<Secret>,
    /// The bucket in the path instead of the host name [default: true with an endpoint].
    #[arg(long, env = "S3_PATH_STYLE", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub s3_path_style: Option<bool>,
    /// HTTP instead of HTTPS [default: as the endpoint says].
    #[arg(long, env = "S3_DISABLE_SSL", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = switch)]
    pub s3_disable_ssl: Option<bool>,
    /// What all names in the bucket begin with; one prefix is one cluster.
    #[arg(long, env = "S3_PREFIX", value_name = "PREFIX")]
    pub s3_prefix: Option<String>,
}

/// A bucket on S3, checked.
#[derive(Clone, Debug)]
pub struct S3Place {
    /// URL without a slash at its end; none for Amazon's.
    pub endpoint: Option<String>,
    /// As it was given.
    pub region: Option<String>,
    pub bucket: String,
    /// Access key and secret key; none for the standard chain.
    pub keys: Option<(Secret, Secret)>,
    /// Whether the bucket is in the path.
    pub path_style: bool,
    /// Without slashes at its ends.
    pub prefix: Option<String>,
}

impl S3Settings {
    /// Checks all settings together.
    pub fn place(&self) -> Result<S3Place, BucketSettingsError> {
        let Some(bucket) = given(&self.s3_bucket) else {
            return Err(BucketSettingsError::Missing {
                backend: "s3",
                missing: "S3_BUCKET",
                remedy: "give it the bucket's name",
            });
        };
        let endpoint = self.endpoint()?;
        Ok(S3Place {
            region: given(&self.s3_region).map(str::to_owned),
            bucket: bucket.to_owned(),
            keys: self.keys()?,
            path_style: self.s3_path_style.unwrap_or(endpoint.is_some()),
            prefix: prefix("S3_PREFIX", &self.s3_prefix)?,
            endpoint,
        })
    }

    fn endpoint(&self) -> Result<Option<String>, BucketSettingsError> {
        let Some(text) = given(&self.s3_endpoint) else {
            return match self.s3_disable_ssl {
                Some(true) => {
                    Err(wrong("S3_DISABLE_SSL", "true", "it needs S3_ENDPOINT: Amazon's S3 is used by HTTPS"))
                }
                _ => Ok(None),
            };
        };
        let scheme = |disabled: bool| if disabled { "http" } else { "https" };
        let endpoint = match (text.split_once("://"), self.s3_disable_ssl) {
            (None, disabled) => format!("{}://{text}", scheme(disabled.unwrap_or(false))),
            (Some(("http" | "https", _)), None) => text.to_owned(),
            (Some((given @ ("http" | "https"), _)), Some(disabled)) if given == scheme(disabled) => text.to_owned(),
            (Some(("http" | "https", _)), Some(disabled)) => {
                let reason =
                    format!("its scheme and S3_DISABLE_SSL={disabled} contradict each other; change one of them");
                return Err(wrong("S3_ENDPOINT", text, &reason));
            }
            (Some(_), _) => return Err(wrong("S3_ENDPOINT", text, "accepted are http:// and https:// URLs")),
        };
        let url = reqwest::Url::parse(&endpoint).map_err(|error| wrong("S3_ENDPOINT", text, &error.to_string()))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
            return Err(wrong("S3_ENDPOINT", text, "accepted is scheme://host[:port] alone; the bucket is S3_BUCKET"));
        }
        Ok(Some(endpoint.trim_end_matches('/').to_owned()))
    }

    fn keys(&self) -> Result<Option<(Secret, Secret)>, BucketSettingsError> {
        let half = |given, missing| {
            let otherwise = "the standard AWS credential chain";
            Err(BucketSettingsError::Half { given, missing, otherwise })
        };
        let present = |key: &Option<Secret>| key.clone().filter(|key| !key.reveal().is_empty());
        match (present(&self.s3_access_key), present(&self.s3_secret_key)) {
            (Some(access), Some(secret)) => Ok(Some((access, secret))),
            (None, None) => Ok(None),
            (Some(_), None) => half("S3_ACCESS_KEY", "S3_SECRET_KEY"),
            (None, Some(_)) => half("S3_SECRET_KEY", "S3_ACCESS_KEY"),
        }
    }
}

fn wrong(setting: &'static str, value: &str, reason: &str) -> BucketSettingsError {
    BucketSettingsError::Wrong { setting, value: without_user(value), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        s3: S3Settings,
    }

    fn place(line: &str) -> Result<S3Place, String> {
        let arguments = "program --s3-bucket b".split(' ').chain(line.split_whitespace());
        Program::parse_from(arguments).s3.place().map_err(|error| error.to_string())
    }

    #[test]
    fn scheme_and_ssl_agree() {
        for (line, endpoint) in [
            ("--s3-endpoint http://h:1", "http://h:1"),
            ("--s3-endpoint http://h:1/ --s3-disable-ssl", "http://h:1"),
            ("--s3-endpoint h:1 --s3-disable-ssl true", "http://h:1"),
            ("--s3-endpoint h:1", "https://h:1"),
            ("--s3-endpoint https://h --s3-disable-ssl=false", "https://h"),
        ] {
            assert_eq!(place(line).unwrap().endpoint.as_deref(), Some(endpoint), "{line}");
        }
        for (line, word) in [
            ("--s3-endpoint http://h --s3-disable-ssl false", "contradict"),
            ("--s3-endpoint https://h --s3-disable-ssl true", "contradict"),
            ("--s3-endpoint ftp://h", "accepted"),
            ("--s3-endpoint http://h/bucket", "S3_BUCKET"),
            ("--s3-endpoint http://", "S3_ENDPOINT"),
            ("--s3-disable-ssl true", "S3_ENDPOINT"),
        ] {
            let told = place(line).unwrap_err();
            assert!(told.contains(word), "{line}: {told}");
        }
    }

    #[test]
    fn the_bucket_is_in_the_path_where_there_is_an_endpoint() {
        assert!(!place("").unwrap().path_style);
        assert!(place("--s3-endpoint http://h").unwrap().path_style);
        assert!(!place("--s3-endpoint http://h --s3-path-style false").unwrap().path_style);
    }

    #[test]
    fn one_key_is_not_enough_and_none_is_shown() {
        let told = place("--s3-access-key AKIA").unwrap_err();
        assert!(told.contains("S3_SECRET_KEY") && !told.contains("AKIA"), "{told}");
        let told = place("--s3-secret-key hush").unwrap_err();
        assert!(told.contains("S3_ACCESS_KEY") && !told.contains("hush"), "{told}");
        let both = place("--s3-access-key AKIA --s3-secret-key hush").unwrap();
        assert!(both.keys.is_some() && !format!("{both:?}").contains("hush"));
    }

    #[test]
    fn help_shows_no_value_of_the_environment() {
        let command = Program::command();
        for name in ["s3_access_key", "s3_secret_key"] {
            let argument = command.get_arguments().find(|argument| argument.get_id() == name).unwrap();
            assert!(argument.is_hide_env_values_set(), "{name}");
        }
    }
}
