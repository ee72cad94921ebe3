//! The answer for tools: one JSON object. Layer 6.

use serde_json::{Value, json};

use super::Verdict;
use super::prose::{self, locate};
use crate::sql::account::{Account, Clause, Treatment, WHY_APART};

impl Verdict<'_> {
    /// The object of the contract (`decision`, `code`, `reason`, `sent`, `relations`), and the account.
    pub(super) fn json(&self) -> Value {
        let refused = self.explanation.verdict.as_ref().err().map(|refusal| &refusal.denial);
        let monitored = self.would_deny();
        let refused = refused.or(monitored);
        let relations: Vec<Value> = self
            .relations()
            .into_iter()
            .map(|named| json!({"relation": named.relation, "rule": named.rule}))
            .collect();
        let sent: &[crate::sql::Decided] = match &self.explanation.verdict {
            Ok(statements) => statements,
            Err(_) => &[],
        };
        let statements: Vec<Value> = self
            .explanation
            .accounts
            .iter()
            .enumerate()
            .map(|(index, account)| {
                let decided = sent.get(index);
                statement(account, decided.map(crate::sql::Decided::sent))
            })
            .collect();
        json!({
            "decision": self.decision(),
            "code": refused.map(|denial| denial.code.code()),
            "reason": refused.map(prose::short),
            "sent": self.sent(),
            "relations": relations,
            "original": self.original,
            "monitored": monitored.is_some(),
            "catalog": if self.offline { "none" } else { "known" },
            "statements": statements,
            "denial": refused.map(|denial| json!({
                "code": denial.code.code(),
                "object": denial.object,
                "statement": self.explanation.accounts.len().max(1),
                "position": locate(self.original, denial.object.as_deref())
                    .map(|place| json!({"line": place.line, "column": place.column})),
                "what": prose::what(denial),
                "hint": denial.code.hint(),
            })),
        })
    }
}

fn statement(account: &Account, sent: Option<String>) -> Value {
    let guards: Vec<Value> = account
        .guards
        .iter()
        .map(|guard| {
            json!({
                "relation": guard.relation.to_string(),
                "as": guard.visible,
                "place": guard.place.word(),
                "why": guard.place.why(),
                "condition": guard.condition,
            })
        })
        .collect();
    let barriers: Vec<Value> = account
        .barriers
        .iter()
        .map(|barrier| json!({"query": barrier.query, "form": barrier.form.word(), "why": WHY_APART}))
        .collect();
    let conjuncts: Vec<Value> = account
        .conjuncts
        .iter()
        .map(|conjunct| {
            let (treatment, why) = match &conjunct.treatment {
                Treatment::Total => ("total", None),
                Treatment::Shielded(why) => ("guarded", Some(why.to_string())),
                Treatment::Unexposed(why) => ("unexposed", Some(why.to_string())),
            };
            let clause = match conjunct.clause {
                Clause::Condition => "condition",
                Clause::Having => "having",
            };
            json!({"text": conjunct.text, "clause": clause, "treatment": treatment, "why": why})
        })
        .collect();
    let written: Vec<Value> = account
        .written
        .iter()
        .map(|written| {
            json!({
                "relation": written.relation.to_string(),
                "column": written.column,
                "demand": written.demand,
            })
        })
        .collect();
    json!({
        "sent": sent,
        "guards": guards,
        "barriers": barriers,
        "conjuncts": conjuncts,
        "written": written,
    })
}
