//! Any bytes may come from a peer, cut anywhere: the framer gives the same frames however they are
//! cut, loses no byte, and no decoder panics.
#![no_main]

use hedgerow::wire::{ErrorFields, FrameBuffer, FrameFault, Header, Piece, Plan};
use hedgerow::wire::{backend, frontend, startup};
use libfuzzer_sys::fuzz_target;

fn plan(header: Header) -> Result<Plan, FrameFault> {
    match header.tag % 3 {
        0 => Ok(Plan::Whole),
        1 => Ok(Plan::Stream),
        _ => Ok(Plan::Skip),
    }
}

/// All bytes that the framer hands out, and where it stopped.
fn cut(data: &[u8], size: usize) -> (Vec<u8>, usize, Option<FrameFault>) {
    let (mut buffer, mut out, mut frames) = (FrameBuffer::new(), Vec::new(), 0);
    for chunk in data.chunks(size) {
        buffer.space().extend_from_slice(chunk);
        loop {
            match buffer.next(plan) {
                Ok(Some(Piece::Frame(frame))) => {
                    out.extend_from_slice(frame.bytes);
                    frames += 1;
                }
                Ok(Some(Piece::Part { bytes, last, .. })) => {
                    out.extend_from_slice(bytes);
                    frames += usize::from(last);
                }
                Ok(Some(Piece::Skipped(_))) => frames += 1,
                Ok(None) => break,
                Err(fault) => return (out, frames, Some(fault)),
            }
        }
    }
    (out, frames, None)
}

fn decode(body: &[u8]) {
    let _ = frontend::query(body);
    let _ = frontend::Parse::decode(body);
    if let Ok(bind) = frontend::Bind::decode(body) {
        frontend::parameter_values(bind.parameters).for_each(drop);
    }
    let _ = frontend::Target::decode(body);
    let _ = frontend::execute(body);
    let _ = backend::TransactionStatus::decode(body);
    let _ = backend::read_parameter_status(body);
    let _ = backend::command_rows(body);
    let _ = backend::row_formats(body);
    let _ = ErrorFields::decode(body);
    let _ = startup::first_packet_length(body);
    let _ = startup::FirstPacket::decode(body);
    let _ = std::str::from_utf8(body).map(startup::split_options);
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    assert_eq!(cut(data, usize::from(size).max(1)), cut(data, data.len().max(1)));
    decode(data);
});
