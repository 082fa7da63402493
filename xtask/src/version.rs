//! Versions as programs tell them: `go version go1.26.8 linux/amd64`, `v20.19.5`, `10.9.2`.

use std::{
    fmt,
    process::{Command, Stdio},
};

/// Major and minor; what comes after them never mattered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// Finds the first two numbers with a dot between them.
    pub(crate) fn in_text(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.');
            let mut number = || {
                let digits = numbers.next()?;
                let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
                digits[..end].parse().ok()
            };
            Some(Self(number()?, number()?))
        })
    }
}

/// Returns what a program says of its version; `None` when there is no such program, or it fails.
pub(crate) fn said_by(program: &str, asked: &[&str]) -> Option<String> {
    let mut ask = Command::new(program);
    let said = ask.args(asked).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("go version go1.26.8 linux/amd64", Some(Version(1, 26))),
            ("go version go1.27rc1 linux/amd64", Some(Version(1, 27))),
            ("v20.19.5\n", Some(Version(20, 19))),
            ("10.9.2", Some(Version(10, 9))),
            ("devel", None),
            ("", None),
        ] {
            assert_eq!(Version::in_text(text), version, "{text}");
        }
        assert!(Version(1, 9) < Version(1, 26) && Version(20, 19) < Version(22, 0));
    }
}
