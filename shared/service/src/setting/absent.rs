//! Settings of what this program cannot do yet. Given all the same they are refused: to ignore them would promise
//! something that is not kept.

/// A setting that was given and can't be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given} is set, but {what} not there yet; leave it out")]
pub struct AbsentSetting {
    /// The flag or the environment variable.
    pub given: String,
    /// What it would turn on, with its verb.
    pub what: &'static str,
}

/// (name in the environment, or prefix if it ends in `_`; what is missing, with its verb)
const ABSENT: &[(&str, &str)] = &[
    ("CHRONIK_PRODUCE_PROFILE", "produce profiles are"),
    ("CHRONIK_RAFT", "clusters are"),
    ("CHRONIK_NODE_ID", "clusters are"),
    #[cfg(not(feature = "failpoints"))]
    (crate::failpoint::VARIABLE, "fail points, which builds for tests have, are"),
];

/// The first flag or environment variable that can't be honoured.
pub fn absent_setting_in(
    flags: impl IntoIterator<Item = String>,
    environment: impl IntoIterator<Item = String>,
) -> Option<AbsentSetting> {
    let flags = flags.into_iter().take_while(|flag| flag != "--").filter_map(|flag| {
        let name = flag.strip_prefix("--")?.split('=').next()?.to_ascii_uppercase().replace('-', "_");
        let given = format!("--{}", name.to_ascii_lowercase().replace('_', "-"));
        missing(&name).or_else(|| missing(&format!("CHRONIK_{name}"))).map(|what| AbsentSetting { given, what })
    });
    let environment =
        environment.into_iter().filter_map(|name| missing(&name).map(|what| AbsentSetting { given: name, what }));
    flags.chain(environment).next()
}

fn missing(name: &str) -> Option<&'static str> {
    ABSENT
        .iter()
        .find(|(known, _)| name == *known || known.ends_with('_') && name.starts_with(known))
        .map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(flags: &[&str], environment: &[&str]) -> Option<String> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        absent_setting_in(owned(flags), owned(environment)).map(|absent| absent.to_string())
    }

    #[test]
    fn flags_and_variables_of_what_is_absent_are_refused() {
        let told = given(&["--raft"], &[]);
        assert_eq!(told.as_deref(), Some("--raft is set, but clusters are not there yet; leave it out"));
        let told = given(&[], &["PATH", "CHRONIK_NODE_ID"]);
        assert!(told.is_some_and(|told| told.starts_with("CHRONIK_NODE_ID is set")));
    }

    #[test]
    fn what_is_there_passes() {
        assert_eq!(given(&["standalone", "--kafka-port", "1", "--", "--raft"], &["CHRONIK_DATA_DIR"]), None);
    }
}
