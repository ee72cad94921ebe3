//! Why a request has no good answer, and the API's error shape for it. Layer 5.
//!
//! Clients decide by status and `reason` whether to try again: 403 `accessDenied`, 404 and 400 are
//! final, 503 `backendError` is tried again for ten minutes. So a denial is never a 503.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use crate::audit::AuditUnavailable;
use crate::error::{Denial, DenialCode};
use crate::ids::RecordId;

/// Why a request has no good answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Refused: recorded, and told with its code.
    Denied(Denial),
    /// An object of the caller's own that is not there, by what it is called.
    NotFound(String),
    /// A request that is allowed and says something that cannot be.
    Invalid(String),
    /// The service's own error, scrubbed.
    Upstream(ServiceError),
    /// The service cannot be reached, or does not answer as it should.
    Unavailable,
    /// The record cannot be written: nothing runs.
    NoAudit,
    /// The client sent more than may be read, or too slowly.
    Body(BodyFault),
}

/// What is wrong with how the body came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// Over the bound.
    TooLarge,
    /// Not in time.
    TooSlow,
    /// The client went, or broke the protocol.
    Broken,
}

/// An error that the service answered, in words that may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceError {
    /// The HTTP status.
    pub(super) status: u16,
    /// `errors[0].reason`
    pub(super) reason: String,
    /// The message, scrubbed.
    pub(super) message: String,
}

impl From<Denial> for Fault {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<AuditUnavailable> for Fault {
    fn from(_: AuditUnavailable) -> Self {
        Self::NoAudit
    }
}

impl Fault {
    /// HR5002: a part of the request that is not on the list.
    pub(super) fn form(part: impl Into<String>) -> Self {
        Self::Denied(Denial::of(DenialCode::ApiForm, part))
    }

    /// HR5007: an id that this tenant was not given.
    pub(super) fn foreign(what: impl Into<String>) -> Self {
        Self::Denied(Denial::of(DenialCode::ForeignObject, what))
    }

    /// The word for records.
    pub(super) fn result(&self) -> &str {
        match self {
            Self::Denied(denial) => denial.sqlstate().0,
            Self::NotFound(_) => "notFound",
            Self::Invalid(_) => "invalid",
            Self::Upstream(error) => &error.reason,
            Self::Unavailable => "backendError",
            Self::NoAudit => "53100",
            Self::Body(_) => "badRequest",
        }
    }

    /// What the client gets. `record`: of a denial.
    pub(super) fn answer(&self, record: Option<RecordId>) -> Answer {
        match self {
            Self::Denied(denial) => denied(denial, record),
            Self::NotFound(what) => not_found(what),
            Self::Invalid(message) => error(400, "INVALID_ARGUMENT", "invalid", message, None),
            Self::Upstream(told) => {
                error(told.status, status_word(told.status), &told.reason, &told.message, None)
            }
            Self::Unavailable => {
                let message = "hedgerow: the service cannot be reached; try again";
                error(503, "UNAVAILABLE", "backendError", message, None)
            }
            Self::NoAudit => {
                let denial = Denial::new(DenialCode::AuditUnavailable);
                error(503, "UNAVAILABLE", "backendError", &denial.message(), None)
            }
            Self::Body(BodyFault::TooLarge) => {
                let message = "hedgerow: the request's body is over the limit";
                error(413, "INVALID_ARGUMENT", "requestTooLarge", message, None)
            }
            Self::Body(BodyFault::TooSlow | BodyFault::Broken) => {
                let message = "hedgerow: the request's body did not come whole";
                error(400, "INVALID_ARGUMENT", "badRequest", message, None)
            }
        }
    }
}

fn not_found(what: &str) -> Answer {
    error(404, "NOT_FOUND", "notFound", &format!("Not found: {what}"), None)
}

fn denied(denial: &Denial, record: Option<RecordId>) -> Answer {
    if denial.code == DenialCode::ForeignObject {
        // SECURITY: the very answer that an object which never was gets: no code, no record's id.
        return not_found(denial.object.as_deref().unwrap_or("the object"));
    }
    let id = record.map_or_else(String::new, |record| format!("; audit record {record}"));
    let message = format!("{} ({}{id})", denial.message(), denial.detail());
    let details = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": denial.code.code(),
        "domain": "hedgerow",
        "metadata": {
            "object": denial.object,
            "hint": denial.code.hint(),
            "record": record.map(|record| record.to_string()),
        },
    }]);
    if denial.code.code().starts_with("HR2") {
        let mut answer = error(401, "UNAUTHENTICATED", "authError", &message, Some(details));
        answer.challenge = true;
        return answer;
    }
    if denial.code.code().starts_with("HR3") {
        // Clients do not try `quotaExceeded` again. A rate is kept by waiting: they do that by themselves
        // for `rateLimitExceeded`.
        let reason = match denial.code {
            DenialCode::Quota | DenialCode::QuotaConcurrent => "rateLimitExceeded",
            _ => "quotaExceeded",
        };
        return error(403, "RESOURCE_EXHAUSTED", reason, &message, Some(details));
    }
    error(403, "PERMISSION_DENIED", "accessDenied", &message, Some(details))
}

/// The status word of Google's APIs for an HTTP status.
pub(super) const fn status_word(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ALREADY_EXISTS",
        412 => "FAILED_PRECONDITION",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}

fn error(code: u16, status: &str, reason: &str, message: &str, details: Option<Value>) -> Answer {
    let mut body = json!({
        "code": code,
        "message": message,
        "errors": [{"message": message, "domain": "global", "reason": reason}],
        "status": status,
    });
    if let (Some(details), Value::Object(fields)) = (details, &mut body) {
        fields.insert("details".to_owned(), details);
    }
    Answer::json(code, &json!({"error": body}))
}

impl Answer {
    /// A JSON document.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, vec![Bytes::from(body.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.body.concat()).unwrap()
    }

    #[test]
    fn a_denial_has_the_shape_of_the_api_with_code_and_record() {
        let denial = Denial::of(DenialCode::UnknownRelation, "app.nowhere");
        let record = RecordId::fresh();
        let answer = Fault::from(denial).answer(Some(record));
        assert_eq!(answer.status, 403);
        let body = body(&answer);
        let error = &body["error"];
        assert_eq!(error["status"], "PERMISSION_DENIED");
        assert_eq!(error["errors"][0]["reason"], "accessDenied");
        assert_eq!(error["errors"][0]["domain"], "global");
        let message = error["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("hedgerow: ") && message.contains("HR1003"), "{message}");
        assert!(message.contains(&record.to_string()));
        assert_eq!(error["details"][0]["reason"], "HR1003");
    }

    #[test]
    fn a_foreign_id_looks_like_one_that_never_was() {
        let foreign = Fault::foreign("Job p:j").answer(Some(RecordId::fresh()));
        let absent = Fault::NotFound("Job p:j".to_owned()).answer(None);
        assert_eq!((foreign.status, body(&foreign)), (404, body(&absent)));
    }

    #[test]
    fn a_bad_token_is_answered_with_a_challenge() {
        let answer = Fault::from(Denial::new(DenialCode::TokenExpired)).answer(None);
        assert_eq!((answer.status, answer.challenge), (401, true));
        assert_eq!(body(&answer)["error"]["errors"][0]["reason"], "authError");
    }
}
