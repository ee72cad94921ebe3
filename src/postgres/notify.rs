//! NotificationResponse: the channel's name is the client's again; what is not its tenant's stays here.
//! Layer 5.

use std::collections::HashMap;

use super::answer::End;
use super::session::Link;
use crate::sql::channel::{Channels, Heard, MAX_PLAIN};
use crate::wire::{Frame, backend};

/// Most names over [`MAX_PLAIN`] bytes that a session may listen to.
const MAX_LONG_NAMES: usize = 1000;

/// Names that a session listens to and that are too long to be read back, by their names upstream.
#[derive(Default)]
pub(super) struct LongNames(HashMap<String, String>);

impl Link {
    /// The session listens to a channel from now on.
    pub(super) fn listens(&mut self, name: &str) {
        let Some(own) = self.channels() else { return };
        if name.len() > MAX_PLAIN && self.long_names.0.len() < MAX_LONG_NAMES {
            self.long_names.0.insert(own.upstream(name), name.to_owned());
        }
    }

    /// Passes a notification on.
    ///
    /// SECURITY: the tenant that counts is the one of now. A registration that an earlier identity of
    /// the session left with the backend is heard by nobody.
    pub(super) fn notified(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let Ok((process, upstream, payload)) = backend::read_notification(frame.body()) else {
            return Err(self.out_of_order());
        };
        let heard = self.channels().and_then(|own| match own.read(upstream)? {
            Heard::Plain(name) => Some(name.to_owned()),
            Heard::Hashed => self.long_names.0.get(upstream).cloned(),
        });
        match heard {
            Some(name) => backend::notification(&mut self.to_client, process, &name, payload),
            None => {
                metrics::counter!("hedgerow_notifications_dropped_total").increment(1);
            }
        }
        Ok(())
    }

    fn channels(&self) -> Option<Channels> {
        self.judge.viewpoint.principal().tenant.as_ref().map(Channels::of)
    }
}
