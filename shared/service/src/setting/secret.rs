//! Values that only their receiver may see.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret. It is shown by no `Debug`, no log line and no `--help` (give its setting `hide_env_values`), and is read
/// without a refusal by clap, which would repeat it: the code that uses it checks it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for a header or a signature.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares in a time that says nothing about where a guess is wrong.
    pub fn is(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_it_and_nothing_shows_them() {
        let secret = Secret::from("tok3n".to_owned());
        assert!(secret.is(b"tok3n"));
        for guess in ["", "tok3", "tok3N", "tok3n "] {
            assert!(!secret.is(guess.as_bytes()), "{guess:?}");
        }
        assert_eq!(format!("{:?}", Some(secret)), "Some(Secret)");
    }
}
