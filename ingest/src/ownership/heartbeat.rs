//! The one task that writes `latest`: it names the newest export, and every write of it is a sign of life. It runs from
//! before the log is replayed until the bucket is released, however long exports take.

use std::time::Duration;

use bytes::Bytes;
use chronik_format::catalog::{self, CatalogError, Latest};
use chronik_format::ids::LaneId;
use chronik_format::names;
use chronik_service::failpoint;
use chronik_store::{SharedStore, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::claim::ClaimError;
use super::{BucketOwnership, OwnershipTimes};

/// How soon a beat that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Why `latest` was not written.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// The bucket could not be reached, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another broker owns the bucket.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The task has ended.
    #[error("the bucket has been released")]
    Ended,
}

/// Says in the bucket that the lane has an owner. Dropped, it falls silent without giving the bucket up.
#[derive(Debug)]
pub struct Heartbeat {
    orders: mpsc::Sender<Order>,
    _task: AbortOnDropHandle<()>,
}

type Reply = oneshot::Sender<Result<(), HeartbeatError>>;

#[derive(Debug)]
enum Order {
    Publish(Box<Latest>, Reply),
    Release(Reply),
    Withdraw(Box<Latest>, Reply),
}

impl Heartbeat {
    /// Goes on from `latest`. Without one, what an earlier owner left there is written again until the first export, or
    /// one without an export if there is nothing: a recovery may take long, and a candidate that looks meanwhile must
    /// see that it is under way.
    pub fn start(
        store: SharedStore,
        lane: LaneId,
        ownership: BucketOwnership,
        rhythm: OwnershipTimes,
        latest: Option<Latest>,
    ) -> Self {
        let (orders, ordered) = mpsc::channel(1);
        let heart = Heart { store, lane, ownership, has_written: latest.is_some(), latest };
        Self { orders, _task: AbortOnDropHandle::new(tokio::spawn(heart.run(ordered, rhythm.beat))) }
    }

    /// Has `latest` name an export that is in the bucket. Returns once it does.
    pub async fn publish(&self, export: Latest) -> Result<(), HeartbeatError> {
        self.order(|reply| Order::Publish(Box::new(export), reply)).await
    }

    /// Releases the bucket: the next owner need not wait. The heart is silent from then on, whatever the outcome.
    pub async fn release(&self) -> Result<(), HeartbeatError> {
        self.order(Order::Release).await
    }

    /// Puts back what `latest` said before, for a process that turns out not to serve: the one that wrote that may. It
    /// is silent from then on, whatever the outcome.
    pub async fn withdraw(&self, former: Latest) -> Result<(), HeartbeatError> {
        self.order(|reply| Order::Withdraw(Box::new(former), reply)).await
    }

    async fn order(&self, order: impl FnOnce(Reply) -> Order) -> Result<(), HeartbeatError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.map_err(|_| HeartbeatError::Ended)?;
        answer.await.unwrap_or(Err(HeartbeatError::Ended))
    }
}

struct Heart {
    store: SharedStore,
    lane: LaneId,
    ownership: BucketOwnership,
    /// As last written.
    latest: Option<Latest>,
    /// Whether this process has written to `latest` yet. Until then a predecessor's name may be in it.
    has_written: bool,
}

impl Heart {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, every: Duration) {
        let mut pause = every;
        loop {
            let order = tokio::select! {
                biased;
                order = orders.recv() => order,
                () = tokio::time::sleep(pause) => {
                    pause = if self.beat().await { every } else { RETRY.min(every) };
                    continue;
                }
            };
            match order {
                Some(Order::Publish(export, reply)) => {
                    let _ = reply.send(self.write(*export).await);
                }
                Some(Order::Release(reply)) => {
                    let _ = reply.send(self.release().await);
                    return;
                }
                Some(Order::Withdraw(former, reply)) => {
                    let _ = reply.send(self.withdraw(&former).await);
                    return;
                }
                None => return,
            }
        }
    }

    async fn beat(&mut self) -> bool {
        let beaten = match self.latest.clone() {
            Some(latest) => self.write(latest).await,
            None => self.keep().await,
        };
        match beaten {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("the sign of life in the bucket was not renewed, trying again: {error}");
                false
            }
        }
    }

    /// Readers see the same export, or none as before; a candidate sees that it was written. What a
    /// process with a copy of the data directory wrote stays until that one is known to be gone.
    async fn keep(&mut self) -> Result<(), HeartbeatError> {
        self.ownership.check().await?;
        match self.undisputed().await? {
            None => self.overwrite(&Latest::claimed(self.ownership.incarnation(), self.lane)).await?,
            Some(latest) if self.ownership.follows(&latest) => self.overwrite(&held(latest)).await?,
            Some(_) => {}
        }
        Ok(())
    }

    /// What `latest` says, unless another process with our claim has written to it since we did: it started later, from
    /// a copy of our data directory.
    async fn undisputed(&self) -> Result<Option<Latest>, ClaimError> {
        let latest = read(&self.store, self.lane).await?;
        let is_anothers = |latest: &Latest| {
            latest.incarnation == self.ownership.incarnation()
                && !latest.writer.is_empty()
                && latest.writer != self.ownership.writer()
        };
        if self.has_written && latest.as_ref().is_some_and(is_anothers) {
            return Err(self.ownership.doubled());
        }
        Ok(latest)
    }

    async fn overwrite(&mut self, latest: &Latest) -> Result<(), StoreError> {
        // A write whose outcome is not known may have been one.
        self.has_written = true;
        overwrite(&self.store, self.lane, &self.ownership, latest).await
    }

    async fn release(&mut self) -> Result<(), HeartbeatError> {
        let Some(latest) = self.latest.clone() else {
            return Ok(());
        };
        self.write(Latest { released: true, ..latest }).await
    }

    async fn withdraw(&mut self, former: &Latest) -> Result<(), HeartbeatError> {
        self.ownership.check().await?;
        if let Some(latest) = self.undisputed().await? {
            let former = Latest { beat: latest.beat.wrapping_add(1), ..former.clone() };
            self.store.overwrite(&names::latest(self.lane), Bytes::from(former.encode())).await?;
        }
        Ok(())
    }

    /// A former owner must not write over the name of a newer export, so the claims are asked first; nor may one of two
    /// with the same claim.
    async fn write(&mut self, latest: Latest) -> Result<(), HeartbeatError> {
        self.ownership.check().await?;
        self.undisputed().await?;
        failpoint!("latest-checked");
        let beat = self.latest.as_ref().map_or(0, |last| last.beat.wrapping_add(1));
        let latest = Latest { beat, ..latest };
        self.overwrite(&latest).await?;
        self.latest = Some(latest);
        Ok(())
    }
}

/// What an owner that starts again has made of `latest`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeldLatest {
    /// What it says now; `None` if the owner has not written to it yet.
    pub latest: Option<Latest>,
    /// What it said before.
    pub former: Option<Latest>,
}

/// Marks the bucket as held by an owner that starts again.
pub async fn hold(store: &SharedStore, lane: LaneId, ownership: &BucketOwnership) -> Result<HeldLatest, ClaimError> {
    let Some(latest) = read(store, lane).await? else {
        return Ok(HeldLatest::default());
    };
    if latest.incarnation != ownership.incarnation() {
        return Ok(HeldLatest::default());
    }
    let (former, held) = (latest.clone(), held(latest));
    overwrite(store, lane, ownership, &held).await?;
    Ok(HeldLatest { latest: Some(held), former: Some(former) })
}

fn held(latest: Latest) -> Latest {
    Latest { beat: latest.beat.wrapping_add(1), released: false, ..latest }
}

/// What `latest` says; `None` before the first sign of life. A damaged one says as much as the newest export does: that
/// the bucket was not released.
pub async fn read(store: &SharedStore, lane: LaneId) -> Result<Option<Latest>, ClaimError> {
    let key = names::latest(lane);
    let bytes = match store.read(&key, None).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match Latest::decode(&key, &bytes) {
        Ok(latest) => Ok(Some(latest)),
        Err(error @ CatalogError::Damaged { .. }) => {
            tracing::warn!("{error}; the newest catalog export is looked for instead");
            let newest = catalog::newest_export(&**store, lane).await;
            Ok(newest.map_err(|error| unreadable(&key, error))?.map(|(latest, _)| latest))
        }
        Err(error) => Err(unreadable(&key, error)),
    }
}

fn unreadable(key: &str, error: CatalogError) -> ClaimError {
    match error {
        CatalogError::Store(error) => error.into(),
        error => ClaimError::Unknown { key: key.to_owned(), reason: error.to_string() },
    }
}

async fn overwrite(
    store: &SharedStore,
    lane: LaneId,
    ownership: &BucketOwnership,
    latest: &Latest,
) -> Result<(), StoreError> {
    let begun = ownership.presence().begin();
    let latest = Latest { writer: ownership.writer().to_owned(), ..latest.clone() };
    store.overwrite(&names::latest(lane), Bytes::from(latest.encode())).await?;
    ownership.presence().beaten(&begun);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::Arc;

    use chronik_format::catalog::VERSION;
    use chronik_format::ids::Incarnation;
    use chronik_store::faulty::{FaultyStore, StoreFault, StoreOperation};
    use chronik_store::memory;

    use super::*;
    use crate::ownership::claim;

    const LANE: LaneId = LaneId(0);

    fn export(incarnation: Incarnation, index: u64) -> Latest {
        Latest {
            v: VERSION.into(),
            incarnation,
            lane: LANE,
            index,
            export: format!("export {index}"),
            root_position: 0,
            root_length: 0,
            root_crc: 0,
            writer: String::new(),
            beat: 0,
            released: false,
        }
    }

    async fn owner(store: &SharedStore) -> BucketOwnership {
        let cluster = claim::found_cluster(store).await.unwrap();
        let highest = claim::highest(store).await.unwrap();
        let incarnation = claim::claim_after(store, highest).await.unwrap();
        BucketOwnership::new(store.clone(), cluster, incarnation)
    }

    /// The next thing that `latest` says.
    async fn next(store: &SharedStore, before: &Option<Latest>) -> Latest {
        loop {
            let now = read(store, LANE).await.unwrap();
            if now != *before {
                return now.unwrap();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_beats_while_it_lives_and_the_catalog_does_not_change() {
        let faulty = Arc::new(FaultyStore::new(memory()));
        let store: SharedStore = faulty.clone();
        let ownership = owner(&store).await;
        let beat = Heartbeat::start(store.clone(), LANE, ownership.clone(), OwnershipTimes::default(), None);
        beat.publish(export(ownership.incarnation(), 7)).await.unwrap();
        let first = read(&store, LANE).await.unwrap();
        let began = tokio::time::Instant::now();
        let second = next(&store, &first).await;
        assert!(began.elapsed() <= Duration::from_secs(31));
        assert_eq!((second.export.as_str(), second.beat, second.released), ("export 7", 1, false));
        faulty.fail(StoreOperation::Overwrite, "latest", StoreFault::Before, 1);
        let third = next(&store, &Some(second)).await;
        assert!(third.beat == 2 && began.elapsed() <= Duration::from_secs(67), "a beat that failed is made up for");
        beat.publish(export(ownership.incarnation(), 9)).await.unwrap();
        let published = read(&store, LANE).await.unwrap().unwrap();
        assert_eq!((published.export.as_str(), published.beat), ("export 9", 3));
        beat.release().await.unwrap();
        let released = read(&store, LANE).await.unwrap().unwrap();
        assert!(released.released && released.beat == 4);
        assert!(matches!(beat.publish(export(ownership.incarnation(), 10)).await, Err(HeartbeatError::Ended)));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(read(&store, LANE).await.unwrap().unwrap(), released, "nothing comes after that");
    }

    #[tokio::test(start_paused = true)]
    async fn a_former_owner_neither_beats_nor_releases() {
        let store = memory();
        let former = owner(&store).await;
        let beat = Heartbeat::start(store.clone(), LANE, former.clone(), OwnershipTimes::default(), None);
        beat.publish(export(former.incarnation(), 7)).await.unwrap();
        owner(&store).await;
        let last = read(&store, LANE).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(former.fenced().is_cancelled());
        assert!(matches!(beat.release().await, Err(HeartbeatError::Claim(ClaimError::Fenced { .. }))));
        assert_eq!(read(&store, LANE).await.unwrap(), last);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_owner_shows_that_it_lives_by_what_an_earlier_one_left() {
        let store = memory();
        let former = owner(&store).await;
        let left =
            Latest { writer: former.writer().to_owned(), released: true, beat: 5, ..export(former.incarnation(), 7) };
        overwrite(&store, LANE, &former, &left).await.unwrap();
        let new = owner(&store).await;
        let beat = Heartbeat::start(store.clone(), LANE, new.clone(), OwnershipTimes::default(), None);
        let began = tokio::time::Instant::now();
        let mut kept = Some(left.clone());
        for times in 1..=3 {
            let next = next(&store, &kept).await;
            assert_eq!((next.beat, next.released), (5 + times, false));
            assert_eq!((next.generation(), &next.export), (left.generation(), &left.export));
            kept = Some(next);
        }
        assert!(began.elapsed() <= Duration::from_secs(93));
        beat.publish(export(new.incarnation(), 9)).await.unwrap();
        assert_eq!(read(&store, LANE).await.unwrap().unwrap().export, "export 9");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_shows_that_it_lives_where_nothing_has_been_exported() {
        let store = memory();
        owner(&store).await;
        let own = owner(&store).await;
        let beat = Heartbeat::start(store.clone(), LANE, own.clone(), OwnershipTimes::default(), None);
        let first = next(&store, &None).await;
        assert_eq!((first.incarnation, first.names_export()), (own.incarnation(), false));
        let second = next(&store, &Some(first)).await;
        assert_eq!((second.beat, second.released), (1, false));
        let catalog = catalog::CatalogReader::new(store.clone(), LANE, 0);
        assert_eq!(catalog.refresh().await.unwrap().topics().count(), 0, "readers see what they saw before");
        beat.publish(export(own.incarnation(), 9)).await.unwrap();
        assert_eq!(read(&store, LANE).await.unwrap().unwrap().export, "export 9");
    }

    #[tokio::test]
    async fn a_damaged_latest_says_what_the_newest_export_does() {
        let store = memory();
        let own = owner(&store).await;
        let key = names::latest(LANE);
        store.overwrite(&key, Bytes::from_static(b"{\"v\":0,")).await.unwrap();
        assert_eq!(read(&store, LANE).await.unwrap(), None);
        let (lane, incarnation) = (LANE, own.incarnation());
        let (index, shipped_index, heads) = (7, 5, Vec::new());
        let name = names::ExportName { lane, incarnation, index, ulid: ulid::Ulid::new() };
        let root = catalog::CatalogRoot { incarnation, lane, index, shipped_index, heads };
        let built = catalog::build_export(own.cluster(), &name.to_string(), root, &[]).unwrap();
        store.create(&name.to_string(), built.parts).await.unwrap();
        assert_eq!(read(&store, LANE).await.unwrap(), Some(built.latest.clone()));
        let held = hold(&store, LANE, &own).await.unwrap();
        assert_eq!(held.latest.unwrap().export, built.latest.export);
        assert!(Latest::decode(&key, &store.read(&key, None).await.unwrap()).is_ok(), "it is mended");
        let later = Bytes::from_static(b"{\"v\":77}");
        store.overwrite(&key, later).await.unwrap();
        assert!(matches!(read(&store, LANE).await, Err(ClaimError::Unknown { .. })), "not damage");
    }

    #[tokio::test]
    async fn a_restart_holds_what_it_had_given_up_and_nothing_of_others() {
        let store = memory();
        let first = owner(&store).await;
        assert_eq!(hold(&store, LANE, &first).await.unwrap(), HeldLatest::default());
        let given_up = Latest { released: true, beat: 5, ..export(first.incarnation(), 7) };
        overwrite(&store, LANE, &first, &given_up).await.unwrap();
        let hold_of_first = hold(&store, LANE, &first).await.unwrap();
        let held = hold_of_first.latest.unwrap();
        assert!(hold_of_first.former.unwrap().released && !held.released && held.beat == 6);
        assert_eq!(read(&store, LANE).await.unwrap(), Some(held.clone()));
        let second = owner(&store).await;
        assert_eq!(hold(&store, LANE, &second).await.unwrap(), HeldLatest::default());
        assert_eq!(read(&store, LANE).await.unwrap(), Some(held));
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_processes_with_one_claim_the_earlier_ends_within_a_beat() {
        let store = memory();
        let ownership = owner(&store).await;
        let earlier = Heartbeat::start(store.clone(), LANE, ownership.clone(), OwnershipTimes::default(), None);
        earlier.publish(export(ownership.incarnation(), 7)).await.unwrap();

        let copy = BucketOwnership::new(store.clone(), ownership.cluster(), ownership.incarnation());
        let HeldLatest { latest, .. } = hold(&store, LANE, &copy).await.unwrap();
        let later = Heartbeat::start(store.clone(), LANE, copy.clone(), OwnershipTimes::default(), latest);
        let doubled = tokio::time::timeout(Duration::from_secs(31), ownership.lost()).await;
        assert!(matches!(doubled, Ok(ClaimError::Doubled { .. })), "{doubled:?}");
        assert!(matches!(ownership.check().await, Err(ClaimError::Doubled { .. })));

        let released = earlier.release().await;
        assert!(matches!(released, Err(HeartbeatError::Claim(ClaimError::Doubled { .. }))), "{released:?}");
        later.publish(export(copy.incarnation(), 9)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(!copy.fenced().is_cancelled());
        let latest = read(&store, LANE).await.unwrap().unwrap();
        assert!(latest.export == "export 9" && latest.writer == copy.writer() && !latest.released);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_that_could_not_ask_the_bucket_goes_on_from_what_its_predecessor_wrote() {
        let store = memory();
        let ownership = owner(&store).await;
        let beat = Heartbeat::start(store.clone(), LANE, ownership.clone(), OwnershipTimes::default(), None);
        beat.publish(export(ownership.incarnation(), 7)).await.unwrap();
        drop(beat);
        let again = || BucketOwnership::new(store.clone(), ownership.cluster(), ownership.incarnation());
        let copy = Heartbeat::start(store.clone(), LANE, again(), OwnershipTimes::default(), None);
        let before = read(&store, LANE).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(read(&store, LANE).await.unwrap(), before, "nothing of a copy is written over unasked");
        drop(copy);
        let again = again().after(vec![ownership.writer().to_owned()]);
        let beat = Heartbeat::start(store.clone(), LANE, again.clone(), OwnershipTimes::default(), None);
        beat.publish(export(again.incarnation(), 9)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(read(&store, LANE).await.unwrap().unwrap().writer, again.writer());
        assert!(!again.fenced().is_cancelled());
    }
}
