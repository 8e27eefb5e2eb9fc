//! How a call of a backend fails, in words that name the settings that decide about it.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::{ErrorCause, StoreError};

/// Where a bucket is, and which settings say so.
#[derive(Clone, Debug)]
pub(super) struct BucketLocation {
    /// The bucket with its store, for people.
    pub name: String,
    /// The setting that names the bucket.
    pub bucket_setting: &'static str,
    /// The setting that says where the store is.
    pub endpoint_setting: &'static str,
    /// The settings that say who we are.
    pub credentials_setting: &'static str,
}

/// Why a call gave no result.
pub(super) enum CallFailure {
    /// The backend said so.
    Store(Error),
    /// It said nothing in time.
    Deadline(Duration),
}

/// Runs a call that moves `size` bytes: it gets 30 s, and a second for each megabyte.
pub(super) async fn within<T>(
    size: u64,
    call: impl Future<Output = object_store::Result<T>>,
) -> Result<T, CallFailure> {
    let deadline = Duration::from_secs(30 + size / 1_000_000);
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(CallFailure::Store),
        Err(_) => Err(CallFailure::Deadline(deadline)),
    }
}

impl CallFailure {
    /// Whether the backend says that the name is taken.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(Error::AlreadyExists { .. } | Error::Precondition { .. }))
    }

    /// The error of an operation on one object that has to be there.
    pub fn of_object(self, operation: &'static str, key: &str, place: Option<&BucketLocation>) -> StoreError {
        match &self {
            Self::Store(error @ Error::NotFound { .. }) if !Answer::of(error).lacks_bucket() => {
                StoreError::NotFound { key: key.to_owned() }
            }
            _ => self.of_bucket(operation, key, place),
        }
    }

    /// The error of an operation that needs nothing but the bucket.
    pub fn of_bucket(self, operation: &'static str, key: &str, place: Option<&BucketLocation>) -> StoreError {
        let message = match (&self, place) {
            (Self::Deadline(after), _) => format!("no answer within {} s", after.as_secs()),
            (Self::Store(error), Some(place)) => place.explain(error),
            (Self::Store(error), None) => error.to_string(),
        };
        StoreError::Unavailable { operation: operation.into(), key: key.to_owned(), message, cause: self.cause(place) }
    }

    fn cause(&self, place: Option<&BucketLocation>) -> ErrorCause {
        let Self::Store(error) = self else {
            return ErrorCause::Passing;
        };
        let answer = Answer::of(error);
        if answer.lacks_a_right() || is_denied_by_the_system(error) {
            return ErrorCause::Right;
        }
        let lasts = answer.is_refusal()
            || answer.names_the_clock()
            || answer.names_region()
            || is_without_bucket(error, &answer);
        match place {
            Some(_) if lasts => ErrorCause::Setting,
            _ => ErrorCause::Passing,
        }
    }
}

impl BucketLocation {
    fn explain(&self, error: &Error) -> String {
        let answer = Answer::of(error);
        if is_without_bucket(error, &answer) {
            let Self { name, bucket_setting, .. } = self;
            return format!("there is no {name}: check {bucket_setting}, or make the bucket");
        }
        if answer.names_the_clock() {
            return format!(
                "{} refuses it ({answer}): this machine's clock and the store's are too far apart; set this machine's, and \
                 keep it by NTP",
                self.name
            );
        }
        if answer.is_refusal() {
            let credentials = self.credentials_setting;
            // An answer to HEAD has no code: it may be about the clock as well.
            let clock = if answer.code.is_empty() { ", and this machine's clock" } else { "" };
            return format!("{} refuses it ({answer}): check {credentials}, and what they allow{clock}", self.name);
        }
        if answer.names_region() {
            return format!("{} is in another region ({answer}): check S3_REGION", self.name);
        }
        if cause::<HttpError>(error).is_some_and(|error| error.kind() == HttpErrorKind::Connect) {
            let (name, setting) = (&self.name, self.endpoint_setting);
            return format!("{name} can't be reached ({}): check {setting}", root_cause(error));
        }
        match answer.status {
            Some(_) => format!("{} answers {answer}", self.name),
            None => error.to_string(),
        }
    }
}

/// A store's answer, found in the client's error, which carries it as text alone.
struct Answer {
    status: Option<u16>,
    code: String,
    message: String,
}

impl Answer {
    fn of(error: &Error) -> Self {
        let text = error.to_string();
        let status = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok());
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            Some(rest.split('<').next()?.lines().next()?.to_owned())
        };
        Self { status, code: element("Code").unwrap_or_default(), message: element("Message").unwrap_or_default() }
    }

    fn lacks_bucket(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchBucket" | "InvalidBucketName" | "ContainerNotFound")
    }

    fn is_refusal(&self) -> bool {
        matches!(self.status, Some(401 | 403))
    }

    /// A refusal of one operation, where others may be allowed; not that of a wrong key. An answer to HEAD has no code.
    fn lacks_a_right(&self) -> bool {
        let codes = ["", "AccessDenied", "AuthorizationFailure", "AuthorizationPermissionMismatch"];
        self.status == Some(403) && codes.contains(&self.code.as_str())
    }

    fn names_the_clock(&self) -> bool {
        self.code == "RequestTimeTooSkewed"
    }

    fn names_region(&self) -> bool {
        matches!(self.status, Some(301 | 307)) || self.code == "AuthorizationHeaderMalformed"
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, code, message } = self;
        let parts = [status.map(|status| status.to_string()).unwrap_or_default(), code.clone(), message.clone()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        f.write_str(&parts.join(" "))
    }
}

/// Of an operation that needs nothing but the bucket, or of one that is said to lack it.
fn is_without_bucket(error: &Error, answer: &Answer) -> bool {
    answer.lacks_bucket() || answer.status == Some(404) || matches!(error, Error::NotFound { .. })
}

/// A file or a directory is not ours.
fn is_denied_by_the_system(error: &Error) -> bool {
    cause::<std::io::Error>(error).is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn cause<E: std::error::Error + 'static>(error: &Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> BucketLocation {
        BucketLocation {
            name: "bucket b at http://h".into(),
            bucket_setting: "S3_BUCKET",
            endpoint_setting: "S3_ENDPOINT",
            credentials_setting: "S3_ACCESS_KEY and S3_SECRET_KEY",
        }
    }

    fn answered(status: &str, code: &str) -> Error {
        let body = format!("<?xml?>\n<Error><Code>{code}</Code><Message>in its\nown words</Message></Error>");
        Error::Generic {
            store: "S3",
            source: format!("Error performing PUT - Server returned non-2xx status code: {status}: {body}").into(),
        }
    }

    fn told(error: Error) -> String {
        let error = CallFailure::Store(error).of_object("read", "k", Some(&place()));
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn each_refusal_names_the_setting_that_decides() {
        for (status, code, setting) in [
            ("403 Forbidden", "InvalidAccessKeyId", "S3_ACCESS_KEY"),
            ("403 Forbidden", "", "S3_ACCESS_KEY"),
            ("403 Forbidden", "", "this machine's clock"),
            ("403 Forbidden", "RequestTimeTooSkewed", "set this machine's"),
            ("404 Not Found", "NoSuchBucket", "S3_BUCKET"),
            ("400 Bad Request", "InvalidBucketName", "S3_BUCKET"),
            ("400 Bad Request", "AuthorizationHeaderMalformed", "S3_REGION"),
        ] {
            let told = told(answered(status, code));
            assert!(told.contains(setting) && told.contains("bucket b at http://h"), "{told}");
        }
        let skewed = told(answered("403 Forbidden", "RequestTimeTooSkewed"));
        assert!(!skewed.contains("S3_ACCESS_KEY"), "{skewed}");
        let told = told(answered("503 Service Unavailable", "SlowDown"));
        assert!(told.contains("503 SlowDown in its") && !told.contains('\n'), "{told}");
    }

    #[test]
    fn what_would_mend_it_is_told() {
        for (status, code, mended_by) in [
            ("403 Forbidden", "AccessDenied", ErrorCause::Right),
            ("403 Forbidden", "", ErrorCause::Right),
            ("403 Forbidden", "SignatureDoesNotMatch", ErrorCause::Setting),
            ("403 Forbidden", "InvalidAccessKeyId", ErrorCause::Setting),
            ("403 Forbidden", "RequestTimeTooSkewed", ErrorCause::Setting),
            ("401 Unauthorized", "", ErrorCause::Setting),
            ("404 Not Found", "NoSuchBucket", ErrorCause::Setting),
            ("400 Bad Request", "InvalidBucketName", ErrorCause::Setting),
            ("301 Moved Permanently", "PermanentRedirect", ErrorCause::Setting),
            ("503 Service Unavailable", "SlowDown", ErrorCause::Passing),
            ("500 Internal Server Error", "InternalError", ErrorCause::Passing),
            ("429 Too Many Requests", "", ErrorCause::Passing),
        ] {
            let error = CallFailure::Store(answered(status, code)).of_bucket("create", "k", Some(&place()));
            let told = matches!(error, StoreError::Unavailable { cause, .. } if cause == mended_by);
            assert!(told, "{status} {code}: {error:?}");
        }
        let silent = CallFailure::Deadline(Duration::from_secs(30)).of_bucket("create", "k", Some(&place()));
        assert!(silent.is_passing());
    }

    #[test]
    fn a_bucket_that_is_gone_is_not_an_object_that_is_not_there() {
        let missing = |code: &str| Error::NotFound { path: "k".into(), source: answered("404 Not Found", code).into() };
        let error = CallFailure::Store(missing("NoSuchKey")).of_object("read", "k", Some(&place()));
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        assert!(told(missing("NoSuchBucket")).contains("S3_BUCKET"));
        let error = CallFailure::Store(missing("")).of_bucket("create", "k", Some(&place()));
        assert!(error.to_string().contains("S3_BUCKET"), "{error}");
    }
}
