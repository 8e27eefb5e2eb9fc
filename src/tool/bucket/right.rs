//! What a provider calls the right to do something, so that it can be looked up and given.

use std::fmt;

use chronik_store::setting::BucketKind;

use super::StorageOptions;

/// What is done with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketAction {
    List,
    Create,
    Overwrite,
    Read,
    Delete,
}

/// A right, and what it has to be given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredRight {
    /// `s3:PutObject`
    pub name: &'static str,
    /// `arn:aws:s3:::events/*`
    pub on: String,
}

impl RequiredRight {
    /// The right to a deed on the objects of a bucket.
    pub fn to(deed: BucketAction, place: &StorageOptions) -> Self {
        let settings = &place.bucket;
        let given = |setting: &Option<String>| setting.clone().unwrap_or_default();
        let below = |prefix: &Option<String>| match given(prefix).trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let (names, on) = match settings.object_store_backend {
            BucketKind::Local => {
                let directory = settings.directory(&place.data_dir).display().to_string();
                (["read", "write", "write", "read", "write"], directory)
            }
            BucketKind::S3 => {
                let names = ["s3:ListBucket", "s3:PutObject", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"];
                let bucket = format!("arn:aws:s3:::{}", given(&settings.s3.s3_bucket).trim());
                let objects = format!("{bucket}/{}*", below(&settings.s3.s3_prefix));
                (names, if deed == BucketAction::List { bucket } else { objects })
            }
            BucketKind::Gcs => {
                let names = [
                    "storage.objects.list",
                    "storage.objects.create",
                    "storage.objects.delete",
                    "storage.objects.get",
                    "storage.objects.delete",
                ];
                (names, format!("bucket {}", given(&settings.gcs.gcs_bucket)))
            }
            BucketKind::Azure => {
                let names = [
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
                ];
                (names, format!("container {}", given(&settings.azure.azure_container)))
            }
        };
        Self { name: names[deed as usize], on }
    }
}

impl fmt::Display for RequiredRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.name, self.on)
    }
}
