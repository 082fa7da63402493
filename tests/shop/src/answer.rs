//! What a shop process answers: who it is, what reached it, and what those it asked answered.
//!
//! The same types are read by the tools and by tests.

use std::{fmt::Write as _, net::SocketAddr, process};

use serde::{Deserialize, Serialize};

/// Who answered: a pod in the cluster, or a process on somebody's laptop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredBy {
    /// The shop's word for what it does: `cart`.
    pub role: String,
    /// The pod's name, or what `--name` said.
    pub name: String,
    /// The process id, which tells two processes of one name apart.
    pub process: u32,
}

impl AnsweredBy {
    /// Describes this process.
    pub fn this_process(role: &str, name: &str) -> Self {
        AnsweredBy { role: role.to_owned(), name: name.to_owned(), process: process::id() }
    }
}

/// One answer with the chain of answers it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub answered_by: AnsweredBy,
    /// The path that was asked for; for gRPC the method, for the ledger the line.
    pub path: String,
    /// The W3C baggage that arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
}

/// One call that was made to give an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// What was called, by the caller's name for it.
    pub to: String,
    /// The caller's end of the connection: the same address twice is one connection used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<SocketAddr>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answer(Box<Answer>),
    Error(String),
}

impl Answer {
    /// Says whether every call, at any depth, was answered.
    pub fn is_whole(&self) -> bool {
        self.calls.iter().all(|call| match &call.outcome {
            Outcome::Answer(answer) => answer.is_whole(),
            Outcome::Error(_) => false,
        })
    }

    /// Returns what the thing called `to` answered, at any depth.
    pub fn from(&self, to: &str) -> Option<&Answer> {
        self.calls.iter().find_map(|call| match &call.outcome {
            Outcome::Answer(answer) if call.to == to => Some(&**answer),
            Outcome::Answer(answer) => answer.from(to),
            Outcome::Error(_) => None,
        })
    }

    /// Returns the chain as an indented list for people.
    pub fn tree(&self) -> String {
        let mut text = String::new();
        self.write_tree(&self.answered_by.role, 0, &mut text);
        text
    }

    fn write_tree(&self, label: &str, depth: usize, text: &mut String) {
        let name = &self.answered_by.name;
        line(text, depth, label, name);
        for call in &self.calls {
            match &call.outcome {
                Outcome::Answer(answer) => answer.write_tree(&call.to, depth + 1, text),
                Outcome::Error(error) => line(text, depth + 1, &call.to, &format!("! {error}")),
            }
        }
    }
}

/// Writes `label` indented by `depth`, with `rest` in a column of its own.
fn line(text: &mut String, depth: usize, label: &str, rest: &str) {
    let indent = "  ".repeat(depth);
    let width = 16_usize.saturating_sub(indent.len());
    writeln!(text, "{indent}{label:<width$}{rest}").expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(role: &str, calls: Vec<Call>) -> Answer {
        let answered_by = AnsweredBy { role: role.into(), name: format!("{role}-0"), process: 1 };
        Answer { answered_by, path: "/".into(), baggage: None, calls }
    }

    fn call(to: &str, outcome: Outcome) -> Call {
        Call { to: to.into(), over: None, outcome }
    }

    fn chain() -> Answer {
        let ledger = call("ledger", Outcome::Error("connection refused".into()));
        let payment = answer("payment", vec![ledger]);
        let cart = answer("cart", vec![]);
        answer(
            "frontend",
            vec![
                call("cart", Outcome::Answer(Box::new(cart))),
                call("payment", Outcome::Answer(Box::new(payment))),
            ],
        )
    }

    #[test]
    fn an_answer_with_a_failed_call_anywhere_is_not_whole() {
        assert!(!chain().is_whole());
        assert!(chain().from("cart").expect("called").is_whole());
    }

    #[test]
    fn the_tree_shows_who_answered_and_what_failed() {
        let expected = "frontend        frontend-0\n  cart          cart-0\n  payment       payment-0\n    ledger      ! connection refused\n";
        assert_eq!(chain().tree(), expected);
    }

    #[test]
    fn an_answer_survives_json() {
        let text = serde_json::to_string(&chain()).expect("serializable");
        assert!(text.contains(r#"{"to":"ledger","error":"connection refused"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Answer>(&text).expect("valid"), chain());
    }
}
