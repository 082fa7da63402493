//! The charts, without a cluster: what they render to, what they refuse, and whether they fit the programs they start.

mod agent;
mod objects;
mod render;
mod rights;
mod schema;

/// A change of a chart shows as a change of what it renders to, and is reviewed there.
#[test]
fn the_committed_renderings_are_what_the_charts_say() {
    for committed in render::committed().expect("the charts render") {
        let found = std::fs::read_to_string(&committed.path).unwrap_or_default();
        assert!(
            found == committed.text,
            "{} is stale: run `cargo xtask gen`",
            committed.path.display()
        );
    }
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let values = render::lab_values();
    let charts =
        [(render::agent_chart(), values.as_slice()), (render::root("tests/shop/chart"), &[])];
    for (chart, values) in charts {
        let mut helm = std::process::Command::new(fairlead_lab::tools::helm().expect("Helm"));
        render::run(helm.args(["lint", "--strict"]).arg(&chart).args(values))
            .expect("no complaint");
    }
}
