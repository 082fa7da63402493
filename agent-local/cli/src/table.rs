//! Tables for people: aligned columns, no lines.

const GAP: usize = 2;

/// Returns the rows under their headings; without rows, `nothing` in place of a lonely heading.
pub(crate) fn table<const N: usize>(
    headings: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    nothing: &str,
) -> String {
    let mut lines = vec![headings.map(str::to_owned)];
    lines.extend(rows);
    if lines.len() == 1 {
        return format!("{nothing}\n");
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0) + GAP);
    lines.iter().map(|line| aligned(line, &widths)).collect()
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    padded.collect::<String>().trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_no_line_ends_in_spaces() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = table(["NAME", "PHASE"], [row("a-long-name", "active"), row("b", "x")], "none");
        assert_eq!(text, "NAME         PHASE\na-long-name  active\nb            x\n");
        assert_eq!(table(["NAME"], [], "no sessions"), "no sessions\n");
    }
}
