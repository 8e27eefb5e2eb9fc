//! Does once, with an object of no service, everything that services do with objects.
//!
//! Its name is that of an object that shows the store's time ([`ProbeName`]): should it stay, the broker deletes it
//! after a day.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use chronik_format::names::{PROBES, ProbeName};
use chronik_store::setting::BucketKind;
use chronik_store::{ErrorCause, SharedStore, StoreError};
use ulid::Ulid;

use super::finding::{CheckFinding, CheckVerdict};
use crate::clock::now;
use crate::tool::bucket::StorageOptions;
use crate::tool::bucket::right::{BucketAction, RequiredRight};

const FIRST: Bytes = Bytes::from_static(b"created");
const SECOND: Bytes = Bytes::from_static(b"created once more");
const THIRD: Bytes = Bytes::from_static(b"overwritten");
const PART: Range<u64> = 2..5;
/// Beyond that, objects that the state does not know are not deleted.
const SKEW_MAX: Duration = Duration::from_secs(60 * 60);

const LIST: CheckFinding = CheckFinding::ok("list", "finds claims, segments and checkpoints after a loss");
const CREATE: CheckFinding = CheckFinding::ok("create", "ships segments, archives and checkpoints");
const INFO: CheckFinding = CheckFinding::ok("info", "verifies what was shipped, and sees whether an owner lives");
const READ: CheckFinding = CheckFinding::ok("read", "serves old records, and recovers");
const RANGE: CheckFinding = CheckFinding::ok("read a range", "reads parts of segments and archives");
const ONCE: CheckFinding = CheckFinding::ok("create once", "keeps two brokers apart");
const OVERWRITE: CheckFinding = CheckFinding::ok("overwrite", "tells readers of what is new, and that the owner lives");
const DELETE: CheckFinding = CheckFinding::ok("delete", "deletes superseded objects");
const CLOCK: CheckFinding = CheckFinding::ok("clock", "dates objects unknown to the state");

/// Does everything; what can't be done stops only what depends on it. If the bucket can't even be asked, nothing is.
pub async fn check(store: &SharedStore, place: &StorageOptions) -> Vec<CheckFinding> {
    let mut probe = Probe { store, place, key: ProbeName { ulid: Ulid::new() }.to_string(), holds: None };
    let listed = store.list(PROBES).await;
    if let Err(error @ StoreError::Unavailable { cause: ErrorCause::Passing | ErrorCause::Setting, .. }) = &listed {
        let rest = [CREATE, INFO, READ, RANGE, ONCE, OVERWRITE, DELETE, CLOCK];
        let rest = rest.map(|finding| finding.unknown("not tried, since the bucket can't be used"));
        let list = LIST.missing(error.to_string()).remedy(remedy(place));
        return [vec![list], rest.to_vec()].concat();
    }
    let create = probe.create().await;
    let list = probe.list(listed.map(|_| ())).await;
    let (info, clock) = probe.info().await;
    let read = probe.read().await;
    let range = probe.range().await;
    let once = probe.create_once(&read).await;
    let overwrite = probe.overwrite().await;
    let delete = probe.delete().await;
    vec![list, create, info, read, range, once, overwrite, delete, clock]
}

fn remedy(place: &StorageOptions) -> &'static str {
    match place.bucket.object_store_backend {
        BucketKind::Local | BucketKind::S3 => {
            "mend what is named; a bucket that is not there is made by chronik bucket init"
        }
        BucketKind::Gcs | BucketKind::Azure => {
            "mend what is named; what is not there is made with the provider's tools"
        }
    }
}

/// The object.
struct Probe<'a> {
    store: &'a SharedStore,
    place: &'a StorageOptions,
    key: String,
    /// What must be in it by now; nothing if it is not there.
    holds: Option<Bytes>,
}

impl Probe<'_> {
    async fn create(&mut self) -> CheckFinding {
        match self.store.create(&self.key, vec![FIRST]).await {
            Ok(()) => {
                self.holds = Some(FIRST);
                CREATE
            }
            Err(error) => self.failed(CREATE, BucketAction::Create, &error),
        }
    }

    /// A listing has to name at once what was created.
    async fn list(&self, listed: Result<(), StoreError>) -> CheckFinding {
        let objects = match listed {
            Ok(()) => self.store.list(PROBES).await,
            Err(error) => Err(error),
        };
        match objects {
            Ok(objects) if self.holds.is_some() && !objects.iter().any(|object| object.key == self.key) => LIST
                .missing("an object that was created just now is not listed")
                .remedy("use a store whose listings are complete"),
            Ok(_) => LIST,
            Err(error) => self.failed(LIST, BucketAction::List, &error),
        }
    }

    async fn info(&self) -> (CheckFinding, CheckFinding) {
        let asked = self.store.info(&self.key).await;
        let unknown = CLOCK.unknown("not told, since there is no information on an object");
        match (asked, &self.holds) {
            (Ok(info), Some(held)) if info.size != held.len() as u64 => {
                let found = format!("an object of {} bytes is said to have {}", held.len(), info.size);
                (INFO.missing(found), unknown)
            }
            (Ok(info), _) => {
                let skew = match now().duration_since(info.last_modified) {
                    Ok(behind) => behind,
                    Err(ahead) => ahead.duration(),
                };
                (INFO, clock(skew))
            }
            (Err(StoreError::NotFound { .. }), None) => (INFO, unknown),
            (Err(error), _) => (self.failed(INFO, BucketAction::Read, &error), unknown),
        }
    }

    async fn read(&self) -> CheckFinding {
        match (self.store.read(&self.key, None).await, &self.holds) {
            (Ok(bytes), Some(held)) if bytes != *held => READ.missing("other bytes come back than were written"),
            (Ok(_), _) | (Err(StoreError::NotFound { .. }), None) => READ,
            (Err(error), _) => self.failed(READ, BucketAction::Read, &error),
        }
    }

    async fn range(&self) -> CheckFinding {
        let Some(held) = &self.holds else {
            return RANGE.unknown("not tried, since no object could be created");
        };
        let part = held.slice(PART.start as usize..PART.end as usize);
        match self.store.read(&self.key, Some(PART)).await {
            Ok(bytes) if bytes == part => RANGE,
            Ok(_) => RANGE.missing("other bytes come back than were asked for"),
            Err(error) => self.failed(RANGE, BucketAction::Read, &error),
        }
    }

    /// What is there decides, and is read back.
    async fn create_once(&mut self, read: &CheckFinding) -> CheckFinding {
        if self.holds.is_none() || read.verdict != CheckVerdict::Ok {
            return ONCE.unknown("not tried, since no object could be created and read");
        }
        match self.store.create(&self.key, vec![SECOND]).await {
            Err(StoreError::Exists { .. }) => ONCE,
            Ok(()) => {
                self.holds = Some(SECOND);
                ONCE.missing("an object that existed already was created once more, with other bytes")
                    .remedy("use a store that supports conditional puts (If-None-Match)")
            }
            Err(error) => self.failed(ONCE, BucketAction::Read, &error),
        }
    }

    async fn overwrite(&mut self) -> CheckFinding {
        if let Err(error) = self.store.overwrite(&self.key, THIRD).await {
            return self.failed(OVERWRITE, BucketAction::Overwrite, &error);
        }
        self.holds = Some(THIRD);
        match self.store.read(&self.key, None).await {
            Ok(bytes) if bytes != THIRD => OVERWRITE.missing("the bytes from before come back"),
            _ => OVERWRITE,
        }
    }

    /// Also what may have been created although the answer said otherwise.
    async fn delete(&self) -> CheckFinding {
        let stays = || match self.holds {
            Some(_) => format!("; {} stays in the bucket", self.key),
            None => String::new(),
        };
        match self.store.delete(&self.key).await {
            Ok(()) => match self.store.info(&self.key).await {
                Ok(_) => DELETE.missing(format!("an object is still there after it was deleted{}", stays())),
                Err(_) => DELETE,
            },
            Err(error) => {
                let finding = self.failed(DELETE, BucketAction::Delete, &error);
                let found = format!("{error}{}", stays());
                CheckFinding { found: Some(found), ..finding }
            }
        }
    }

    fn failed(&self, finding: CheckFinding, deed: BucketAction, error: &StoreError) -> CheckFinding {
        let finding = finding.missing(error.to_string());
        match error {
            StoreError::Unavailable { cause: ErrorCause::Right, .. } => {
                finding.lacks(&RequiredRight::to(deed, self.place))
            }
            _ => finding,
        }
    }
}

fn clock(skew: Duration) -> CheckFinding {
    if skew <= SKEW_MAX {
        return CLOCK;
    }
    let found = format!("the clocks of the store and of this machine differ by {} s", skew.as_secs());
    CLOCK.warning(found).remedy("set the clock that is wrong; until then unknown objects are kept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_an_hour() {
        assert_eq!(clock(SKEW_MAX).verdict, CheckVerdict::Ok);
        assert_eq!(clock(SKEW_MAX + Duration::from_secs(1)).verdict, CheckVerdict::Warning);
    }
}
