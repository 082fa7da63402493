//! Figures as people read them: what has a gate in one table, what was measured side by side in another.
//!
//! The same tables go to the terminal, aligned by spaces, and into documents, in Markdown.

use std::io::Write;

use crate::figure::{Figure, Gate};

/// Prints figures as tables, or as one JSON object per line.
pub fn print(figures: &[Figure], as_json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if as_json {
        for figure in figures {
            writeln!(out, "{}", serde_json::to_string(figure)?)?;
        }
        return Ok(());
    }
    for table in [measured(figures), held(figures)].into_iter().flatten() {
        writeln!(out, "{}", aligned(&table))?;
    }
    Ok(())
}

/// Returns figures as tables in Markdown.
#[must_use]
pub fn markdown(figures: &[Figure]) -> String {
    let tables = [measured(figures), held(figures)].into_iter().flatten();
    let tables = tables.map(|table| {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<_> = table[0].iter().map(|_| "---".to_owned()).collect();
        let body = table[1..].iter().map(|cells| line(cells)).collect::<String>();
        format!("{}{}{body}", line(&table[0]), line(&rule))
    });
    tables.collect::<Vec<_>>().join("\n")
}

type Table = Vec<Vec<String>>;

/// Returns what belongs to somebody: a row per name, a column per owner. None when nothing does.
fn measured(figures: &[Figure]) -> Option<Table> {
    let owned: Vec<_> = figures.iter().filter_map(|f| Some((f.of.as_deref()?, f))).collect();
    let owners = in_order(owned.iter().map(|(owner, _)| *owner));
    let names = in_order(owned.iter().map(|(_, figure)| figure.name.as_str()));
    let cell = |name: &str, owner: &str| {
        let found = owned.iter().find(|(o, figure)| *o == owner && figure.name == name);
        found.filter(|(_, figure)| figure.n > 0).map_or("-".to_owned(), |(_, f)| with_spread(f))
    };
    let row = |name: &str| {
        let unit = owned.iter().find(|(_, f)| f.name == name).map_or("", |(_, f)| f.unit.as_str());
        let cells = owners.iter().map(|owner| cell(name, owner));
        [name.to_owned(), unit.to_owned()].into_iter().chain(cells).collect()
    };
    let head = ["measured", "unit"].into_iter().chain(owners.iter().copied());
    let head: Vec<_> = head.map(str::to_owned).collect();
    (!owned.is_empty()).then(|| [head].into_iter().chain(names.into_iter().map(row)).collect())
}

/// Returns what belongs to nobody, with its gate.
fn held(figures: &[Figure]) -> Option<Table> {
    let own: Vec<_> = figures.iter().filter(|figure| figure.of.is_none()).collect();
    let head = ["figure", "value", "n", "min / median / max", "gate", "stretch", "holds"];
    let row = |figure: &&Figure| {
        let Figure { name, value, unit, n, spread, gate, stretch, holds, .. } = figure;
        let value = if *n == 0 { "-".to_owned() } else { united(*value, unit) };
        let gate = gate.map(|gate| match gate {
            Gate::AtMost(most) => format!("≤ {}", united(most, unit)),
            Gate::AtLeast(least) => format!("≥ {}", united(least, unit)),
        });
        let says = if gate.is_none() {
            ""
        } else if *holds {
            "yes"
        } else {
            "NO"
        };
        vec![
            name.clone(),
            value,
            n.to_string(),
            spread.map(number).join(" / "),
            gate.unwrap_or_default(),
            stretch.map(|stretch| united(stretch, unit)).unwrap_or_default(),
            says.to_owned(),
        ]
    };
    let head: Vec<_> = head.map(str::to_owned).into();
    (!own.is_empty()).then(|| [head].into_iter().chain(own.iter().map(row)).collect())
}

fn in_order<'f>(names: impl Iterator<Item = &'f str>) -> Vec<&'f str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn with_spread(figure: &Figure) -> String {
    let [min, _, max] = figure.spread;
    if figure.n == 1 {
        return number(figure.value);
    }
    format!("{} ({}–{})", number(figure.value), number(min), number(max))
}

fn united(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value)).trim_end().to_owned()
}

/// Three digits say what there is to say.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn aligned(table: &Table) -> String {
    let wide = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let wide: Vec<_> = (0..table[0].len()).map(|column| wide(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&wide).enumerate().map(|(at, (cell, wide))| {
            if at == 0 { format!("{cell:<wide$}") } else { format!("{cell:>wide$}") }
        });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(figures: &[Figure]) -> String {
        let mut table = Vec::new();
        print(figures, false, &mut table).expect("written");
        String::from_utf8(table).expect("text")
    }

    #[test]
    fn every_line_of_a_table_is_as_wide_as_the_first() {
        let named = |name| Figure::worst(name, "ms", 2.0, vec![1.0]);
        let long = "a name that is longer than most others and than it should be";
        let table = printed(&[named("short"), named(long)]);
        let wide: Vec<_> =
            table.lines().filter(|l| !l.is_empty()).map(|l| l.chars().count()).collect();
        assert_eq!(wide.len(), 3, "{table}");
        assert!(wide.iter().all(|chars| *chars == wide[0]), "{table}");
    }

    #[test]
    fn what_is_measured_side_by_side_stands_in_one_row() {
        let rate = |whose, sample| Figure::median("upload", "MB/s", sample).of(whose);
        let ratio = Figure::median("upload / raw", "", vec![0.25]).holding(Gate::AtLeast(0.2));
        let figures =
            [rate("raw", vec![3000.0, 4000.0, 5000.0]), rate("ours", vec![1000.0]), ratio];
        let text = markdown(&figures);
        assert!(text.contains("| measured | unit | raw | ours |"), "{text}");
        assert!(text.contains("| upload | MB/s | 4000 (3000–5000) | 1000 |"), "{text}");
        assert!(text.contains("| upload / raw | 0.25 | 1 |") && text.contains("≥ 0.20"), "{text}");
        let missing = [rate("raw", vec![1.0]), rate("ours", Vec::new())];
        assert!(markdown(&missing).contains("| 1 | - |"), "{}", markdown(&missing));
    }

    #[test]
    fn a_figure_without_a_gate_neither_holds_nor_fails() {
        let table = printed(&[Figure::median("f", "ms", vec![1.5])]);
        assert!(table.contains("1.50 ms") && !table.contains("yes"), "{table}");
    }
}
