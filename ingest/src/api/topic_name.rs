//! Which names a topic can have: Kafka's rule, `org.apache.kafka.common.internals.TopicState`.

/// Longer names would not fit in a file's, which Kafka makes of them.
const LENGTH_MAX: usize = 249;

/// Why a topic can't have a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Nothing, or too much.
    #[error("a topic's name has 1 to 249 characters, this one {length}")]
    Length {
        /// Bytes of the name.
        length: usize,
    },
    /// `.` or `..`.
    #[error("a topic can't be named \".\" or \"..\"")]
    Dots,
    /// Another character.
    #[error("a topic's name consists of ASCII letters, digits, '.', '_' and '-', not {found:?}")]
    Character {
        /// The first that does not fit.
        found: char,
    },
}

/// Whether a topic can have this name.
pub fn check(name: &str) -> Result<(), TopicNameError> {
    if !(1..=LENGTH_MAX).contains(&name.len()) {
        return Err(TopicNameError::Length { length: name.len() });
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    match name.chars().find(|found| !(found.is_ascii_alphanumeric() || matches!(found, '.' | '_' | '-'))) {
        Some(found) => Err(TopicNameError::Character { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        for name in ["a", "...", ".a", "A-z_0.9", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, error) in [
            ("", TopicNameError::Length { length: 0 }),
            (&"x".repeat(250), TopicNameError::Length { length: 250 }),
            (".", TopicNameError::Dots),
            ("..", TopicNameError::Dots),
            ("a b", TopicNameError::Character { found: ' ' }),
            ("a/b", TopicNameError::Character { found: '/' }),
            ("größe", TopicNameError::Character { found: 'ö' }),
            ("a\0", TopicNameError::Character { found: '\0' }),
        ] {
            assert_eq!(check(name), Err(error), "{name}");
        }
    }
}
