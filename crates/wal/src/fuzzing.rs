//! The log's decoders as total functions over bytes, for the fuzz targets and for the test that
//! replays their seeds. Not part of the API.
//!
//! A bit of the first byte asks for all checksums to be put right before the decoder sees the
//! bytes: without that a fuzzer never gets past them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sluice_base::{FileNo, Result, SeqNo, checksum::crc32c};
use sluice_env::{Env, Fs, MemFs};

use crate::{
    DecodeOptions, Ending, FrameInfo, FrameRef, RecoveryMode, SEGMENT_HEADER_BYTES, Wal,
    WalOptions, decode_segment,
    frame::{FRAME_HEADER_BYTES, frame_bytes, salted_crc, u32_at, u64_at},
    segment_path,
};

/// Most segments of one input.
const SEGMENTS_MAX: usize = 4;

/// One segment: the decoder never shows a byte that is not there, and shows frames in sequence
/// order only. The first byte: number of the segment (5 bits), repair (1), first sequence number (2).
pub fn frame(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let segment = FileNo(u64::from(first & 0x1f));
    let mut bytes = bytes.to_vec();
    if first & 0x20 != 0 {
        repair(&mut bytes, segment);
    }
    for salvage in [false, true] {
        let options = DecodeOptions { salvage, next_seq: SeqNo(u64::from(first >> 6)) };
        let (mut frames, mut next_seq, mut end) = (0, options.next_seq.0, 0);
        let decoded = decode_segment(&bytes, segment, options, &mut |frame| {
            let begin = frame.offset as usize + FRAME_HEADER_BYTES;
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
}

/// A whole log of up to four segments, each with two bytes of length in front. What an opening
/// makes of it, the next opening must find again, and what was appended meanwhile.
///
/// The first byte: repair (1 bit), recovery mode (2), the first segment needed (2).
pub fn segments(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mode = match first >> 1 & 3 {
        1 => RecoveryMode::Absolute,
        2 => RecoveryMode::Salvage,
        _ => RecoveryMode::Tolerant,
    };
    let dir = Path::new("/db");
    let fs = Arc::new(MemFs::new());
    fs.create_dir_all(dir).expect("an empty file system takes a directory");
    for (number, bytes) in split(rest, first & 1 != 0) {
        let written = fs.write(segment_path(dir, number), &bytes);
        written.expect("an empty file system takes a file");
    }
    fs.sync_all();
    // Above every number in a name, as an owner keeps them.
    let numbers = Arc::new(AtomicU64::new(64));
    let open = |mode, epoch| -> Result<(Wal, Vec<Vec<u8>>)> {
        let options = WalOptions {
            segment_bytes: 4096,
            sync_interval: Duration::ZERO,
            background: false,
            recovery: mode,
            ..WalOptions::default()
        };
        let numbers = Arc::clone(&numbers);
        let numbers = Arc::new(move || FileNo(numbers.fetch_add(1, Ordering::Relaxed)));
        let env = Env::os().with_fs(Arc::<MemFs>::clone(&fs));
        let first_needed = FileNo(u64::from(first >> 3 & 3));
        let mut shown = Vec::new();
        let mut last = SeqNo::ZERO;
        let mut visit = |frame: FrameRef<'_>| {
            assert!(frame.first_seq >= last, "frames go backwards");
            last = SeqNo(frame.first_seq.0 + u64::from(frame.count));
            shown.push([&frame.first_seq.0.to_le_bytes()[..], frame.payload].concat());
            Ok(())
        };
        let (wal, report) =
            Wal::recover(&env, dir, options, first_needed, numbers, epoch, &mut visit)?;
        assert_eq!(report.frames, shown.len() as u64);
        assert!(!report.to_string().is_empty());
        Ok((wal, shown))
    };
    let Ok((wal, mut shown)) = open(mode, 7) else { return };
    let first_seq = SeqNo(wal.appended_seq().0 + 1);
    let info = FrameInfo { first_seq, count: 1 };
    if let Ok(lsn) = wal.append(info, b"one more", crc32c(b"one more")) {
        wal.sync(lsn).expect("nothing fails here");
        shown.push([&first_seq.0.to_le_bytes()[..], b"one more"].concat());
    }
    wal.close().expect("nothing fails here");
    // What salvage passed over is still there.
    let again = if mode == RecoveryMode::Salvage { mode } else { RecoveryMode::Absolute };
    let (_, found) = open(again, 8).expect("a log that was recovered opens again");
    assert_eq!(found, shown, "two openings differ");
}

/// Cuts an input into segments. Each is called by the number in its own header where that is small,
/// so that real ones find each other.
fn split(mut rest: &[u8], is_repaired: bool) -> Vec<(FileNo, Vec<u8>)> {
    let mut out: Vec<(FileNo, Vec<u8>)> = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<2>() {
        if out.len() == SEGMENTS_MAX {
            break;
        }
        let len = usize::from(u16::from_le_bytes(*head)).min(behind.len());
        let mut bytes = behind[..len].to_vec();
        rest = &behind[len..];
        let named = if bytes.len() >= 24 { u64_at(&bytes, 16) } else { 0 };
        let index = out.len() as u64 + 1;
        let number = FileNo(if (1..64).contains(&named) { named } else { index });
        if is_repaired {
            repair(&mut bytes, number);
        }
        out.push((number, bytes));
    }
    out
}

/// Puts the checksums of a segment's header and of its frames right, one after the other as their
/// lengths say, up to the first zeros.
fn repair(bytes: &mut [u8], segment: FileNo) {
    let mut at = SEGMENT_HEADER_BYTES;
    if bytes.len() < at {
        return;
    }
    let crc = crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<FRAME_HEADER_BYTES>) {
        let len = u32_at(head, 4) as usize;
        let body = &bytes[at + FRAME_HEADER_BYTES..];
        if head.iter().all(|&byte| byte == 0) || len > body.len() {
            return;
        }
        let crc = salted_crc(crc32c(&body[..len]), head, segment);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += frame_bytes(len) as usize;
    }
}
