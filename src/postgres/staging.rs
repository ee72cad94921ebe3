//! A COPY whose rows go by way of a temporary table: the statements around it, and what the server
//! answers to them. Layer 5; pure.
//!
//! The client sent one statement and hears of one: CopyInResponse in the middle, and at the end a tag with
//! the number of rows that the last statement but one took in. INVARIANT: no tag is given before all four
//! statements are over.

use std::collections::VecDeque;

use super::copy_in::copy_of;
use super::requests::Form;
use crate::sql::Kind;
use crate::sql::copy::{STAGING_TABLE, Staged};
use crate::wire::backend::{command_rows, tag};
use crate::wire::error_fields::{ErrorFields, field};

/// One answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// CloseComplete, ParseComplete or BindComplete of a statement of Hedgerow's own.
    Step(u8),
    /// CommandComplete: the table is there.
    Made,
    /// CopyInResponse.
    Rows,
    /// CommandComplete: all rows are in it.
    Copied,
    /// CommandComplete: this many rows were taken from it.
    Taken,
    /// CommandComplete: it is gone.
    Dropped,
}

/// What in the extended protocol is due in front of a statement's own answer: see
/// [`super::outbox::Outbox::aside`].
const STEPS: [Due; 4] = [
    Due::Step(tag::CLOSE_COMPLETE),
    Due::Step(tag::CLOSE_COMPLETE),
    Due::Step(tag::PARSE_COMPLETE),
    Due::Step(tag::BIND_COMPLETE),
];

/// What an answer means for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is none of its business.
    Nothing,
    /// Its rows are taken now.
    Begins,
    /// The COPY is over, with so many rows.
    Over(u64),
    /// The server says what it was not asked.
    OutOfOrder,
}

/// How far such a COPY has come.
#[derive(Debug)]
pub(super) struct Staging {
    due: VecDeque<Due>,
    rows: u64,
}

impl Staging {
    /// For a statement that is about to run, if it is such a COPY.
    pub(super) fn of(kind: &Kind, form: Form) -> Option<Box<Self>> {
        copy_of(kind)?.staged()?;
        let mut due = VecDeque::new();
        for own in [&[Due::Made][..], &[Due::Rows, Due::Copied], &[Due::Taken], &[Due::Dropped]] {
            if form == Form::Extended && !own.contains(&Due::Rows) {
                due.extend(STEPS);
            }
            due.extend(own);
        }
        Some(Box::new(Self { due, rows: 0 }))
    }

    /// Whether the table is still to be made.
    pub(super) fn is_to_be_made(&self) -> bool {
        self.due.contains(&Due::Made)
    }

    /// Takes an answer; `None` for what is no answer to a statement (an error, a notice, …).
    pub(super) fn hear(&mut self, heard: u8, body: &[u8]) -> Option<Heard> {
        let answers = matches!(
            heard,
            tag::PARSE_COMPLETE
                | tag::BIND_COMPLETE
                | tag::CLOSE_COMPLETE
                | tag::COMMAND_COMPLETE
                | tag::COPY_IN_RESPONSE
                | tag::EMPTY_QUERY_RESPONSE
                | tag::PORTAL_SUSPENDED
                | tag::NO_DATA
                | tag::ROW_DESCRIPTION
                | tag::DATA_ROW
                | tag::COPY_OUT_RESPONSE
        );
        if !answers {
            return None;
        }
        Some(match (self.due.pop_front(), heard) {
            (Some(Due::Step(due)), step) if due == step => Heard::Nothing,
            (Some(Due::Made | Due::Copied), tag::COMMAND_COMPLETE) => Heard::Nothing,
            (Some(Due::Rows), tag::COPY_IN_RESPONSE) => Heard::Begins,
            (Some(Due::Taken), tag::COMMAND_COMPLETE) => match command_rows(body) {
                Some(rows) => {
                    self.rows = rows;
                    Heard::Nothing
                }
                None => Heard::OutOfOrder,
            },
            (Some(Due::Dropped), tag::COMMAND_COMPLETE) => Heard::Over(self.rows),
            (Some(_) | None, _) => Heard::OutOfOrder,
        })
    }
}

/// An error names the client's table, `own`, and not the one that its rows go through.
pub(super) fn use_clients_table(fields: &mut ErrorFields<'_>, own: Option<&[String]>) {
    let own = own.and_then(<[_]>::last);
    for code in [field::MESSAGE, field::DETAIL, field::HINT, field::CONTEXT] {
        let text = fields.text(code);
        if !text.contains(STAGING_TABLE) {
            continue;
        }
        match own {
            Some(own) => {
                let text = text.replace(STAGING_TABLE, own);
                fields.set(code, text);
            }
            None if code == field::MESSAGE => fields.set(code, "COPY failed"),
            None => fields.remove(code),
        }
    }
    if fields.text(field::TABLE) == STAGING_TABLE {
        fields.remove(field::TABLE);
        fields.remove(field::SCHEMA);
    }
}

/// The statements around a COPY, if it has some.
pub(super) fn staged_of(kind: &Kind) -> Option<&Staged> {
    copy_of(kind).and_then(|copy| copy.staged())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::copy_format::CopyFormat;
    use crate::error::SqlState;
    use crate::sql::Guarded;
    use crate::sql::copy::{CopyIn, CopyWay};
    use crate::wire::error_fields::Severity;

    fn kind(staged: bool) -> Kind {
        let text = || Guarded::for_test("");
        let staged = staged.then(|| Staged { make: text(), take: text(), drop: text() });
        let way = staged.map_or(CopyWay::Copy, |staged| CopyWay::Staged(Box::new(staged)));
        let format = CopyFormat::Binary;
        Kind::CopyIn(Arc::new(CopyIn { columns: Vec::new(), tenant: None, format, way }))
    }

    #[test]
    fn an_error_names_the_clients_table() {
        let fields = |text: &'static str| {
            let mut fields = ErrorFields::new(Severity::Error, SqlState("57014"), "x");
            fields.set(field::CONTEXT, text);
            fields.set(field::TABLE, STAGING_TABLE);
            fields.set(field::SCHEMA, "pg_temp_3");
            fields
        };
        let mut named = fields("COPY hedgerow_copy, line 2");
        use_clients_table(&mut named, Some(&["public".to_owned(), "orders".to_owned()]));
        assert_eq!(named.text(field::CONTEXT), "COPY orders, line 2");
        assert_eq!((named.text(field::TABLE), named.text(field::SCHEMA)), ("", ""));
        let mut unnamed = fields("COPY hedgerow_copy, line 2");
        use_clients_table(&mut unnamed, None);
        assert_eq!(unnamed.text(field::CONTEXT), "");
    }

    #[test]
    fn the_client_hears_of_its_own_statement_only() {
        let mut staging = Staging::of(&kind(true), Form::Query).unwrap();
        let heard = [
            (tag::COMMAND_COMPLETE, &b"CREATE TABLE\0"[..]),
            (tag::COPY_IN_RESPONSE, b""),
            (tag::COMMAND_COMPLETE, b"COPY 3\0"),
            (tag::COMMAND_COMPLETE, b"INSERT 0 2\0"),
            (tag::COMMAND_COMPLETE, b"DROP TABLE\0"),
        ]
        .map(|(tag, body)| staging.hear(tag, body).unwrap());
        let nothing = Heard::Nothing;
        assert_eq!(heard, [nothing, Heard::Begins, nothing, nothing, Heard::Over(2)]);
        assert_eq!(staging.hear(tag::COMMAND_COMPLETE, b"COPY 1\0"), Some(Heard::OutOfOrder));
    }

    #[test]
    fn in_the_extended_protocol_each_step_is_awaited() {
        let mut staging = Staging::of(&kind(true), Form::Extended).unwrap();
        let steps = [
            tag::CLOSE_COMPLETE,
            tag::CLOSE_COMPLETE,
            tag::PARSE_COMPLETE,
            tag::BIND_COMPLETE,
            tag::COMMAND_COMPLETE,
        ];
        let rows = |heard| if heard == tag::COMMAND_COMPLETE { &b"INSERT 0 7\0"[..] } else { b"" };
        for step in steps {
            assert_eq!(staging.hear(step, rows(step)), Some(Heard::Nothing));
        }
        assert!(!staging.is_to_be_made());
        assert_eq!(staging.hear(tag::NOTICE_RESPONSE, b""), None);
        assert_eq!(staging.hear(tag::COPY_IN_RESPONSE, b""), Some(Heard::Begins));
        assert_eq!(staging.hear(tag::COMMAND_COMPLETE, b"COPY 7\0"), Some(Heard::Nothing));
        for step in steps {
            assert_eq!(staging.hear(step, rows(step)), Some(Heard::Nothing));
        }
        let heard = steps.map(|step| staging.hear(step, rows(step)).unwrap());
        assert_eq!(heard[4], Heard::Over(7));
    }

    #[test]
    fn what_is_not_due_is_out_of_order() {
        assert!(Staging::of(&kind(false), Form::Query).is_none());
        assert!(Staging::of(&Kind::Insert, Form::Query).is_none());
        for (heard, body) in [
            (tag::COPY_IN_RESPONSE, &b""[..]),
            (tag::PARSE_COMPLETE, b""),
            (tag::DATA_ROW, b""),
            (tag::EMPTY_QUERY_RESPONSE, b""),
        ] {
            let mut staging = Staging::of(&kind(true), Form::Query).unwrap();
            assert_eq!(staging.hear(heard, body), Some(Heard::OutOfOrder), "{heard}");
        }
    }
}
