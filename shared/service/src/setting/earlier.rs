//! Names of settings that earlier systems used with another meaning: accepted, without effect, and named once in the
//! log.

/// A setting that has no effect here, and what does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierName {
    /// The name in the environment.
    pub name: String,
    /// What to use instead.
    pub instead: &'static str,
}

/// (name, or prefix if it ends in `_`; what replaces it)
const EARLIER: [(&str, &str); 5] = [
    ("CHRONIK_WAL_PROFILE", "nothing: frames that queue up share a write and an fsync by themselves"),
    ("CHRONIK_METADATA_DR", "nothing: the bucket always holds everything that a recovery needs"),
    ("CHRONIK_METADATA_UPLOAD_INTERVAL", "CHRONIK_SHIP_MAX_AGE, which ships metadata and records together"),
    ("CHRONIK_FILE_METADATA", "nothing: metadata is in the write-ahead log"),
    ("CHRONIK_SNAPSHOT_", "nothing: checkpoints are taken by themselves"),
];

/// The earlier names among the given names of environment variables, in their order.
pub fn earlier_names_in(names: impl IntoIterator<Item = String>) -> Vec<EarlierName> {
    names
        .into_iter()
        .filter_map(|name| {
            let (_, instead) =
                EARLIER.iter().find(|(known, _)| name == *known || known.ends_with('_') && name.starts_with(known))?;
            Some(EarlierName { name, instead })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_names_are_reported() {
        let names = ["CHRONIK_SNAPSHOT_INTERVAL", "CHRONIK_DATA_DIR", "CHRONIK_WAL_PROFILE", "CHRONIK_WAL_PROFILES"];
        let told: Vec<_> = earlier_names_in(names.map(String::from)).into_iter().map(|e| e.name).collect();
        assert_eq!(told, ["CHRONIK_SNAPSHOT_INTERVAL", "CHRONIK_WAL_PROFILE"]);
    }
}
