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
    for part in [
        world.data_dir.path().to_str().unwrap(),
        "identity.json is missing",
        "recover",
    ] {
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
    for operation in [
        Operation::Create,
        Operation::Read,
        Operation::Info,
        Operation::Overwrite,
    ] {
        world.bucket.fail(operation, "", Fault::Before, usize::MAX);
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
