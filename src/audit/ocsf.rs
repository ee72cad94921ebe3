//! The form of a record: OCSF 1.8, Datastore Activity (class 6005) with the `security_control`
//! profile, in RFC 8785 canonical form. Layer 2, pure. `schemas/audit.schema.json` describes it.
//!
//! What OCSF has no place for is in `unmapped.hedgerow`, flat; the chain is in
//! `unmapped.attestation_list`, laid out like the `record_integrity` profile of OCSF 1.9.

use super::canonical::Object;
use super::chain::{Checkpoint, RecordHash, Tip};
use super::execution::Fields;
use super::record::{ClientAddress, Decision, Engine, Event, Kind, RelationRule};
use crate::error::DenialCode;
use std::io::Write as _;

/// Longest statement that a record holds, in bytes; the rest is cut off and `statement_truncated` set.
pub(super) const MAX_STATEMENT: usize = 16 * 1024;
/// Longest other text, in bytes.
pub(super) const MAX_TEXT: usize = 1024;
/// Most relations that a record lists; `relations_total` counts them all.
pub(super) const MAX_RELATIONS: usize = 256;

/// What is in a record besides the event.
pub(super) enum Extra<'a> {
    /// Nothing.
    None,
    /// The record closes a segment.
    Checkpoint(&'a Checkpoint),
    /// Segments up to and including this number are deleted for their age.
    Retention {
        /// The last segment's number.
        through_segment: u64,
    },
}

/// A rendered record.
pub(super) struct Rendered {
    /// The record's hash.
    pub(super) hash: RecordHash,
    /// The line, without newline.
    pub(super) line: Vec<u8>,
}

/// Renders the record that follows `previous` in `chain`. `sign` signs a checkpoint's hash and is
/// called for checkpoints only; it answers a base64 signature.
pub(super) fn render(
    event: &Event,
    extra: &Extra<'_>,
    chain: &str,
    previous: Option<&Tip>,
    sign: impl FnOnce(&RecordHash) -> String,
) -> Rendered {
    let (mut line, mut body) = (Vec::with_capacity(2048), Vec::with_capacity(2048));
    let hash = render_into(&mut line, &mut body, &event.fields(), extra, chain, previous, sign);
    Rendered { hash, line }
}

/// [`render`] at the end of `out`. `body` is room to work in; what is in it does not matter.
pub(super) fn render_into(
    out: &mut Vec<u8>,
    body: &mut Vec<u8>,
    event: &Fields<'_>,
    extra: &Extra<'_>,
    chain: &str,
    previous: Option<&Tip>,
    sign: impl FnOnce(&RecordHash) -> String,
) -> RecordHash {
    let sequence = previous.map_or(1, |tip| tip.sequence.saturating_add(1));
    let view = View::of(event, extra);
    body.clear();
    let (mut fingerprint_at, mut signatures_at) = (0, 0);
    Object::write(body, |o| {
        base_fields(o, &view, event, sequence);
        o.object("unmapped", |o| {
            o.objects("attestation_list", std::iter::once(()), |o, ()| {
                o.text("chain_uid", chain);
                fingerprint_at = o.position();
                if let Some(tip) = previous {
                    o.object("prev_event", |o| {
                        o.object("fingerprint", |o| {
                            o.text("algorithm", "SHA-256");
                            o.number("algorithm_id", 3);
                            o.text("value", tip.hash.hex().as_str());
                        });
                        o.text("uid", &tip.uid);
                    });
                }
                signatures_at = o.position();
            });
            o.object("hedgerow", |o| own_fields(o, &view, event, extra, chain, sequence));
        });
    });
    let hash = RecordHash::of(&[body]);
    let (before, rest) = body.split_at_checked(fingerprint_at).unwrap_or((body, &[]));
    let (between, after) =
        rest.split_at_checked(signatures_at.saturating_sub(fingerprint_at)).unwrap_or((rest, &[]));
    out.reserve(body.len() + 512);
    out.extend_from_slice(before);
    out.extend_from_slice(br#","fingerprint":{"algorithm":"SHA-256","algorithm_id":3,"serialization":"JCS","serialization_id":2,"value":""#);
    out.extend_from_slice(hash.hex().as_str().as_bytes());
    out.extend_from_slice(b"\"}");
    out.extend_from_slice(between);
    if let Extra::Checkpoint(checkpoint) = extra {
        // Writing to a vector cannot fail.
        let _written = write!(
            out,
            r#","signatures":[{{"algorithm":"Ed25519","algorithm_id":99,"key_uid":"{}","value":"{}"}}]"#,
            checkpoint.key_id,
            sign(&hash)
        );
    }
    out.extend_from_slice(after);
    hash
}

/// What several fields follow from.
struct View<'a> {
    kind: &'static str,
    activity: (u64, &'a str),
    action: (u64, &'static str),
    disposition: (u64, &'static str),
    status: (u64, &'static str),
    statement: Option<&'a str>,
    statement_truncated: bool,
}

impl<'a> View<'a> {
    fn of(event: &Fields<'a>, extra: &Extra<'_>) -> Self {
        let statement = event.statement;
        let clipped = statement.map(|text| clip(text, MAX_STATEMENT));
        let kind = match extra {
            Extra::Checkpoint(_) => "checkpoint",
            Extra::Retention { .. } => "retention",
            Extra::None => event.kind.word(),
        };
        Self {
            kind,
            activity: activity(event, kind),
            action: match event.decision {
                Decision::Allow | Decision::Error => (1, "Allowed"),
                Decision::Deny => (2, "Denied"),
                Decision::WouldDeny => (3, "Observed"),
                Decision::Rewrite => (4, "Modified"),
            },
            disposition: disposition(event),
            status: status(event),
            statement: clipped,
            statement_truncated: clipped.map(str::len) != statement.map(str::len),
        }
    }
}

/// The activity of class 6005 that the event is.
fn activity<'a>(event: &Fields<'a>, kind: &'a str) -> (u64, &'a str) {
    match event.kind {
        Kind::Authentication => (3, "Connect"),
        Kind::PolicyChange | Kind::Lifecycle | Kind::Gap => (99, kind),
        Kind::Statement | Kind::Egress => match event.statement_kind {
            Some("select" | "explain" | "execute" | "cursor") => (4, "Query"),
            Some("copy") => (1, "Read"),
            Some("insert" | "merge") => (5, "Write"),
            Some("update") => (2, "Update"),
            Some("delete") => (7, "Delete"),
            Some(other) => (99, other),
            None => (0, "Unknown"),
        },
    }
}

fn disposition(event: &Fields<'_>) -> (u64, &'static str) {
    match (event.kind, event.decision) {
        (Kind::Egress, Decision::Deny) => (2, "Blocked"),
        (_, Decision::Allow) => (1, "Allowed"),
        (_, Decision::Rewrite) => (11, "Corrected"),
        (_, Decision::WouldDeny) => (17, "Logged"),
        (_, Decision::Error) => (27, "Error"),
        (Kind::Authentication, Decision::Deny) => (26, "Unauthorized"),
        (_, Decision::Deny) => match event.code {
            Some(
                DenialCode::CannotParse
                | DenialCode::StatementKind
                | DenialCode::ProtocolMessage
                | DenialCode::StatementTooLarge
                | DenialCode::Internal
                | DenialCode::AuditUnavailable
                | DenialCode::Quota
                | DenialCode::QuotaConcurrent
                | DenialCode::ByteBudget,
            ) => (25, "Rejected"),
            Some(_) | None => (2, "Blocked"),
        },
    }
}

fn status(event: &Fields<'_>) -> (u64, &'static str) {
    match event.decision {
        Decision::Deny | Decision::Error => (2, "Failure"),
        Decision::Allow | Decision::Rewrite | Decision::WouldDeny => match event.result_code {
            Some("00000") => (1, "Success"),
            Some(_) => (2, "Failure"),
            None if event.kind == Kind::Statement => (0, "Unknown"),
            None => (1, "Success"),
        },
    }
}

fn base_fields(o: &mut Object<'_>, view: &View<'_>, event: &Fields<'_>, sequence: u64) {
    let severity = event.severity;
    o.text("action", view.action.1);
    o.number("action_id", view.action.0);
    o.number("activity_id", view.activity.0);
    o.text("activity_name", view.activity.1);
    o.object("actor", |o| actor(o, event));
    o.text("category_name", "Application Activity");
    o.number("category_uid", 6);
    o.text("class_name", "Datastore Activity");
    o.number("class_uid", 6005);
    o.object("database", |o| {
        o.text("name", short(event.database).unwrap_or("unknown"));
        o.number("type_id", 1);
    });
    o.text("disposition", view.disposition.1);
    o.number("disposition_id", view.disposition.0);
    if let Some(upstream) = event.upstream {
        o.object("dst_endpoint", |o| destination(o, upstream, event.engine));
    }
    o.maybe_number("duration", event.duration.map(|d| saturate(d.as_millis())));
    o.flag("is_alert", severity >= super::record::Severity::Medium);
    o.maybe("message", short(event.message));
    o.object("metadata", |o| {
        o.text("log_name", "hedgerow.audit");
        o.object("product", |o| {
            o.text("name", "Hedgerow");
            o.text("vendor_name", "Hedgerow");
            o.text("version", env!("CARGO_PKG_VERSION"));
        });
        o.texts("profiles", &["security_control"]);
        o.number("sequence", sequence);
        o.maybe("tenant_uid", short(event.tenant));
        o.plain("uid", event.id);
        o.text("version", "1.8.0");
    });
    let mut ruled = event.relations.iter().filter(|used| &*used.rule != RelationRule::NO_RULE);
    if let (Some(first), Some(epoch)) = (ruled.next(), event.policy_epoch) {
        o.object("policy", |o| {
            o.flag("is_applied", true);
            o.text("uid", clip(&first.rule, MAX_TEXT));
            o.digits("version", epoch.0);
        });
    }
    if let Some(statement) = view.statement.filter(|text| !text.is_empty()) {
        o.object("query_info", |o| {
            o.text("query_string", statement);
            let fingerprint = event.fingerprint.filter(|text| !text.is_empty());
            o.text("uid", fingerprint.map_or("unknown", |text| clip(text, MAX_TEXT)));
        });
    }
    o.text("severity", severity.caption());
    o.number("severity_id", severity.id());
    o.object("src_endpoint", |o| match event.client_address {
        Some(ClientAddress::Tcp(address)) => {
            o.plain("ip", address.ip().to_canonical());
            o.number("port", u64::from(address.port()));
        }
        Some(ClientAddress::Unix) => o.text("name", "unix"),
        None if event.personal.is_some() => o.text("name", "sealed"),
        None => o.text("svc_name", "hedgerow"),
    });
    o.text("status", view.status.1);
    o.maybe("status_code", short(event.result_code));
    if let Some(code) = event.code {
        o.text("status_detail", &format!("{code}: {}", code.reason()));
    }
    o.number("status_id", view.status.0);
    o.number("time", u64::try_from(event.time.as_millisecond()).unwrap_or(0));
    o.text("type_name", &format!("Datastore Activity: {}", view.activity.1));
    o.number("type_uid", 600_500 + view.activity.0);
}

fn actor(o: &mut Object<'_>, event: &Fields<'_>) {
    o.maybe("app_name", short(event.application_name));
    o.text("invoked_by", event.engine.word());
    if event.session.is_some() || event.issuer.is_some() || event.token_id.is_some() {
        o.object("session", |o| {
            o.maybe("credential_uid", short(event.token_id));
            o.maybe("issuer", short(event.issuer));
            o.maybe("uid", short(event.session));
        });
    }
    if event.subject.is_some() || event.client_user.is_some() {
        o.object("user", |o| {
            o.maybe("name", short(event.client_user));
            o.maybe("uid", short(event.subject));
        });
    }
}

fn destination(o: &mut Object<'_>, upstream: &str, engine: Engine) {
    let upstream = clip(upstream, MAX_TEXT);
    let (host, port) = match upstream.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok()),
        None => (upstream, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => o.plain("ip", ip),
        Err(_) if !host.is_empty() => o.text("hostname", host),
        Err(_) => {}
    }
    o.maybe_number("port", port.map(u64::from));
    o.text("svc_name", engine.word());
}

/// `unmapped.hedgerow`: everything that the contract names, flat, but for the statement, which is
/// in `query_info.query_string`.
fn own_fields(
    o: &mut Object<'_>,
    view: &View<'_>,
    event: &Fields<'_>,
    extra: &Extra<'_>,
    chain: &str,
    sequence: u64,
) {
    o.maybe("application_name", short(event.application_name));
    o.maybe_number("bytes_billed", event.bytes_billed);
    o.maybe_number("catalog_epoch", event.catalog_epoch.map(|epoch| epoch.0));
    o.text("chain", chain);
    if let Extra::Checkpoint(checkpoint) = extra {
        o.object("checkpoint", |o| checkpoint_fields(o, checkpoint));
    }
    match event.client_address {
        Some(ClientAddress::Tcp(address)) => o.plain("client_address", address),
        Some(ClientAddress::Unix) => o.text("client_address", "unix"),
        None => {}
    }
    o.maybe("client_user", short(event.client_user));
    o.maybe("code", event.code.map(DenialCode::code));
    o.maybe("database", short(event.database));
    o.text("decision", event.decision.word());
    o.maybe_number("duration_us", event.duration.map(|d| saturate(d.as_micros())));
    o.text("engine", event.engine.word());
    o.maybe("fingerprint", short(event.fingerprint));
    if let Some(gap) = event.gap {
        o.object("gap", |o| {
            o.maybe_number("last_good_sequence", gap.last_good_sequence);
            o.number("lost", gap.lost);
            o.number("refused", gap.refused);
            o.maybe("side_file", gap.side_file.as_deref());
            o.number("torn_bytes", gap.torn_bytes);
        });
    }
    o.maybe("issuer", short(event.issuer));
    o.text("kind", view.kind);
    o.maybe("object", short(event.object));
    if let Some(sealed) = event.personal {
        o.object("personal", |o| {
            o.text("key_id", &sealed.key_id);
            o.text("sealed", &sealed.text);
        });
    }
    o.maybe_number("policy_epoch", event.policy_epoch.map(|epoch| epoch.0));
    o.maybe("reason", event.code.map(DenialCode::reason));
    if !event.relations.is_empty() {
        o.objects("relations", event.relations.iter().take(MAX_RELATIONS), |o, used| {
            o.text("relation", clip(&used.relation, MAX_TEXT));
            o.text("rule", clip(&used.rule, MAX_TEXT));
        });
    }
    if event.relations.len() > MAX_RELATIONS {
        o.number("relations_total", saturate(event.relations.len() as u128));
    }
    o.maybe("result_code", short(event.result_code));
    if let Extra::Retention { through_segment } = extra {
        o.object("retention", |o| o.number("through_segment", *through_segment));
    }
    o.maybe_number("rows", event.rows);
    o.number("sequence", sequence);
    o.maybe("session", short(event.session));
    o.maybe("statement_kind", event.statement_kind);
    if view.statement_truncated {
        o.flag("statement_truncated", true);
    }
    o.maybe("subject", short(event.subject));
    o.maybe("tenant", short(event.tenant));
    o.plain("time", format_args!("{:.6}", event.time));
    o.maybe("token_id", short(event.token_id));
    o.maybe("upstream", short(event.upstream));
}

fn checkpoint_fields(o: &mut Object<'_>, checkpoint: &Checkpoint) {
    o.number("count", checkpoint.count);
    o.number("first_sequence", checkpoint.first_sequence);
    o.text("key_id", &checkpoint.key_id);
    o.text("last_hash", checkpoint.last_hash.hex().as_str());
    o.number("last_sequence", checkpoint.last_sequence);
    let previous = checkpoint.previous_checkpoint.map(|hash| hash.to_string());
    o.maybe("previous_checkpoint", previous.as_deref());
    o.flag("recovered", checkpoint.recovered);
    o.number("segment", checkpoint.segment);
}

/// The longest prefix of at most `limit` bytes that ends between characters.
fn clip(text: &str, limit: usize) -> &str {
    if text.len() <= limit { text } else { text.split_at(text.floor_char_boundary(limit)).0 }
}

/// A text within its limit.
fn short(text: Option<&str>) -> Option<&str> {
    text.map(|text| clip(text, MAX_TEXT))
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::{ClientAddress, Gap, RelationRule, Severity};
    use crate::error::Denial;
    use crate::ids::{CatalogEpoch, PolicyEpoch, RecordId};
    use proptest::option::of;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::sync::Arc;
    use std::time::Duration;

    const CHAIN: &str = "01934f5e-0000-7000-8000-000000000000";

    fn validator() -> jsonschema::Validator {
        let schema: Value =
            serde_json::from_str(include_str!("../../schemas/audit.schema.json")).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    }

    fn assert_valid(validator: &jsonschema::Validator, line: &[u8]) {
        let record: Value = serde_json::from_slice(line).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&record)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{record:#}");
        assert_eq!(serde_json_canonicalizer::to_vec(&record).unwrap(), line, "canonical form");
    }

    fn tip() -> Tip {
        Tip { sequence: 6, hash: RecordHash::of(&[b"x"]), uid: RecordId::fresh().to_string() }
    }

    fn text() -> impl Strategy<Value = Option<Arc<str>>> {
        of("\\PC{0,20}|[\\x00-\\x7f]{0,20}").prop_map(|text| text.map(Arc::from))
    }

    fn kind() -> impl Strategy<Value = Kind> {
        proptest::sample::select(vec![
            Kind::Statement,
            Kind::Authentication,
            Kind::PolicyChange,
            Kind::Lifecycle,
            Kind::Egress,
        ])
    }

    fn decision() -> impl Strategy<Value = Decision> {
        proptest::sample::select(vec![
            Decision::Allow,
            Decision::Rewrite,
            Decision::WouldDeny,
            Decision::Error,
        ])
    }

    fn address() -> impl Strategy<Value = ClientAddress> {
        prop_oneof![
            Just(ClientAddress::Unix),
            any::<std::net::SocketAddr>().prop_map(ClientAddress::Tcp)
        ]
    }

    prop_compose! {
        fn event()(
            kind in kind(), decision in decision(), code in of(proptest::sample::select(DenialCode::ALL)),
            texts in proptest::collection::vec(text(), 13), upstream in of("[a-z.:\\[\\]0-9]{1,20}"),
            statement_kind in of(proptest::sample::select(vec!["select", "delete", "set", "copy"])),
            address in of(address()), numbers in proptest::collection::vec(of(any::<u64>()), 5),
            relations in proptest::collection::vec(("\\PC{0,9}", "\\PC{0,9}"), 0..4),
        ) -> Event {
            let mut event = Event::at(
                RecordId::fresh(), jiff::Timestamp::from_second(1_800_000_000).unwrap(),
                kind, decision, Engine::Postgres,
            );
            if let Some(code) = code {
                event = event.denied(&Denial::of(code, "thing"));
            }
            let mut texts = texts.into_iter();
            for slot in [
                &mut event.object, &mut event.tenant, &mut event.subject, &mut event.issuer,
                &mut event.token_id, &mut event.application_name, &mut event.client_user,
                &mut event.database, &mut event.fingerprint, &mut event.statement,
                &mut event.result_code, &mut event.session, &mut event.message,
            ] {
                *slot = texts.next().flatten();
            }
            event.upstream = upstream.map(Arc::from);
            event.client_address = address;
            event.statement_kind = statement_kind;
            event.policy_epoch = numbers[0].map(PolicyEpoch);
            event.catalog_epoch = numbers[1].map(CatalogEpoch);
            event.rows = numbers[2];
            event.duration = numbers[3].map(Duration::from_micros);
            event.bytes_billed = numbers[4];
            event.relations = relations
                .into_iter()
                .map(|(relation, rule)| RelationRule { relation: relation.into(), rule: rule.into() })
                .collect();
            event
        }
    }

    #[test]
    fn records_of_any_content_fit_the_schema_and_are_canonical() {
        let validator = validator();
        proptest!(|(event in event())| {
            let previous = tip();
            assert_valid(&validator, &render(&event, &Extra::None, CHAIN, Some(&previous), |_| String::new()).line);
        });
    }

    #[test]
    fn the_writers_own_records_fit_the_schema() {
        let validator = validator();
        let sign = |_: &RecordHash| format!("{}==", "A".repeat(86));
        let event = Event::now(Kind::Lifecycle, Decision::Allow, Engine::Hedgerow);
        let first = render(&event, &Extra::None, CHAIN, None, sign);
        assert_valid(&validator, &first.line);
        let checkpoint = Checkpoint {
            segment: 1,
            first_sequence: 1,
            last_sequence: 6,
            count: 6,
            last_hash: tip().hash,
            previous_checkpoint: None,
            key_id: "0123456789abcdef".to_owned(),
            recovered: false,
        };
        let extra = Extra::Checkpoint(&checkpoint);
        assert_valid(&validator, &render(&event, &extra, CHAIN, Some(&tip()), sign).line);
        let extra = Extra::Retention { through_segment: 4 };
        assert_valid(&validator, &render(&event, &extra, CHAIN, Some(&tip()), sign).line);
        let mut sealed = Event::now(Kind::Statement, Decision::Allow, Engine::Postgres);
        sealed.personal = Some(crate::audit::personal::Sealed {
            key_id: RecordId::fresh().to_string().into(),
            text: "c2VhbGVk".to_owned(),
        });
        assert_valid(&validator, &render(&sealed, &Extra::None, CHAIN, Some(&tip()), sign).line);
        let mut gap = Event::now(Kind::Gap, Decision::Error, Engine::Hedgerow);
        gap.gap = Some(Gap { side_file: Some("side".to_owned()), ..Gap::default() });
        assert_valid(&validator, &render(&gap, &Extra::None, CHAIN, Some(&tip()), sign).line);
    }

    #[test]
    fn the_schema_is_strict() {
        let validator = validator();
        let event = crate::audit::tests::denial();
        let line = render(&event, &Extra::None, CHAIN, Some(&tip()), |_| String::new()).line;
        let good: Value = serde_json::from_slice(&line).unwrap();
        assert!(validator.is_valid(&good));
        for (pointer, wrong) in [
            ("/class_uid", Value::from(6003)),
            ("/action_id", Value::from(1)),
            ("/type_uid", Value::from(600_501)),
            ("/time", Value::from("now")),
            ("/unmapped/hedgerow/decision", Value::from("maybe")),
            ("/unmapped/hedgerow/code", Value::from("1003")),
            ("/unmapped/attestation_list/0/fingerprint/value", Value::from("00")),
            ("/metadata/version", Value::from("1.7.0")),
        ] {
            let mut record = good.clone();
            *record.pointer_mut(pointer).unwrap() = wrong;
            assert!(!validator.is_valid(&record), "{pointer}");
        }
        for parent in ["", "/actor", "/metadata", "/unmapped", "/unmapped/hedgerow"] {
            let mut record = good.clone();
            let object = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            object.insert("surprise".to_owned(), Value::Null);
            assert!(!validator.is_valid(&record), "unknown field in {parent:?}");
        }
    }

    #[test]
    fn long_texts_are_cut_and_the_record_says_so() {
        let mut event = crate::audit::tests::statement();
        event.statement = Some("é".repeat(MAX_STATEMENT).into());
        event.application_name = Some("x".repeat(1 << 20).into());
        let used = event.relations[0].clone();
        event.relations = std::iter::repeat_n(used, 1_000).collect();
        let rendered = render(&event, &Extra::None, CHAIN, Some(&tip()), |_| String::new());
        assert_valid(&validator(), &rendered.line);
        let record: Value = serde_json::from_slice(&rendered.line).unwrap();
        assert_eq!(record["unmapped"]["hedgerow"]["statement_truncated"], true);
        assert_eq!(record["unmapped"]["hedgerow"]["relations_total"], 1_000);
        assert!(rendered.line.len() < 100_000);
    }

    #[test]
    fn severity_and_disposition_follow_from_the_decision() {
        let mut event = crate::audit::tests::denial();
        assert_eq!(event.effective_severity(), Severity::Medium);
        event.code = Some(DenialCode::WriteOutsideTenant);
        assert_eq!(event.effective_severity(), Severity::High);
        assert_eq!(disposition(&event.fields()), (2, "Blocked"));
        event.kind = Kind::Authentication;
        assert_eq!(disposition(&event.fields()), (26, "Unauthorized"));
        event.kind = Kind::Egress;
        assert_eq!(event.effective_severity(), Severity::Critical);
    }
}
