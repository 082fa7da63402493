//! Puts what the demo printed into the README, between two markers.

use anyhow::{Context, ensure};

const BEGIN: &str = "<!-- demo: made by `cargo xtask demo --once --readme` -->\n```console\n";
const END: &str = "```\n<!-- /demo -->";

/// Returns the README with `transcript` in place of the one it has.
pub(crate) fn replaced(readme: &str, transcript: &str) -> anyhow::Result<String> {
    ensure!(!transcript.contains("```"), "the transcript would end its own block");
    let begin =
        readme.find(BEGIN).context("README.md has lost the marker of the demo")? + BEGIN.len();
    let end = readme[begin..].find(END).context("README.md has lost the end of the demo")? + begin;
    Ok(format!("{}{}\n{}", &readme[..begin], transcript.trim(), &readme[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let readme = format!("above\n{BEGIN}old\n{END}\nbelow\n");
        let wanted = format!("above\n{BEGIN}new\n{END}\nbelow\n");
        assert_eq!(replaced(&readme, "\nnew\n\n").unwrap(), wanted);
    }

    #[test]
    fn a_readme_without_markers_is_left_alone() {
        assert!(replaced("nothing here", "new").is_err());
    }
}
