//! The log's memory: the segments it holds, the bytes not yet written, and three marks.
//!
//! ```text
//!      synced            handed to the OS      in the buffer
//!   |==================|---------------------|.............|
//!                      durable               written       appended
//! ```
//!
//! One short mutex guards all of it (`Shared::state`, the innermost lock of this crate). Nothing
//! in this file performs I/O: an append is a header, two copies and a few additions.

use std::{collections::VecDeque, sync::Arc};

use sluice_base::{FileNo, SeqNo};
use sluice_env::File;

use crate::{
    files::Blank,
    frame::{FLAG_DATA, FLAG_SEAL, FRAME_HEADER_BYTES, FrameHeader, frame_bytes},
    header::{SEGMENT_HEADER_BYTES, SegmentHeader},
    poison::Poison,
    stats::SegmentInfo,
};

/// A place in the log: how many bytes were appended up to it, segment headers included. Grows
/// from append to append; means nothing to another opening of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// What a caller says about a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Sequence number of the payload's first entry: at or above every one appended before.
    pub first_seq: SeqNo,
    /// How many sequence numbers the payload takes.
    pub count: u32,
}

impl FrameInfo {
    /// The first sequence number behind the frame; `None` when there is no such number.
    pub(crate) fn next_seq(&self) -> Option<SeqNo> {
        let next = self.first_seq.0.checked_add(u64::from(self.count))?;
        (next <= SeqNo::MAX.0).then_some(SeqNo(next))
    }
}

/// How far the log has come in some respect.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark {
    pub lsn: Lsn,
    /// The first sequence number not covered.
    pub next_seq: SeqNo,
    /// Frames since the log was opened.
    pub frames: u64,
}

impl Mark {
    /// The last sequence number covered; zero when there is none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq.0.saturating_sub(1)
    }
}

/// A segment that the log holds. The last one of [`State::live`] takes the appends.
#[derive(Debug)]
pub(crate) struct Live {
    pub number: FileNo,
    /// Open while the segment may still have to be written or synced.
    pub file: Option<Arc<dyn File>>,
    pub capacity: u64,
    /// Whether every byte of the file was written once.
    pub written: bool,
    /// The log position of the segment's first byte.
    pub base: u64,
    /// Where the next frame goes.
    pub end: u64,
    /// Bytes known to be durable.
    pub durable: u64,
    pub first_seq: Option<SeqNo>,
    pub next_seq: SeqNo,
    pub sealed: bool,
}

impl Live {
    pub(crate) fn end_lsn(&self) -> Lsn {
        Lsn(self.base + self.end)
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        SegmentInfo {
            number: self.number,
            bytes: self.end,
            capacity: self.capacity,
            seqs: self.first_seq.map(|first| (first, SeqNo(self.next_seq.0.saturating_sub(1)))),
            sealed: self.sealed,
        }
    }
}

/// A run of buffered bytes that goes to one file.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub number: FileNo,
    pub file: Arc<dyn File>,
    /// Where in the file.
    pub offset: u64,
    /// Where in the buffer; the run ends where the next one starts.
    pub start: usize,
}

/// Bytes on their way to the operating system.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub bytes: Vec<u8>,
    pub chunks: Vec<Chunk>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// Oldest first, never empty once the log runs.
    pub live: VecDeque<Live>,
    /// The next segment, when it is ready. Its number is above every live one.
    pub spare: Option<Blank>,
    pub buffer: Buffer,
    pub appended: Mark,
    pub written: Mark,
    pub durable: Mark,
    /// When the oldest appended and unsynced byte came, or earlier.
    pub unsynced_since_us: Option<u64>,
    pub poison: Option<Poison>,
    pub closed: bool,
    /// Whether the background was asked for a spare.
    pub spare_wanted: bool,
    epoch: u32,
}

impl State {
    /// A log that holds the recovered segments `kept` and has no active one yet:
    /// [`State::begin`] comes next.
    pub(crate) fn new(kept: VecDeque<Live>, next_seq: SeqNo, epoch: u32) -> State {
        let lsn = kept.back().map_or(Lsn(0), Live::end_lsn);
        let mark = Mark { lsn, next_seq, frames: 0 };
        State {
            live: kept,
            spare: None,
            buffer: Buffer::default(),
            appended: mark,
            written: mark,
            durable: mark,
            unsynced_since_us: None,
            poison: None,
            closed: false,
            spare_wanted: false,
            epoch,
        }
    }

    /// Room for a frame of `bytes` and the seal behind it?
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        let seal = FRAME_HEADER_BYTES as u64;
        self.live
            .back()
            .is_some_and(|active| !active.sealed && active.end + bytes + seal <= active.capacity)
    }

    /// Makes `blank` the active segment: its header goes into the buffer.
    pub(crate) fn begin(&mut self, blank: Blank) {
        let last = self.live.back();
        let header = SegmentHeader {
            segment: blank.number,
            prev: last.map_or(FileNo(0), |last| last.number),
            prev_end: last.map_or(0, |last| last.end),
            prev_durable: last.map_or(0, |last| last.durable),
            epoch: self.epoch,
        };
        self.live.push_back(Live {
            number: blank.number,
            file: Some(blank.file),
            capacity: blank.capacity,
            written: blank.written,
            base: self.appended.lsn.0,
            end: 0,
            durable: 0,
            first_seq: None,
            next_seq: self.appended.next_seq,
            sealed: false,
        });
        self.spare_wanted = false;
        self.put(&header.encode(), &[]);
    }

    /// A header that no frame stands behind needs no sync: after opening and healing, everything
    /// counts as written and durable.
    pub(crate) fn settle(&mut self) {
        (self.written, self.durable) = (self.appended, self.appended);
        self.unsynced_since_us = None;
    }

    /// Appends a frame that [`State::fits`]. `payload_crc` is the checksum of `payload`.
    #[inline]
    pub(crate) fn push_data(&mut self, info: &FrameInfo, payload: &[u8], payload_crc: u32) {
        let Some(active) = self.live.back_mut() else { return };
        let header = FrameHeader {
            payload_len: payload.len() as u32,
            first_seq: info.first_seq.0,
            count: info.count,
            epoch: self.epoch,
            // At most `SEGMENT_BYTES_MAX` and a little: fits.
            durable: active.durable as u32,
            stream: 0,
            flags: FLAG_DATA,
        };
        let header = header.encode(payload_crc, active.number);
        active.first_seq.get_or_insert(info.first_seq);
        active.next_seq = SeqNo(info.first_seq.0 + u64::from(info.count));
        self.appended.next_seq = active.next_seq;
        self.appended.frames += 1;
        self.put(&header, payload);
    }

    /// Ends the active segment with a seal. There is room: [`State::fits`] kept it free.
    pub(crate) fn push_seal(&mut self) {
        let next_seq = self.appended.next_seq;
        let Some(active) = self.live.back_mut().filter(|active| !active.sealed) else { return };
        active.sealed = true;
        let header = FrameHeader {
            payload_len: 0,
            first_seq: next_seq.0,
            count: 0,
            epoch: self.epoch,
            durable: active.durable as u32,
            stream: 0,
            flags: FLAG_SEAL,
        };
        let header = header.encode(sluice_base::checksum::crc32c(&[]), active.number);
        self.put(&header, &[]);
    }

    /// Copies `head` and `payload` behind the active segment's end.
    #[inline]
    fn put(&mut self, head: &[u8], payload: &[u8]) {
        let Some(active) = self.live.back_mut() else { return };
        let buffer = &mut self.buffer;
        if buffer.chunks.last().is_none_or(|chunk| chunk.number != active.number)
            && let Some(file) = &active.file
        {
            buffer.chunks.push(Chunk {
                number: active.number,
                file: file.clone(),
                offset: active.end,
                start: buffer.bytes.len(),
            });
        }
        // The segment header is 64 bytes, which is what `frame_bytes` says of it too.
        let padded = frame_bytes(head.len() + payload.len() - FRAME_HEADER_BYTES);
        debug_assert!(head.len() == FRAME_HEADER_BYTES || padded == SEGMENT_HEADER_BYTES as u64);
        let from = buffer.bytes.len();
        buffer.bytes.extend_from_slice(head);
        buffer.bytes.extend_from_slice(payload);
        buffer.bytes.resize(from + padded as usize, 0);
        active.end += padded;
        self.appended.lsn.0 += padded;
    }

    /// Relations that hold whenever the lock is free. For tests and debug builds.
    pub(crate) fn check(&self) {
        assert!(self.durable.lsn <= self.written.lsn && self.written.lsn <= self.appended.lsn);
        assert!(self.durable.next_seq <= self.written.next_seq);
        assert!(self.written.next_seq <= self.appended.next_seq);
        let mut before: Option<&Live> = None;
        for live in &self.live {
            assert!(live.durable <= live.end && live.end <= live.capacity, "{live:?}");
            if let Some(before) = before {
                assert!(before.number < live.number, "segment numbers must grow");
                assert!(before.end_lsn() <= Lsn(live.base));
                assert!(before.next_seq <= live.next_seq);
                // Only the last segment is open; a segment cut by recovery or healing is not
                // sealed, but it is never written again.
            }
            before = Some(live);
        }
        if let (Some(spare), Some(active)) = (&self.spare, self.live.back()) {
            assert!(spare.number > active.number);
        }
    }
}
