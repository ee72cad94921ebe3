//! The ways in which a client may send one statement.

use crate::support::wire::{self, Outcome, WireClient};

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    Simple,
    ExtendedText,
    ExtendedBinary,
    /// SQL's PREPARE and EXECUTE.
    Prepare,
    /// A named statement, parsed once and run three times, each time with a Sync of its own.
    Prepared,
    /// A portal that is read in parts.
    Portal,
    Cursor,
    /// A named statement, run twice in one pipeline (in a transaction that is rolled back).
    Pipeline,
}

impl Delivery {
    pub const ALL: [Self; 8] = [
        Self::Simple,
        Self::ExtendedText,
        Self::ExtendedBinary,
        Self::Prepare,
        Self::Prepared,
        Self::Portal,
        Self::Cursor,
        Self::Pipeline,
    ];

    /// Whether it carries parameters.
    pub const fn has_parameters(self) -> bool {
        !matches!(self, Self::Simple | Self::Cursor)
    }

    /// Sends the statement and collects all that comes back.
    pub fn send(
        self,
        client: &mut WireClient,
        sql: &str,
        parameters: &[String],
        writes: bool,
    ) -> Outcome {
        let values: Vec<Option<&str>> =
            parameters.iter().map(|value| Some(value.as_str())).collect();
        match self {
            Self::Simple => client.query(sql),
            Self::ExtendedText => client.extended(sql, &values),
            Self::ExtendedBinary => {
                let mut bytes = wire::parse("", sql, &[]);
                bytes.extend(binary_bind(&values));
                bytes.extend(wire::describe(b'P', ""));
                bytes.extend(wire::execute("", 0));
                bytes.extend(wire::sync());
                client.send(&bytes);
                client.collect(1)
            }
            Self::Prepare => {
                let mut outcome = client.query(&format!("PREPARE oracle AS {sql}"));
                if outcome.errors().is_empty() {
                    let quoted: Vec<String> =
                        parameters.iter().map(|value| format!("'{value}'")).collect();
                    let arguments = match quoted.as_slice() {
                        [] => String::new(),
                        some => format!(" ({})", some.join(", ")),
                    };
                    outcome = outcome.then(client.query(&format!("EXECUTE oracle{arguments}")));
                    client.query("DEALLOCATE ALL");
                }
                outcome
            }
            Self::Prepared => {
                let mut bytes = wire::parse("again", sql, &[]);
                bytes.extend(wire::describe(b'S', "again"));
                bytes.extend(wire::sync());
                client.send(&bytes);
                let mut outcome = client.collect(1);
                let times =
                    if outcome.errors().is_empty() { if writes { 1 } else { 3 } } else { 0 };
                for _ in 0..times {
                    let mut bytes = wire::bind("", "again", &values);
                    bytes.extend(wire::execute("", 0));
                    bytes.extend(wire::sync());
                    client.send(&bytes);
                    outcome = outcome.then(client.collect(1));
                    if !outcome.errors().is_empty() {
                        break;
                    }
                }
                let mut bytes = wire::close(b'S', "again");
                bytes.extend(wire::sync());
                client.send(&bytes);
                outcome.then(client.collect(1))
            }
            Self::Portal => {
                let mut bytes = wire::parse("", sql, &[]);
                bytes.extend(wire::bind("", "", &values));
                bytes.extend(wire::describe(b'P', ""));
                for rows in [2, 3, 0] {
                    bytes.extend(wire::execute("", rows));
                }
                bytes.extend(wire::sync());
                client.send(&bytes);
                client.collect(1)
            }
            Self::Cursor if !writes => {
                let mut outcome = client.query("BEGIN");
                for text in [
                    format!("DECLARE oracle CURSOR FOR {sql}"),
                    "FETCH 2 FROM oracle".to_owned(),
                    "FETCH ALL FROM oracle".to_owned(),
                ] {
                    outcome = outcome.then(client.query(&text));
                    if !outcome.errors().is_empty() {
                        break;
                    }
                }
                client.query("ROLLBACK");
                outcome
            }
            Self::Cursor => client.query(sql),
            Self::Pipeline => {
                client.query("BEGIN");
                let mut bytes = wire::parse("oracle", sql, &[]);
                for _ in 0..2 {
                    bytes.extend(wire::bind("", "oracle", &values));
                    bytes.extend(wire::describe(b'P', ""));
                    bytes.extend(wire::execute("", 0));
                    if writes {
                        break;
                    }
                }
                bytes.extend(wire::sync());
                client.send(&bytes);
                let outcome = client.collect(1);
                client.query(if writes { "COMMIT" } else { "ROLLBACK" });
                let mut bytes = wire::close(b'S', "oracle");
                bytes.extend(wire::sync());
                client.send(&bytes);
                client.collect(1);
                outcome
            }
        }
    }
}

/// Bind with text parameters and binary results.
fn binary_bind(parameters: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = wire::bind("", "", parameters);
    // The count of result formats is the last field: none becomes one, binary.
    bytes.truncate(bytes.len() - 2);
    bytes.extend([0, 1, 0, 1]);
    let length = (bytes.len() as u32 - 1).to_be_bytes();
    bytes[1..5].copy_from_slice(&length);
    bytes
}
