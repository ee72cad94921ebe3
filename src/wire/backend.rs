//! What a server sends: tags, the encoders for what Hedgerow answers itself or sends upstream, and
//! the few decoders for replies that it looks at. Layer 1.

use bytes::{BufMut, BytesMut};

use super::reader::{DecodeFault, Reader};
use super::startup::ProtocolVersion;

/// Message types of a server.
pub mod tag {
    /// Authentication…
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN_RESPONSE: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    /// ErrorResponse
    pub const ERROR_RESPONSE: u8 = b'E';
    /// NegotiateProtocolVersion
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    /// ParameterDescription
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The transaction status of a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: outside a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl TransactionStatus {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    /// Reads the body of a ReadyForQuery.
    ///
    /// # Errors
    /// [`DecodeFault`].
    pub fn decode(body: &[u8]) -> Result<Self, DecodeFault> {
        let mut reader = Reader::new(body);
        let status = reader.byte()?;
        reader.end()?;
        match status {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::InTransaction),
            b'E' => Ok(Self::Failed),
            _ => Err(DecodeFault::Field),
        }
    }
}

/// Appends a frame whose body `write` appends. Bodies are ours and far below two gigabytes.
pub fn frame(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    counted(out, write);
}

/// Appends a length and what `write` appends: a frame without a tag.
pub(super) fn counted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    write(out);
    let length = i32::try_from(out.len().saturating_sub(start)).unwrap_or(i32::MAX);
    if let Some(space) = out.get_mut(start..start.saturating_add(4)) {
        space.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends text and its NUL. What stands behind a NUL within the text is left out: it would be read
/// as the next field.
pub fn c_str(out: &mut BytesMut, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut BytesMut, status: TransactionStatus) {
    frame(out, tag::READY_FOR_QUERY, |body| body.put_u8(status.byte()));
}

/// CommandComplete.
pub fn command_complete(out: &mut BytesMut, command: &str) {
    frame(out, tag::COMMAND_COMPLETE, |body| c_str(body, command));
}

/// ParseComplete, BindComplete, CloseComplete, NoData: by their tag, for they hold nothing.
pub fn bare(out: &mut BytesMut, tag: u8) {
    frame(out, tag, |_empty| {});
}

/// ParameterDescription of a statement without parameters.
pub fn no_parameters(out: &mut BytesMut) {
    frame(out, tag::PARAMETER_DESCRIPTION, |body| body.put_i16(0));
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    frame(out, tag::AUTHENTICATION, |body| body.put_i32(0));
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut BytesMut) {
    frame(out, tag::AUTHENTICATION, |body| body.put_i32(3));
}

/// AuthenticationSASL: the mechanisms that are offered.
pub fn authentication_sasl(out: &mut BytesMut, mechanisms: &[&str]) {
    frame(out, tag::AUTHENTICATION, |body| {
        body.put_i32(10);
        for mechanism in mechanisms {
            c_str(body, mechanism);
        }
        body.put_u8(0);
    });
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut BytesMut, data: &[u8]) {
    frame(out, tag::AUTHENTICATION, |body| {
        body.put_i32(11);
        body.put_slice(data);
    });
}

/// ParameterStatus.
pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, tag::PARAMETER_STATUS, |body| {
        c_str(body, name);
        c_str(body, value);
    });
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut BytesMut, process: i32, secret: &[u8]) {
    frame(out, tag::BACKEND_KEY_DATA, |body| {
        body.put_i32(process);
        body.put_slice(secret);
    });
}

/// NegotiateProtocolVersion: the version that will be spoken, and the `_pq_.` options not known.
pub fn negotiate_protocol_version(
    out: &mut BytesMut,
    version: ProtocolVersion,
    unknown_options: &[&str],
) {
    frame(out, tag::NEGOTIATE_PROTOCOL_VERSION, |body| {
        body.put_i32(version.code());
        body.put_i32(i32::try_from(unknown_options.len()).unwrap_or(i32::MAX));
        for option in unknown_options {
            c_str(body, option);
        }
    });
}

/// CopyInResponse: all columns in one format.
pub fn copy_in_response(out: &mut BytesMut, binary: bool, columns: usize) {
    frame(out, tag::COPY_IN_RESPONSE, |body| {
        body.put_u8(u8::from(binary));
        body.put_i16(i16::try_from(columns).unwrap_or(i16::MAX));
        for _ in 0..columns {
            body.put_i16(i16::from(binary));
        }
    });
}

/// NotificationResponse.
pub fn notification(out: &mut BytesMut, process: i32, channel: &str, payload: &str) {
    frame(out, tag::NOTIFICATION_RESPONSE, |body| {
        body.put_i32(process);
        c_str(body, channel);
        c_str(body, payload);
    });
}

/// Reads a NotificationResponse: process, channel, payload.
///
/// # Errors
/// [`DecodeFault`].
pub fn read_notification(body: &[u8]) -> Result<(i32, &str, &str), DecodeFault> {
    let mut reader = Reader::new(body);
    let notification = (reader.int32()?, reader.c_str()?, reader.c_str()?);
    reader.end()?;
    Ok(notification)
}

/// Reads a ParameterStatus: name and value.
///
/// # Errors
/// [`DecodeFault`].
pub fn read_parameter_status(body: &[u8]) -> Result<(&str, &str), DecodeFault> {
    let mut reader = Reader::new(body);
    let status = (reader.c_str()?, reader.c_str()?);
    reader.end()?;
    Ok(status)
}

/// The row count of a CommandComplete's tag (`SELECT 3`, `INSERT 0 1`), if it has one.
pub fn command_rows(body: &[u8]) -> Option<u64> {
    let tag = Reader::new(body).c_str().ok()?;
    tag.rsplit_once(' ')?.1.parse().ok()
}

/// A column of a RowDescription, as far as it tells where its values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowColumn {
    /// OID of the table whose column it plainly is; 0 for an expression.
    pub table: u32,
    /// The column's number in that table; 0 for an expression.
    pub number: i16,
    /// 0 for text, 1 for binary.
    pub format: i16,
}

/// The columns of a RowDescription.
///
/// # Errors
/// When the body is not one.
pub fn row_columns(body: &[u8]) -> Result<Vec<RowColumn>, DecodeFault> {
    let mut reader = Reader::new(body);
    let mut columns = Vec::new();
    for _ in 0..reader.count()? {
        reader.c_bytes()?;
        let table = reader.int32()?.cast_unsigned();
        let number = reader.int16()?;
        // Type OID, type length, type modifier.
        reader.bytes(4 + 2 + 4)?;
        columns.push(RowColumn { table, number, format: reader.int16()? });
    }
    reader.end()?;
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_its_own_length() {
        let mut out = BytesMut::new();
        ready_for_query(&mut out, TransactionStatus::Failed);
        assert_eq!(&out[..], b"Z\0\0\0\x05E");
    }

    #[test]
    fn a_nul_cannot_start_a_new_field() {
        let mut out = BytesMut::new();
        parameter_status(&mut out, "a\0b", "c");
        assert_eq!(&out[..], b"S\0\0\0\x08a\0c\0");
    }

    #[test]
    fn command_tags_give_their_rows() {
        assert_eq!(command_rows(b"SELECT 3\0"), Some(3));
        assert_eq!(command_rows(b"INSERT 0 12\0"), Some(12));
        assert_eq!(command_rows(b"BEGIN\0"), None);
        assert_eq!(command_rows(b"SELECT 3"), None);
    }
}
