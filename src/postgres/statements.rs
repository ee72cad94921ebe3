//! What is prepared on one backend. Layer 5; pure.
//!
//! Backends that many clients share know a statement by a name that Hedgerow makes of its content, so
//! that all clients who prepare the same text share it, and no client can name another's. A backend
//! that is one client's own knows the client's names.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::sql::{Guarded, TokenScope};

/// Most statements that one shared backend holds; beyond, the one that was not used for longest is
/// closed.
pub(super) const MAX_HELD: usize = 400;

/// What the names begin with that shared backends know statements by.
pub(super) const SHARED_NAMES: &str = "hedgerow_";

/// A text that is prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// A checked statement.
    Checked(Guarded),
    /// The empty statement.
    Nothing,
    /// In place of a token: a setting that is so already.
    Token(TokenScope),
    /// In place of DEALLOCATE of a name that only Hedgerow knows.
    Forget,
}

/// All that tells one prepared statement from another.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) text: Text,
    /// Count and OIDs of the parameter types, as the client sent them.
    pub(super) types: Box<[u8]>,
    /// The columns of its relations when it was decided: another shape is another statement.
    shape: u64,
    /// Found when it is asked for: an unnamed statement has no use for it.
    shared_name: OnceLock<Arc<str>>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        // The name follows from the rest.
        self.text == other.text && self.types == other.types && self.shape == other.shape
    }
}

impl Eq for Content {}

impl Content {
    pub(super) fn new(text: Text, types: &[u8], shape: u64) -> Arc<Self> {
        Arc::new(Self { text, types: types.into(), shape, shared_name: OnceLock::new() })
    }

    /// Its name on backends that clients share.
    pub(super) fn shared_name(&self) -> &Arc<str> {
        self.shared_name.get_or_init(|| shared_name(&self.text, &self.types, self.shape))
    }
}

/// SECURITY: not to be guessed, for a client may try names in SQL; and the same for the same content
/// only, for it stands for the content.
fn shared_name(text: &Text, types: &[u8], shape: u64) -> Arc<str> {
    static SECRET: LazyLock<[u8; 16]> = LazyLock::new(|| *Uuid::new_v4().as_bytes());
    let (kind, words) = match text {
        Text::Checked(guarded) => (0, guarded.text()),
        Text::Nothing => (1, ""),
        Text::Token(TokenScope::Session) => (2, ""),
        Text::Token(TokenScope::Transaction) => (3, ""),
        Text::Forget => (4, ""),
        Text::Token(TokenScope::Reset) => (5, ""),
    };
    let mut hasher = Sha256::new();
    hasher.update(*SECRET);
    hasher.update([kind]);
    hasher.update(shape.to_be_bytes());
    hasher.update(types.len().to_be_bytes());
    hasher.update(types);
    hasher.update(words);
    let mut name = String::with_capacity(41);
    name.push_str(SHARED_NAMES);
    for byte in hasher.finalize().iter().take(16) {
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    name.into()
}

/// Whether a backend has been told of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// It has it.
    Same,
    /// It was sent it, in a part of the pipeline that may come to nothing.
    Doubtful,
    /// It has not, under this name.
    Other,
}

/// How sure it is that the server has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Confirmed,
    /// Sent in this segment of the pipeline, which an error may cut short.
    Sent {
        segment: u64,
    },
    /// The server refused to run it.
    Doubted,
}

struct Held {
    content: Arc<Content>,
    standing: Standing,
    used: u64,
}

/// The prepared statements of one backend, by the names that it knows them by.
#[derive(Default)]
pub(super) struct Statements {
    held: HashMap<Arc<str>, Held>,
    uses: u64,
}

impl Statements {
    /// Whether the backend has `content` under `name`, as seen from a segment of the pipeline.
    pub(super) fn holding(&mut self, name: &str, content: &Arc<Content>, segment: u64) -> Holding {
        self.uses = self.uses.wrapping_add(1);
        let Some(held) = self.held.get_mut(name) else { return Holding::Other };
        if !Arc::ptr_eq(&held.content, content) && held.content != *content {
            return Holding::Other;
        }
        held.used = self.uses;
        match held.standing {
            Standing::Confirmed => Holding::Same,
            Standing::Sent { segment: sent } if sent == segment => Holding::Same,
            Standing::Sent { .. } | Standing::Doubted => Holding::Doubtful,
        }
    }

    /// Whether it was sent any statement of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.held.contains_key(name)
    }

    /// Notes that a statement is sent.
    pub(super) fn sent(&mut self, name: &Arc<str>, content: &Arc<Content>, segment: u64) {
        self.uses = self.uses.wrapping_add(1);
        let held = Held {
            content: Arc::clone(content),
            standing: Standing::Sent { segment },
            used: self.uses,
        };
        self.held.insert(Arc::clone(name), held);
    }

    /// The name to close so that there is room for one more.
    pub(super) fn to_evict(&self) -> Option<Arc<str>> {
        if self.held.len() < MAX_HELD {
            return None;
        }
        let named = self.held.iter().filter(|(name, _)| !name.is_empty());
        named.min_by_key(|(_, held)| held.used).map(|(name, _)| Arc::clone(name))
    }

    /// The server said ParseComplete.
    pub(super) fn confirm(&mut self, name: &str) {
        if let Some(held) = self.held.get_mut(name) {
            held.standing = Standing::Confirmed;
        }
    }

    /// The server did not prepare it, or closes it.
    pub(super) fn forget(&mut self, name: &str) {
        self.held.remove(name);
    }

    /// The server would not run it as it is: it is prepared anew before the next use.
    pub(super) fn doubt(&mut self, name: &str) {
        if let Some(held) = self.held.get_mut(name) {
            held.standing = Standing::Doubted;
        }
    }

    /// DEALLOCATE ALL, DISCARD ALL.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(text: &str, types: &[u8]) -> Arc<Content> {
        Content::new(Text::Checked(Guarded::for_test(text)), types, 0)
    }

    #[test]
    fn a_shared_name_stands_for_text_types_and_shape() {
        let name = |text: &str, types: &[u8]| Arc::clone(content(text, types).shared_name());
        assert_eq!(name("SELECT 1", b"\0\0"), name("SELECT 1", b"\0\0"));
        assert_ne!(name("SELECT 1", b"\0\0"), name("SELECT 2", b"\0\0"));
        assert_ne!(name("SELECT 1", b"\0\0"), name("SELECT 1", b"\0\x01\0\0\0\x17"));
        assert_ne!(name("b", b"\0\0a"), name("ab", b"\0\0"));
        let shaped = Content::new(Text::Checked(Guarded::for_test("SELECT 1")), b"\0\0", 1);
        assert_ne!(name("SELECT 1", b"\0\0"), *shaped.shared_name());
        assert!(name("", b"").len() < 64, "NAMEDATALEN");
    }

    #[test]
    fn what_an_earlier_part_of_the_pipeline_sent_is_doubtful_until_confirmed() {
        let (mut statements, one) = (Statements::default(), content("SELECT 1", b""));
        assert_eq!(statements.holding("s", &one, 1), Holding::Other);
        statements.sent(&"s".into(), &one, 1);
        assert_eq!(statements.holding("s", &one, 1), Holding::Same);
        assert_eq!(statements.holding("s", &one, 2), Holding::Doubtful);
        assert_eq!(statements.holding("s", &content("SELECT 2", b""), 1), Holding::Other);
        statements.confirm("s");
        assert_eq!(statements.holding("s", &one, 2), Holding::Same);
        statements.doubt("s");
        assert_eq!(statements.holding("s", &one, 2), Holding::Doubtful);
        statements.forget("s");
        assert_eq!(statements.holding("s", &one, 2), Holding::Other);
    }

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let mut statements = Statements::default();
        let mut all = Vec::new();
        for number in 0..MAX_HELD {
            assert_eq!(statements.to_evict(), None);
            all.push(content(&number.to_string(), b""));
            statements.sent(&number.to_string().into(), &all[number], 1);
        }
        statements.holding("0", &all[0], 1);
        assert_eq!(statements.to_evict().as_deref(), Some("1"));
    }
}
