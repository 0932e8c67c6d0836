//! Reads the segments in order, replays their frames, and judges what does not fit. Changes
//! nothing on disk: a log that is refused stays as it was found.
//!
//! ```text
//!   000004.wal        000006.wal             000007.wal
//!   [H f f f seal] <- [H f f ?? f 0000]      [H f 0000]
//!                            ^ the tear       '- behind it: dropped, or proof of damage
//! ```
//!
//! A **tear** is the first place where the log does not go on as it should: a bad frame or header,
//! or zeros where the next segment says that frames were. It is *proved damage* when something
//! behind it says that its bytes had been synced:
//! - a frame of the same segment whose `durable` is above the place;
//! - the next segment's header, whose `prev_durable` is;
//! - any durable byte in a newer segment, because a sync goes over all segments, oldest first.
//!
//! Everything else a crash can explain, and is a torn tail.

use std::path::Path;

use sluice_base::{Error, ErrorKind, FileNo, Result, SeqNo, checksum};
use sluice_env::{Fs, OpenMode};

use crate::{
    decode::{DecodeOptions, Decoded, Ending, decode_segment},
    frame::{Fault, FrameRef, frame_bytes},
    header::{HeaderState, SegmentHeader, read_header},
    names::segment_path,
    options::RecoveryMode,
    report::{DroppedSegment, RecoveryReport, SkippedBytes, TornTail},
};

/// Largest segment file that is read: offsets in frames take 32 bits.
const FILE_BYTES_MAX: u64 = u32::MAX as u64;

/// A segment whose frames were replayed.
#[derive(Debug)]
pub(crate) struct Kept {
    pub number: FileNo,
    /// Where its last frame ends.
    pub end: u64,
    /// Up to where something later in the log says that it was synced.
    pub durable: u64,
    /// What was replayed from `tail_from` to `end`: it is read once more, and must be the same then.
    pub tail_from: u64,
    pub tail_crc: u32,
    pub file_bytes: u64,
    pub first_seq: Option<SeqNo>,
    pub next_seq: SeqNo,
    pub sealed: bool,
}

/// The log as found.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub kept: Vec<Kept>,
    /// Created and never written.
    pub empty: Vec<FileNo>,
    /// Behind the tear.
    pub dropped: Vec<FileNo>,
    pub next_seq: SeqNo,
    pub report: RecoveryReport,
}

/// The first place where the log does not go on.
struct Tear {
    segment: FileNo,
    offset: u64,
    fault: Fault,
    /// The largest `durable` among the frames of the segment.
    durable: u64,
    frames_dropped: u64,
}

/// Reads one log.
pub(crate) struct Walk<'a> {
    pub fs: &'a dyn Fs,
    pub dir: &'a Path,
    pub mode: RecoveryMode,
    /// The last file read. One buffer for all.
    bytes: Vec<u8>,
    chain: Chain,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(fs: &'a dyn Fs, dir: &'a Path, mode: RecoveryMode) -> Walk<'a> {
        Walk { fs, dir, mode, bytes: Vec::new(), chain: Chain::default() }
    }

    /// Replays `segments`, which are in ascending order.
    pub(crate) fn run(
        mut self,
        segments: &[FileNo],
        replay: &mut dyn FnMut(FrameRef<'_>) -> Result<()>,
    ) -> Result<Chain> {
        for (index, &number) in segments.iter().enumerate() {
            let later = segments.get(index + 1..).unwrap_or_default();
            self.read(number)?;
            if let Some(tear) = self.link(number, segments)? {
                // The tear is before this segment, so this one is behind it.
                let later = segments.get(index..).unwrap_or_default();
                self.stop(tear, later)?;
                break;
            }
            let options = DecodeOptions { salvage: self.salvages(), next_seq: self.chain.next_seq };
            let report = &mut self.chain.report;
            let seen = decode_segment(&self.bytes, number, options, &mut |frame| {
                report.frames += 1;
                report.bytes += frame_bytes(frame.payload.len());
                replay(frame)
            })?;
            if let Some(tear) = self.take(number, seen) {
                self.stop(tear, later)?;
                break;
            }
        }
        Ok(self.finish())
    }

    fn salvages(&self) -> bool {
        self.mode == RecoveryMode::Salvage
    }

    /// Checks that segment `number`, just read, follows the last one. Returns the tear that its
    /// header shows in what came before.
    fn link(&mut self, number: FileNo, segments: &[FileNo]) -> Result<Option<Tear>> {
        let Some(header) = self.header_of(number)? else { return Ok(None) };
        if let Some(prev) = self.chain.kept.last_mut().filter(|kept| kept.number == header.prev) {
            prev.durable = prev.durable.max(header.prev_durable.min(prev.end));
        }
        let last = self.chain.kept.last().map(|kept| (kept.number, kept.end));
        let torn = |segment, offset| {
            let fault = Fault::Zeros;
            Tear { segment, offset, fault, durable: 0, frames_dropped: 0 }
        };
        let problem = match last {
            _ if self.chain.empty.contains(&header.prev) => {
                sluice_env::probe!("wal: a segment whose predecessor was lost whole");
                // Its predecessor was in use, and nothing of it reached the disk.
                Err(torn(header.prev, 0))
            }
            None => return Ok(None), // the head of the log: what came before was released
            Some((prev, end)) if header.prev == prev => match header.prev_end {
                prev_end if prev_end == end => return Ok(None),
                prev_end if prev_end > end => Err(torn(prev, end)),
                prev_end => Ok((32, format!("{end}, where that ends"), prev_end.to_string())),
            },
            Some((prev, _)) => {
                let there = segments.contains(&header.prev);
                let what = if there { "out of order" } else { "missing" };
                let found = format!("segment {}, which is {what}", header.prev);
                Ok((24, format!("segment {prev} as the one before"), found))
            }
        };
        match problem {
            Err(tear) if self.salvages() => {
                self.skip(tear.segment, tear.offset, 0, tear.fault.to_string());
                Ok(None)
            }
            Err(tear) => Ok(Some(tear)),
            Ok((_, expected, found)) if self.salvages() => {
                self.skip(number, 0, 0, format!("expected {expected}, found {found}"));
                Ok(None)
            }
            Ok((offset, expected, found)) => {
                Err(Error::corruption(segment_path(self.dir, number), offset, expected, found))
            }
        }
    }

    /// The header of the segment just read, `None` when it has none.
    fn header_of(&mut self, number: FileNo) -> Result<Option<SegmentHeader>> {
        let path = segment_path(self.dir, number);
        match read_header(&self.bytes, number) {
            HeaderState::Valid(header) => {
                let report = &mut self.chain.report;
                report.last_epoch = report.last_epoch.max(header.epoch);
                Ok(Some(header))
            }
            HeaderState::Empty | HeaderState::Bad(_) => Ok(None),
            HeaderState::Newer { version } => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} has format version {version}, this build reads up to {}: open the \
                     database with the build that wrote it",
                    path.display(),
                    crate::FORMAT_VERSION
                ),
            )),
            HeaderState::Foreign(header) if self.salvages() => {
                self.skip(number, 0, self.bytes.len() as u64, foreign(number, &header).1);
                Ok(None)
            }
            HeaderState::Foreign(header) => {
                let (expected, found) = foreign(number, &header);
                Err(Error::corruption(path, 16, expected, found))
            }
        }
    }

    /// Files a decoded segment. Returns the tear in it.
    fn take(&mut self, number: FileNo, seen: Decoded) -> Option<Tear> {
        if matches!(seen.header, HeaderState::Foreign(_)) {
            return None; // salvage reported it
        }
        if seen.header == HeaderState::Empty && seen.ending == Ending::Open && seen.frames == 0 {
            self.chain.empty.push(number);
            return None;
        }
        self.chain.report.segments += 1;
        for gap in seen.gaps {
            self.skip(number, gap.offset, gap.bytes, gap.fault.to_string());
        }
        if seen.end > 0 {
            if seen.durable > 0 {
                // A sync goes over all segments, oldest first.
                self.chain.kept.iter_mut().for_each(|kept| kept.durable = kept.end);
            }
            let tail_from = seen.durable.min(seen.end);
            let tail = self.bytes.get(tail_from as usize..seen.end as usize).unwrap_or_default();
            self.chain.kept.push(Kept {
                number,
                end: seen.end,
                durable: tail_from,
                tail_from,
                tail_crc: checksum::crc32c(tail),
                file_bytes: self.bytes.len() as u64,
                first_seq: seen.first_seq,
                next_seq: seen.next_seq,
                sealed: seen.ending == Ending::Sealed,
            });
        } else {
            self.chain.dropped.push(number);
        }
        self.chain.next_seq = seen.next_seq;
        if seen.frames > 0 {
            let report = &mut self.chain.report;
            report.first_seq = report.first_seq.or(seen.first_seq);
            report.last_seq = Some(SeqNo(seen.next_seq.0.saturating_sub(1)));
        }
        match seen.ending {
            Ending::Bad { offset, fault } => Some(Tear {
                segment: number,
                offset,
                fault,
                durable: seen.durable,
                frames_dropped: seen.later_frames,
            }),
            Ending::Open | Ending::Sealed => None,
        }
    }

    /// Judges the tear by what is behind it: an error, or the end of the log.
    fn stop(&mut self, tear: Tear, later: &[FileNo]) -> Result<()> {
        let path = segment_path(self.dir, tear.segment);
        if let Fault::Newer { .. } = tear.fault {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} holds a frame at offset {} that this build does not know: {}",
                    path.display(),
                    tear.offset,
                    tear.fault
                ),
            ));
        }
        let damage = |proof: &str| {
            let found = format!("{} ({proof})", tear.fault.found());
            Err(Error::corruption(&path, tear.offset, tear.fault.expected(), found))
        };
        if tear.fault.is_whole() {
            return damage("written so");
        }
        if tear.durable > tear.offset {
            return damage("a later frame shows that this was synced");
        }
        for &number in later {
            self.read(number)?;
            let header = self.header_of(number)?;
            let options = DecodeOptions { salvage: true, next_seq: self.chain.next_seq };
            let seen = decode_segment(&self.bytes, number, options, &mut |_| Ok(()))?;
            let synced = header.is_some_and(|header| match header.prev == tear.segment {
                true => header.prev_durable > tear.offset,
                false => header.prev_durable > 0,
            });
            if synced || seen.durable > 0 {
                return damage(&format!("segment {number} shows that this was synced"));
            }
            if header.is_some() || seen.frames > 0 {
                sluice_env::probe!("wal: a segment behind a torn one");
                self.chain
                    .report
                    .dropped
                    .push(DroppedSegment { segment: number, frames: seen.frames });
                self.chain.dropped.push(number);
            } else {
                self.chain.empty.push(number);
            }
        }
        if self.mode == RecoveryMode::Absolute {
            return damage("no torn tail is accepted in this recovery mode");
        }
        sluice_env::probe!("wal: a torn tail");
        self.chain.report.torn = Some(TornTail {
            segment: tear.segment,
            offset: tear.offset,
            reason: tear.fault.to_string(),
            frames_dropped: tear.frames_dropped,
        });
        Ok(())
    }

    fn finish(mut self) -> Chain {
        let sealed = self.chain.kept.last().is_none_or(|kept| kept.sealed);
        self.chain.report.clean = sealed && self.chain.report.torn.is_none();
        self.chain
    }

    fn skip(&mut self, segment: FileNo, offset: u64, bytes: u64, reason: String) {
        self.chain.report.skipped.push(SkippedBytes { segment, offset, bytes, reason });
    }

    /// Reads a whole segment into `bytes`.
    fn read(&mut self, number: FileNo) -> Result<()> {
        let path = segment_path(self.dir, number);
        let what = |e| Error::io(format!("read {}", path.display()), e);
        let file = self.fs.open(&path, OpenMode::Read).map_err(what)?;
        let len = file.len().map_err(what)?;
        if len > FILE_BYTES_MAX {
            let expected = format!("a segment of at most {FILE_BYTES_MAX} bytes");
            return Err(Error::corruption(&path, 0, expected, format!("{len} bytes")));
        }
        let len = usize::try_from(len).map_err(|_| {
            Error::new(ErrorKind::Unsupported, format!("{} exceeds memory", path.display()))
        })?;
        self.bytes.clear();
        self.bytes.try_reserve_exact(len).map_err(|e| {
            Error::new(ErrorKind::Io, format!("no memory to read {}: {e}", path.display()))
        })?;
        self.bytes.resize(len, 0);
        file.read_exact_at(&mut self.bytes, 0).map_err(what)
    }
}

fn foreign(number: FileNo, header: &SegmentHeader) -> (String, String) {
    (format!("segment {number}, as the file is called"), format!("segment {}", header.segment))
}
