//! Standard output: the records as they are in the files, one a line. Layer 4.
//!
//! Hedgerow's own log goes to standard error, so that the two never meet. Writing blocks this sink's
//! thread when nobody reads, and nothing else.

use std::io::Write as _;

use super::DeliveryError;
use crate::audit::Batch;

/// Standard output.
#[derive(Debug, Default)]
pub(super) struct Stdout {
    /// Whether a write ended in the middle, as far as we know: then a line end comes first.
    torn: bool,
}

impl Stdout {
    pub(super) fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        let bytes: usize = batch.records.iter().map(|record| record.line.len() + 1).sum();
        let mut text = Vec::with_capacity(bytes + 1);
        if self.torn {
            text.push(b'\n');
        }
        for record in &batch.records {
            text.extend_from_slice(record.line.as_bytes());
            text.push(b'\n');
        }
        self.torn = true;
        let mut output = std::io::stdout().lock();
        output.write_all(&text).and_then(|()| output.flush()).map_err(DeliveryError::new)?;
        self.torn = false;
        Ok(())
    }
}
