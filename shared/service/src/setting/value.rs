//! Readers of single values, for clap's `value_parser`; a refusal says what is accepted.

use std::net::IpAddr;

/// A port; 0 asks for any free one.
pub fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| format!("{text:?} is not a port; accepted are 0 to 65535"))
}

/// An address to listen on.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.trim().trim_matches(['[', ']']);
    match bare {
        "localhost" => Ok(IpAddr::from([127, 0, 0, 1])),
        _ => bare.parse().map_err(|_| {
            format!("{text:?} is not an address of this machine; accepted are IP addresses (127.0.0.1, 0.0.0.0, ::1)")
        }),
    }
}

/// On or off.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither yes nor no; accepted are true and false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_refused_with_what_is_accepted() {
        assert_eq!(port("8080"), Ok(8080));
        assert!(port("70000").is_err_and(|told| told.contains("70000") && told.contains("65535")));
        assert_eq!(address("[::1]"), Ok(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])));
        assert_eq!(address("localhost"), Ok(IpAddr::from([127, 0, 0, 1])));
        assert!(address("example.org").is_err_and(|told| told.contains("127.0.0.1")));
        assert_eq!(switch("TRUE"), Ok(true));
        assert_eq!(switch("off"), Ok(false));
        assert!(switch("maybe").is_err_and(|told| told.contains("true and false")));
    }
}
