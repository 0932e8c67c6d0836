//! Reads the live manifest back into a state.
//!
//! The hard part is the end of the file. Appends are synced one by one, so a crash can tear only
//! the last frame, and nothing can follow a torn frame. A frame that does not verify is therefore
//!
//! | what is found | verdict |
//! |---|---|
//! | header valid, payload runs past the end of the file | torn |
//! | header valid, payload ends exactly at the end, CRC one bit off | damage, unless a sector of zeros explains it |
//! | header valid, payload ends exactly at the end, CRC wrong otherwise | torn |
//! | header valid, payload CRC wrong, bytes follow | damage |
//! | fewer than 12 bytes left | torn |
//! | header invalid, one bit off | damage, with the same exception |
//! | header invalid, a valid frame begins somewhere behind it | damage |
//! | header invalid, more bytes left than a frame can have | damage |
//! | header invalid otherwise | torn |
//! | any of these inside the snapshot | damage: it was synced before `CURRENT` named the file |
//!
//! What this cannot tell: several bytes lost in the last frame after it was synced look like a torn
//! append. The edit's consequences show it: the log segments it released are gone although the
//! state before it needs them, and the engine refuses to open on that.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sluice_base::{Error, ErrorKind, FileNo, Result, checksum};
use sluice_env::{File, Fs, OpenMode};

use super::{
    DecodeError, FileName,
    current::read_current,
    edit_codec::take_edit,
    field::Input,
    frame::{
        FILE_HEADER_BYTES, FORMAT, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameKind,
        MAGIC, flipped_byte, is_lost_sector,
    },
};
use crate::version::VersionState;

/// What a directory's manifest says.
#[derive(Debug)]
pub struct Recovered<T> {
    /// The state after the last edit. Its `next_file` is above every number in the directory too,
    /// so that no leftover file is ever overwritten or mistaken for a new one.
    pub state: VersionState<T>,
    /// The live manifest.
    #[cfg_attr(not(test), expect(dead_code, reason = "a new manifest is always begun"))]
    pub manifest: FileNo,
    /// Its size up to the last whole frame.
    #[cfg_attr(not(test), expect(dead_code, reason = "a new manifest is always begun"))]
    pub bytes: u64,
    /// Edits applied after the snapshot.
    pub edits: u64,
    /// The append that the crash tore, when there was one.
    pub torn: Option<TornTail>,
}

/// The end of a manifest that a crash cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    pub offset: u64,
    pub bytes: u64,
}

/// Reads the manifest of the database in `dir`; `None` when the directory holds no database. Never
/// writes: the caller goes on with `ManifestWriter::create` and a new file number.
pub fn read<T>(fs: &dyn Fs, dir: &Path) -> Result<Option<Recovered<T>>> {
    let names =
        fs.read_dir(dir).map_err(|error| Error::io(format!("list {}", dir.display()), error))?;
    let files: Vec<FileName> = names.iter().filter_map(|name| FileName::parse(name)).collect();
    let Some(manifest) = read_current(fs, dir)? else {
        return refuse_lost_current::<T>(fs, dir, &files).map(|()| None);
    };
    if !files.contains(&FileName::Manifest(manifest)) {
        return Err(Error::corruption(
            dir.join(FileName::Current.to_string()),
            0,
            "the name of a manifest in this directory",
            format!("{}, which does not exist", FileName::Manifest(manifest)),
        ));
    }
    let mut replay = Replay::new();
    let (bytes, torn) = replay.run(fs, dir, manifest)?;
    let Replay { mut state, edits, .. } = replay;
    state.next_file = state.next_file.max(FileName::number_above(&files));
    Ok(Some(Recovered { state, manifest, bytes, edits, torn }))
}

/// Without `CURRENT`, decides between "never created" and "the name was lost". All that a crash
/// during creation leaves is a manifest that ends, or is torn, inside its snapshot, or one that
/// nobody ever wrote to: without a table, a sequence number or an edit; and no log or table beside.
fn refuse_lost_current<T>(fs: &dyn Fs, dir: &Path, files: &[FileName]) -> Result<()> {
    for file in files {
        let is_used = match file {
            FileName::Table(_) | FileName::Wal(_) => true,
            FileName::Manifest(no) => {
                let mut replay = Replay::<T>::new();
                match replay.run(fs, dir, *no) {
                    Err(error) if error.kind() != ErrorKind::Corruption => return Err(error),
                    Err(_) if replay.in_snapshot => false,
                    Err(_) => true,
                    Ok(_) => {
                        let state = &replay.state;
                        replay.edits > 0 || state.last_seq.0 > 0 || state.files().next().is_some()
                    }
                }
            }
            FileName::Current | FileName::CurrentTmp | FileName::Lock | FileName::Reserve => false,
        };
        if is_used {
            return Err(Error::corruption(
                dir.join(FileName::Current.to_string()),
                0,
                "the name of the live manifest",
                format!(
                    "no such file, although {file} shows that this directory holds a database; \
                     restore the directory from a copy"
                ),
            ));
        }
    }
    Ok(())
}

/// The replay of one manifest, and how far it came.
struct Replay<T> {
    state: VersionState<T>,
    /// The snapshot has not ended yet.
    in_snapshot: bool,
    /// Edits applied after the snapshot.
    edits: u64,
}

impl<T> Replay<T> {
    fn new() -> Replay<T> {
        Replay { state: VersionState::empty(), in_snapshot: true, edits: 0 }
    }

    /// Replays manifest `no`; gives its whole frames' bytes, and the torn tail.
    fn run(&mut self, fs: &dyn Fs, dir: &Path, no: FileNo) -> Result<(u64, Option<TornTail>)> {
        let mut frames = Frames::open(fs, dir, no)?;
        let torn = loop {
            let offset = frames.offset;
            match frames.next()? {
                Next::Payload(payload) => {
                    self.frame(&frames.path, offset + FRAME_HEADER_BYTES as u64, &payload)?;
                }
                Next::End => break None,
                Next::Torn => break Some(TornTail { offset, bytes: frames.len - offset }),
            }
        };
        let damaged =
            |expected, found| Error::corruption(&frames.path, frames.offset, expected, found);
        if self.in_snapshot {
            return Err(damaged("the rest of the snapshot", "the end of what is valid".to_owned()));
        }
        self.state
            .check()
            .map_err(|error| damaged("edits that add up to a state", error.to_string()))?;
        Ok((frames.offset, torn))
    }

    /// One verified payload, found at offset `at`.
    fn frame(&mut self, path: &Path, at: u64, payload: &[u8]) -> Result<()> {
        let damaged = |expected, found: String| Error::corruption(path, at, expected, found);
        let mut input = Input::new(payload);
        let byte = input.u8("a frame kind").map_err(|error| decode_error(path, at, error))?;
        match (FrameKind::from_byte(byte), self.in_snapshot) {
            (Some(FrameKind::SnapshotPart), true) => {}
            (Some(FrameKind::SnapshotEnd), true) => self.in_snapshot = false,
            (Some(FrameKind::Edit), false) => self.edits += 1,
            (Some(kind), _) => {
                return Err(damaged("the snapshot, then edits", format!("{kind:?} out of place")));
            }
            (None, _) => {
                let (what, number) = ("manifest frame kind", u64::from(byte));
                return Err(decode_error(path, at, DecodeError::Unknown { at: 0, what, number }));
            }
        }
        let edit = take_edit(input).map_err(|error| decode_error(path, at, error))?;
        self.state
            .apply_in_place(&edit)
            .map_err(|error| damaged("an edit that fits the state before it", error.to_string()))
    }
}

fn decode_error(path: &Path, payload_offset: u64, error: DecodeError) -> Error {
    match error {
        DecodeError::Malformed { at, expected } => {
            let offset = payload_offset + at as u64;
            Error::corruption(path, offset, expected, "bytes that verify but do not decode")
        }
        DecodeError::Unknown { .. } => Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} at offset {payload_offset}: {error}; open the directory with the newer build \
                 that wrote it",
                path.display()
            ),
        ),
    }
}

enum Next {
    Payload(Vec<u8>),
    End,
    Torn,
}

/// Goes through the frames of one file.
struct Frames {
    file: Arc<dyn File>,
    path: PathBuf,
    no: FileNo,
    len: u64,
    /// The end of the last whole frame.
    offset: u64,
}

impl Frames {
    fn open(fs: &dyn Fs, dir: &Path, no: FileNo) -> Result<Frames> {
        let path = dir.join(FileName::Manifest(no).to_string());
        let io = |error| Error::io(format!("open {}", path.display()), error);
        let file = fs.open(&path, OpenMode::Read).map_err(io)?;
        let len = file.len().map_err(io)?;
        let mut frames = Frames { file, path, no, len, offset: 0 };
        frames.read_file_header()?;
        Ok(frames)
    }

    fn read_file_header(&mut self) -> Result<()> {
        if self.len < FILE_HEADER_BYTES as u64 {
            let found = format!("a file of {} bytes", self.len);
            return Err(self.damage(0, "a file header", found));
        }
        let mut header = [0; FILE_HEADER_BYTES];
        self.read(&mut header, 0)?;
        if header[..8] != MAGIC {
            let found = format!("\"{}\"", header[..8].escape_ascii());
            return Err(self.damage(0, "magic \"SLUICMAN\"", found));
        }
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let computed = checksum::crc32c(&header[..20]);
        if word(20) != computed {
            let found = format!("{:#010x}", word(20));
            return Err(self.damage(20, &format!("header crc32c {computed:#010x}"), found));
        }
        let format = word(8);
        if format > FORMAT {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{} has format {format}, this build reads up to {FORMAT}: open the directory \
                     with a newer build",
                    self.path.display()
                ),
            ));
        }
        let no = u64::from(word(12)) | u64::from(word(16)) << 32;
        if format == 0 || no != self.no.0 {
            let expected = format!("format 1 to {FORMAT} and file number {}", self.no.0);
            return Err(self.damage(8, &expected, format!("format {format}, file number {no}")));
        }
        self.offset = FILE_HEADER_BYTES as u64;
        Ok(())
    }

    fn next(&mut self) -> Result<Next> {
        let offset = self.offset;
        let rest = self.len - offset;
        if rest == 0 {
            return Ok(Next::End);
        }
        if rest < FRAME_HEADER_BYTES as u64 {
            return Ok(Next::Torn);
        }
        let mut bytes = [0; FRAME_HEADER_BYTES];
        self.read(&mut bytes, offset)?;
        let header = FrameHeader::parse(&bytes, self.no, offset);
        if !header.is_valid() {
            return self.judge_bad_header(&bytes, header).map(|()| Next::Torn);
        }
        let frame_len = FRAME_HEADER_BYTES as u64 + u64::from(header.payload_len);
        if frame_len > rest {
            return Ok(Next::Torn);
        }
        let payload = self.payload(offset, header)?;
        let computed = checksum::crc32c(&payload);
        if computed == header.payload_crc {
            self.offset += frame_len;
            return Ok(Next::Payload(payload));
        }
        let payload_at = offset + FRAME_HEADER_BYTES as u64;
        let is_flipped = || {
            flipped_byte(&payload, header.payload_crc)
                .is_some_and(|byte| !is_lost_sector(&payload, payload_at, byte))
        };
        if frame_len < rest || is_flipped() {
            return Err(self.damage(
                offset,
                &format!("payload crc32c {:#010x}", header.payload_crc),
                format!("{computed:#010x} over {} bytes", payload.len()),
            ));
        }
        Ok(Next::Torn)
    }

    /// An invalid header at `self.offset`: fine when it can be the end of a torn append.
    fn judge_bad_header(&self, bytes: &[u8], header: FrameHeader) -> Result<()> {
        let damage = |what: &str| {
            let found = format!("{:#010x} {what}", header.stored_crc);
            let expected = format!("frame header crc32c {:#010x}", header.computed_crc);
            Err(self.damage(self.offset, &expected, found))
        };
        let flipped = header.flipped_byte();
        if flipped.is_some_and(|byte| !is_lost_sector(bytes, self.offset, byte)) {
            return damage("(one bit is flipped)");
        }
        if self.len - self.offset > FRAME_BYTES_MAX {
            return damage("and more bytes behind it than a torn append can leave");
        }
        match self.find_frame_behind(self.offset + 1)? {
            Some(offset) => damage(&format!("and a valid frame behind it at {offset}")),
            None => Ok(()),
        }
    }

    /// Looks for a valid frame that begins at `from` or later. Linear, because headers verify on
    /// their own; bounded, because the caller has checked that at most one frame's bytes are left.
    fn find_frame_behind(&self, from: u64) -> Result<Option<u64>> {
        let mut rest = vec![0; usize::try_from(self.len.saturating_sub(from)).unwrap_or(0)];
        self.read(&mut rest, from)?;
        for (index, window) in rest.windows(FRAME_HEADER_BYTES).enumerate() {
            let Some(window) = window.first_chunk::<FRAME_HEADER_BYTES>() else { break };
            let offset = from + index as u64;
            let header = FrameHeader::parse(window, self.no, offset);
            let payload = rest[index + FRAME_HEADER_BYTES..].get(..header.payload_len as usize);
            let is_whole = || payload.map(checksum::crc32c) == Some(header.payload_crc);
            if header.is_valid() && is_whole() {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// The payload behind a valid header whose frame lies inside the file: so the length is both
    /// true and bounded.
    fn payload(&self, offset: u64, header: FrameHeader) -> Result<Vec<u8>> {
        let mut payload = vec![0; header.payload_len as usize];
        self.read(&mut payload, offset + FRAME_HEADER_BYTES as u64)?;
        Ok(payload)
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file
            .read_exact_at(buf, offset)
            .map_err(|error| Error::io(format!("read {}", self.path.display()), error))
    }

    fn damage(&self, offset: u64, expected: &str, found: String) -> Error {
        Error::corruption(&self.path, offset, expected, found)
    }
}
