//! Rendered objects as JSON, found by kind and name.

use serde_json::Value;

use crate::render;

/// The objects of one rendering of the agent's chart.
#[derive(Debug)]
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    /// Renders the agent's chart with the lab's values and `more`.
    pub(crate) fn of_agent(more: &[&str]) -> Objects {
        let mut arguments = render::lab_values();
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let chart = render::agent_chart();
        let text =
            render::template(&chart, "fairlead", "fairlead-system", &arguments).expect("renders");
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("valid YAML");
        Objects(objects.into_iter().filter(|object| !object.is_null()).collect())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn named(&self, kind: &str, name: &str) -> &Value {
        self.0
            .iter()
            .find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// Returns the pod templates of every workload, by the workload's name.
    pub(crate) fn pods(&self) -> Vec<(&str, &Value)> {
        let workloads = self.0.iter().filter(|object| object["spec"]["template"].is_object());
        workloads
            .map(|object| (text(&object["metadata"]["name"]), &object["spec"]["template"]["spec"]))
            .collect()
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
