//! What a start makes of a data directory that lacks something.

use std::fs;
use std::path::PathBuf;

use super::*;

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.data_dir.path().join(name)
    }

    /// The files of the write-ahead log, oldest first.
    fn log_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("wal/00000000")).unwrap();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        files.sort();
        files
    }

    /// What a start that must fail says.
    async fn complaint(&self) -> String {
        match self.try_start().await {
            Ok(_) => panic!("the start must fail"),
            Err(error) => error.to_string(),
        }
    }

    /// A world of five batches shipped and many acknowledged, killed.
    async fn killed() -> Self {
        let mut world = Self::new();
        let running = world.start().await;
        world.produce(&running, 5).await;
        running.ship().await;
        world.produce(&running, 100).await;
        running.kill().await;
        assert!(world.log_files().len() >= 2, "{:?}", world.log_files());
        world
    }

    async fn check_after_restart(&self) {
        let running = self.start().await;
        self.check(&running).await;
        running.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_lost_its_identity_is_refused_and_kept() {
    let world = World::killed().await;
    let identity = world.path("identity.json");
    let (bytes, files) = (fs::read(&identity).unwrap(), world.log_files());
    fs::remove_file(&identity).unwrap();
    let complaint = world.complaint().await;
    for part in [world.data_dir.path().to_str().unwrap(), "identity.json is missing", "recover"] {
        assert!(complaint.contains(part), "{part} is not in: {complaint}");
    }
    let kept = world.log_files();
    assert!(files.iter().all(|file| kept.contains(file)), "{kept:?}");
    fs::write(&identity, bytes).unwrap();
    world.check_after_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lacks_a_file_or_all_of_them_is_refused_and_no_offset_is_given_out_twice() {
    let mut world = World::new();
    let running = world.start().await;
    world.produce(&running, 5).await;
    running.ship().await;
    for operation in [StoreOperation::Create, StoreOperation::Read, StoreOperation::Info, StoreOperation::Overwrite] {
        world.bucket.fail(operation, "", StoreFault::Before, usize::MAX);
    }
    world.produce(&running, 200).await;
    running.kill().await;
    let files = world.log_files();
    let newest = files.last().unwrap();
    assert!(files.len() >= 3, "{files:?}");
    for (lost, words) in [
        (&files[..], ["is missing", newest.to_str().unwrap()]),
        (&files[files.len() - 1..], ["is missing", newest.to_str().unwrap()]),
        (&files[1..2], ["damaged", files[0].to_str().unwrap()]),
        (&files[..1], ["is needed", files[1].to_str().unwrap()]),
    ] {
        let aside = tempfile::tempdir().unwrap();
        let kept = |file: &PathBuf| aside.path().join(file.file_name().unwrap());
        lost.iter().for_each(|file| fs::rename(file, kept(file)).unwrap());
        let complaint = world.complaint().await;
        for word in words.iter().chain(&["recover from the bucket"]) {
            assert!(complaint.contains(word), "{word} is not in: {complaint}");
        }
        lost.iter().for_each(|file| fs::rename(kept(file), file).unwrap());
    }
    world.check_after_restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_damaged_local_checkpoint_costs_nothing_and_without_any_the_start_is_refused() {
    let mut world = World::killed().await;
    let running = world.start().await;
    running.ship().await;
    running.stop().await;
    let places = ["0.ckpt", "1.ckpt"].map(|name| world.path("checkpoints/00000000").join(name));
    let whole = places.clone().map(|place| fs::read(place).unwrap());
    fs::write(places[0].with_file_name("00000001-00000000000000ff.ckpt"), "garbage").unwrap();
    for (place, bytes) in places.iter().zip(&whole) {
        let mut damaged = bytes.clone();
        damaged[4200] ^= 1;
        for bad in [Some(damaged), None] {
            match bad {
                Some(bytes) => fs::write(place, bytes).unwrap(),
                None => fs::remove_file(place).unwrap(),
            }
            let running = world.start().await;
            world.check(&running).await;
            world.produce(&running, 3).await;
            running.stop().await;
        }
    }
    for place in &places {
        fs::write(place, b"damaged").unwrap();
    }
    let complaint = world.complaint().await;
    for part in [places[0].to_str().unwrap(), places[1].to_str().unwrap(), "recover from the bucket"] {
        assert!(complaint.contains(part), "{part} is not in: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_checkpoint_that_can_not_be_written_ends_nothing_and_lets_the_log_keep_its_files() {
    let mut world = World::new();
    let running = world.start().await;
    let (place, aside) = (world.path("checkpoints/00000000/0.ckpt"), world.path("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::create_dir(&place).unwrap();
    world.produce(&running, 200).await;
    let files = world.log_files();
    assert!(files.len() >= 3, "{files:?}");
    running.stop().await;
    assert!(world.log_files().starts_with(&files), "{:?}", world.log_files());

    fs::remove_dir(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    let running = world.start().await;
    world.check(&running).await;
    world.produce(&running, 1).await;
    running.stop().await;
    assert!(world.log_files().len() < files.len(), "{:?}", world.log_files());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_the_place_of_a_file_is_named_with_what_to_do() {
    let world = World::killed().await;
    let newest = world.log_files().pop().unwrap();
    let names = ["identity.json", "lock", "checkpoints/00000000/0.ckpt", "checkpoints/00000000/wal.mark"];
    for file in names.map(|name| world.path(name)).into_iter().chain([newest]) {
        let aside = world.path("aside");
        fs::rename(&file, &aside).unwrap();
        fs::create_dir(&file).unwrap();
        let complaint = world.complaint().await;
        for part in [file.to_str().unwrap(), "move it away, and put the file back"] {
            assert!(complaint.contains(part), "{part} is not in: {complaint}");
        }
        fs::remove_dir(&file).unwrap();
        fs::rename(&aside, &file).unwrap();
    }
    world.check_after_restart().await;
}
