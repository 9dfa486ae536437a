//! Which of its roles a test component plays: `config = { role = "..." }` in its description says so.
#![no_std]
#![forbid(unsafe_code)]

/// The role that the content of a component's ROM `config` names; empty: none.
pub fn of(config: Option<&[u8]>) -> &str {
    let lines = config.and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default().lines();
    lines.map(str::trim).find_map(|line| line.strip_prefix("role = \"")?.strip_suffix('"')).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_a_line_of_its_own() {
        assert_eq!(of(Some(b"every_ms = 3\nrole = \"server\"\n")), "server");
        for none in
            [None, Some(&b""[..]), Some(b"\xff"), Some(b"role = \"x"), Some(b"other_role = \"x\""), Some(b"role = 3")]
        {
            assert_eq!(of(none), "", "{none:?}");
        }
    }
}
