//! The request parser as a total function over bytes, for the fuzz target and for the test that
//! replays its seeds. Not part of the API.

use crate::{Limits, ProtocolError, RequestParser, Step};

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// The request parser on a stream: it never points outside what it was given, and the way a stream
/// is cut into pieces never changes what comes out. The first byte: how many bytes arrive at a time
/// (7 bits), and whether the client has not authenticated itself yet (1).
pub fn requests(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let limits = Limits { unauthenticated: first & 128 != 0, ..Limits::default() };
    let whole = feed(stream, stream.len().max(1), &limits);
    let pieces = feed(stream, usize::from(first & 127) + 1, &limits);
    assert_eq!(whole, pieces);
}

fn feed(stream: &[u8], piece: usize, limits: &Limits) -> Outcome {
    let mut parser = RequestParser::new();
    let mut buffer = Vec::new();
    let mut commands = Vec::new();
    for arrived in stream.chunks(piece) {
        buffer.extend_from_slice(arrived);
        loop {
            match parser.parse(&buffer, limits) {
                Ok(Step::Command { consumed }) => {
                    commands.push(parser.args(&buffer).map(<[u8]>::to_vec).collect());
                    assert!(consumed > 0 && consumed <= buffer.len());
                    buffer.drain(..consumed);
                }
                Ok(Step::Incomplete { missing }) => {
                    assert!(missing > 0);
                    break;
                }
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}
