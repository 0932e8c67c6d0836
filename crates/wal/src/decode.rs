//! Reads the bytes of one segment: the longest valid prefix, and what can still be said about the
//! bytes behind it. Pure: bytes in, frames and a verdict out; the fuzz target runs this.
//!
//! ```text
//!   | header | frame | frame | ???? | frame | zeros or stale bytes ... |
//!            '--- the prefix ---'   '- later frames: prove or salvage
//! ```
//!
//! A bad place by itself says little: a crash leaves one at the end of every log. What tells a
//! torn tail from damage is a *later* frame whose `durable` field says that the bad place had been
//! synced. So the search goes on behind a bad place, at every eighth byte.

use sluice_base::{FileNo, Result, SeqNo};

use crate::{
    frame::{Context, FRAME_ALIGN, Fault, Frame, FrameRef, Slot, is_plausible, slot_at},
    header::{HeaderState, SEGMENT_HEADER_BYTES, read_header},
};

/// How to read a segment.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecodeOptions {
    /// Pass over bad places and show the valid frames behind them too.
    pub salvage: bool,
    /// Frames below this sequence number go backwards.
    pub next_seq: SeqNo,
}

/// How a segment's frames end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With a seal: nothing more was ever meant to follow.
    Sealed,
    /// With zeros or the end of the file.
    Open,
    /// With something else. `offset` is where it stands.
    Bad { offset: u64, fault: Fault },
}

/// A place that salvage passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub offset: u64,
    /// Up to the next valid frame, or to the end of the file.
    pub bytes: u64,
    pub fault: Fault,
}

/// What [`decode_segment`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    pub header: HeaderState,
    /// Frames shown to the visitor.
    pub frames: u64,
    /// Sequence number of the first frame shown.
    pub first_seq: Option<SeqNo>,
    /// The first sequence number after the frames shown.
    pub next_seq: SeqNo,
    /// Where the last frame shown (or the seal) ends; 0 when not even the header is valid.
    pub end: u64,
    pub ending: Ending,
    /// Valid frames behind a bad place, not shown (none in salvage, which shows them).
    pub later_frames: u64,
    /// The largest `durable` of any valid frame: the bytes below it had been synced.
    pub durable: u64,
    /// What salvage passed over.
    pub gaps: Vec<Gap>,
}

/// Shows the frames of a segment's `bytes` to `visitor`, in order. Any bytes are accepted; an
/// error can only come from the visitor.
///
/// ```
/// use sluice_base::FileNo;
/// use sluice_wal::{DecodeOptions, Ending, decode_segment};
/// let seen = decode_segment(&[0; 4096], FileNo(7), DecodeOptions::default(), &mut |_| Ok(()))?;
/// assert_eq!((seen.frames, seen.ending), (0, Ending::Open));
/// # Ok::<(), sluice_base::Error>(())
/// ```
pub fn decode_segment(
    bytes: &[u8],
    segment: FileNo,
    options: DecodeOptions,
    visitor: &mut dyn FnMut(FrameRef<'_>) -> Result<()>,
) -> Result<Decoded> {
    let header = read_header(bytes, segment);
    let mut context = Context { segment, epoch: None, next_seq: options.next_seq };
    let mut seen = Decoded {
        header,
        frames: 0,
        first_seq: None,
        next_seq: options.next_seq,
        end: 0,
        ending: Ending::Open,
        later_frames: 0,
        durable: 0,
        gaps: Vec::new(),
    };
    // The bad place being looked beyond, if any: where it is, and where a frame may begin again.
    let mut bad = match &seen.header {
        HeaderState::Valid(header) => {
            context.epoch = Some(header.epoch);
            seen.end = SEGMENT_HEADER_BYTES as u64;
            None
        }
        HeaderState::Empty => Some((0, Fault::Zeros)),
        HeaderState::Bad(fault) => Some((0, fault.clone())),
        HeaderState::Foreign(_) | HeaderState::Newer { .. } => return Ok(seen),
    };
    let mut at = SEGMENT_HEADER_BYTES;
    let mut search = Search::new(bytes.len());
    loop {
        let frame = match &bad {
            None => match slot_at(bytes, at, &context) {
                Slot::Frame(frame) => frame,
                Slot::End => {
                    bad = Some((at, Fault::Zeros));
                    continue;
                }
                Slot::Bad(fault) => {
                    bad = Some((at, fault));
                    continue;
                }
            },
            Some((place, fault)) => {
                let from = if *place == 0 { at } else { at.saturating_add(FRAME_ALIGN) };
                let found = search.next(bytes, from, &context);
                if found.is_none() && *fault == Fault::Zeros {
                    return Ok(seen); // zeros and nothing behind them: the clean end
                }
                let next = found.map_or(bytes.len(), |frame| frame.view.offset as usize);
                let (offset, fault) = (*place as u64, fault.clone());
                if !options.salvage {
                    seen.ending = Ending::Bad { offset, fault };
                    count_later(&mut seen, &mut search, bytes, found, context);
                    return Ok(seen);
                }
                seen.gaps.push(Gap { offset, bytes: (next as u64).saturating_sub(offset), fault });
                bad = None;
                match found {
                    Some(frame) => frame,
                    None => return Ok(seen),
                }
            }
        };
        seen.durable = seen.durable.max(frame.durable);
        seen.end = frame.end as u64;
        at = frame.end;
        context.next_seq = frame.next_seq();
        seen.next_seq = context.next_seq;
        if frame.seal {
            seen.ending = Ending::Sealed;
            return Ok(seen);
        }
        seen.frames += 1;
        seen.first_seq.get_or_insert(frame.view.first_seq);
        visitor(frame.view)?;
    }
}

/// Counts the valid frames behind a bad place and takes the largest `durable` among them.
fn count_later(
    seen: &mut Decoded,
    search: &mut Search,
    bytes: &[u8],
    first: Option<Frame<'_>>,
    mut context: Context,
) {
    let mut found = first;
    while let Some(frame) = found {
        seen.later_frames += u64::from(!frame.seal);
        seen.durable = seen.durable.max(frame.durable);
        context.next_seq = frame.next_seq();
        found = search.next(bytes, frame.end, &context);
    }
}

/// Looks for the next valid frame.
struct Search {
    /// Payload bytes that may still be hashed. Hostile bytes can make every eighth offset look
    /// like a frame that reaches to the end of the file, which would cost the square of the size;
    /// honest files need each byte hashed about once.
    budget: u64,
}

impl Search {
    fn new(bytes: usize) -> Search {
        Search { budget: 4 * bytes as u64 }
    }

    fn next<'a>(&mut self, bytes: &'a [u8], from: usize, context: &Context) -> Option<Frame<'a>> {
        let mut at = from;
        while at < bytes.len() {
            if is_plausible(bytes, at, context) {
                let cost = u64::from(crate::frame::u32_at(bytes, at + 4)) + 32;
                self.budget = self.budget.checked_sub(cost)?;
                if let Slot::Frame(frame) = slot_at(bytes, at, context) {
                    return Some(frame);
                }
            }
            at += FRAME_ALIGN;
        }
        None
    }
}
