//! Model test: however a stream of requests is cut into pieces, the same commands (or the same
//! error) come out, and they are the ones that went in.

use proptest::prelude::*;
use sluice_resp::{Limits, ProtocolError, RequestParser, Step};

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds `stream` in pieces that end at `cuts`, compacting the buffer as a connection does.
fn feed(stream: &[u8], cuts: &[usize]) -> Outcome {
    let mut parser = RequestParser::new();
    let mut buffer: Vec<u8> = Vec::new();
    let mut commands = Vec::new();
    let mut from = 0;
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    for end in ends {
        buffer.extend_from_slice(&stream[from..end]);
        from = end;
        loop {
            match parser.parse(&buffer, &Limits::default()) {
                Ok(Step::Command { consumed }) => {
                    let args: Vec<Vec<u8>> = parser.args(&buffer).map(<[u8]>::to_vec).collect();
                    assert_eq!(args.len(), parser.arg_count());
                    commands.push(args);
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

fn encode(commands: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut stream = Vec::new();
    for command in commands {
        stream.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
        for arg in command {
            stream.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            stream.extend_from_slice(arg);
            stream.extend_from_slice(b"\r\n");
        }
    }
    stream
}

fn commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let arg = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop::collection::vec(arg, 0..6), 0..8)
}

proptest! {
    #[test]
    fn any_split_gives_the_commands_that_went_in(
        commands in commands(),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let stream = encode(&commands);
        prop_assert_eq!(feed(&stream, &cuts), (commands, None));
    }

    #[test]
    fn any_split_of_junk_gives_the_same_outcome(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"*2\r\n".to_vec()), Just(b"$3\r\nabc\r\n".to_vec()), Just(b"$0\r\n\r\n".to_vec()),
                Just(b"PING \"a b\"\r\n".to_vec()), Just(b"'x\n".to_vec()), Just(b"\r\n".to_vec()),
                prop::collection::vec(any::<u8>(), 0..12),
            ],
            0..12,
        ),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let stream = pieces.concat();
        prop_assert_eq!(feed(&stream, &cuts), feed(&stream, &[]));
    }

    #[test]
    fn one_byte_at_a_time(commands in commands()) {
        let stream = encode(&commands);
        let cuts: Vec<usize> = (0..stream.len()).collect();
        prop_assert_eq!(feed(&stream, &cuts), (commands, None));
    }
}
