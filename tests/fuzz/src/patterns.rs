//! Patterns as a developer types them.

use fairlead_model::Pattern;

/// Whatever is accepted is written as it means, and covers what it names.
pub fn patterns(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(pattern) = text.parse::<Pattern>() else { return };
    let again: Pattern = pattern.to_string().parse().expect("what we write we read");
    assert_eq!(again, pattern, "{text:?}");
    if let Some(service) = pattern.names_one() {
        assert!(pattern.covers(&service), "{text:?} does not cover {service}");
    }
}
