//! Any bytes as a segment of the log: the decoder never panics, never shows a byte that is not
//! there, and shows frames in sequence order only.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_base::{FileNo, SeqNo};
use sluice_wal::{DecodeOptions, Ending, decode_segment};

fuzz_target!(|data: &[u8]| {
    // The first byte chooses the segment number, so that both matching and foreign ones come up.
    let Some((&first, bytes)) = data.split_first() else { return };
    let segment = FileNo(u64::from(first & 0x3f));
    for salvage in [false, true] {
        let options = DecodeOptions { salvage, next_seq: SeqNo(u64::from(first >> 6)) };
        let (mut frames, mut next_seq, mut end) = (0, options.next_seq.0, 0);
        let decoded = decode_segment(bytes, segment, options, &mut |frame| {
            let begin = frame.offset as usize + 32;
            assert_eq!(bytes.get(begin..begin + frame.payload.len()), Some(frame.payload));
            assert!(frame.first_seq.0 >= next_seq && frame.offset >= end);
            next_seq = frame.first_seq.0 + u64::from(frame.count);
            end = begin as u64 + frame.payload.len() as u64;
            frames += 1;
            Ok(())
        })
        .expect("the visitor never fails");
        // A seal is not shown, and may know a later number.
        assert!(decoded.frames == frames && decoded.next_seq.0 >= next_seq);
        assert!(decoded.end <= bytes.len() as u64);
        if let Ending::Bad { offset, .. } = decoded.ending {
            assert!(!salvage && offset < bytes.len() as u64);
        }
    }
});
