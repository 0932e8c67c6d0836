//! From files to a running log: replay, make the end of the log what replay took it for, begin a
//! new segment.
//!
//! Order of the changes, each durable before the next, so that a crash in between is recovered
//! from to the same result:
//! 1. the last kept segment is cut behind its last valid frame, and every kept segment is synced,
//!    after what no sync is known to have covered was written once more: what was replayed may have
//!    been in the page cache only, and must not be lost later, when younger frames are durable
//!    already;
//! 2. what is behind the end goes, **youngest first**: the chain of what is left has no hole;
//! 3. leftovers from before the first needed segment go;
//! 4. a new segment begins. Its header names the last one and where it ends.

use std::{collections::VecDeque, path::Path};

use sluice_base::{Error, FileNo, Result, checksum, limits};
use sluice_env::{
    Env, File, OpenMode,
    sync::{Arc, Condvar, Mutex},
};

use crate::{
    baton::Baton,
    chain::{Chain, Kept, Walk},
    files::{Blank, FileNumbers, Files},
    frame::FrameRef,
    lock,
    log::{Progress, Shared, Wal},
    names::{Name, parse},
    options::WalOptions,
    report::RecoveryReport,
    requests::{Preparing, Queue},
    state::{Buffer, Live, State},
};

/// Bytes that [`rewrite`] reads and writes at a time.
const REWRITE_BYTES: u64 = 1 << 20;

/// The log's files in a directory, each kind in ascending order.
#[derive(Debug, Default)]
struct Found {
    /// At or above the first needed one.
    segments: Vec<FileNo>,
    /// Below it.
    leftovers: Vec<FileNo>,
    free: Vec<FileNo>,
}

impl Wal {
    /// Opens the log in `dir`, which must exist (an empty one is a new log): replays every frame
    /// from segment `first_needed` on (0: from the oldest there is) in sequence order, repairs
    /// the end, and begins a new segment. Nothing on disk changes before replay has succeeded.
    ///
    /// `numbers` gives file numbers; numbers that lag behind the segments found are skipped.
    /// `epoch` counts the openings of the database and goes into every frame.
    ///
    /// Errors: [`sluice_base::ErrorKind::Corruption`] with file and offset,
    /// [`sluice_base::ErrorKind::Unsupported`] for files of a newer format, whatever `replay`
    /// returns, and what the file system says.
    ///
    /// ```no_run
    /// # fn run(env: sluice_env::Env) -> sluice_base::Result<()> {
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// use sluice_base::{FileNo, SeqNo, checksum::crc32c};
    /// use sluice_wal::{FrameInfo, Wal, WalOptions};
    /// let next = AtomicU64::new(1);
    /// let numbers = Arc::new(move || FileNo(next.fetch_add(1, Ordering::Relaxed)));
    /// let mut replay = |frame: sluice_wal::FrameRef<'_>| {
    ///     println!("{} entries from {}", frame.count, frame.first_seq);
    ///     Ok(())
    /// };
    /// let dir = std::path::Path::new("data/db");
    /// let options = WalOptions::default();
    /// let (wal, report) = Wal::recover(&env, dir, options, FileNo(0), numbers, 1, &mut replay)?;
    /// println!("{report}");
    /// let info = FrameInfo { first_seq: SeqNo(1), count: 1 };
    /// let lsn = wal.append(info, b"a batch", crc32c(b"a batch"))?;
    /// wal.sync(lsn)?;
    /// wal.close()
    /// # }
    /// ```
    pub fn recover(
        env: &Env,
        dir: &Path,
        options: WalOptions,
        first_needed: FileNo,
        numbers: FileNumbers,
        epoch: u32,
        replay: &mut dyn FnMut(FrameRef<'_>) -> Result<()>,
    ) -> Result<(Wal, RecoveryReport)> {
        options.validate()?;
        let found = look(env, dir, first_needed)?;
        let mut chain = Walk::new(&*env.fs, dir, options.recovery).run(&found.segments, replay)?;
        let last = found.segments.last().or(found.leftovers.last()).copied().unwrap_or_default();
        chain.report.last_segment = last;
        let there = first_needed.0 == 0 || found.segments.contains(&first_needed);
        chain.report.head_missing = (!there).then_some(first_needed);

        let files =
            Files::new(env.clone(), dir, options.segment_bytes, options.recycle_max, numbers, last);
        let blank = settle_files(&files, &mut chain, &found, first_needed)?;
        let mut state = State::new(live_of(&chain), chain.next_seq, epoch);
        state.begin(blank);
        state.settle();

        let wal = Wal { shared: Arc::new(share(options, files, state)), threads: Mutex::default() };
        wal.set_sync_interval(wal.shared.options.sync_interval);
        if wal.shared.options.background {
            wal.start()?;
        }
        Ok((wal, chain.report))
    }
}

fn share(options: WalOptions, files: Files, state: State) -> Shared {
    let progress = Progress::default();
    progress.publish(&state);
    Shared {
        options,
        files,
        state: Mutex::new(state),
        progress,
        write_baton: Baton::default(),
        sync_baton: Baton::default(),
        scratch: Mutex::new(Buffer::default()),
        queue: Mutex::new(Queue::default()),
        queue_wake: Condvar::new(),
        preparing: Mutex::new(Preparing::default()),
        prepare_wake: Condvar::new(),
    }
}

/// Lists the directory.
fn look(env: &Env, dir: &Path, first_needed: FileNo) -> Result<Found> {
    let names = env
        .fs
        .read_dir(dir)
        .map_err(|e| Error::io(format!("list the wal directory {}", dir.display()), e))?;
    let mut found = Found::default();
    for name in names {
        match parse(&name) {
            // Nobody's: the numbers of this log never get there.
            Some(Name::Segment(number) | Name::Free(number))
                if number.0 > limits::FILE_NO_FOUND_MAX => {}
            Some(Name::Segment(number)) if number >= first_needed => found.segments.push(number),
            Some(Name::Segment(number)) => found.leftovers.push(number),
            Some(Name::Free(number)) => found.free.push(number),
            None => {}
        }
    }
    found.segments.sort_unstable();
    found.leftovers.sort_unstable();
    found.free.sort_unstable();
    Ok(found)
}

/// Steps 1 to 4, up to the new segment's file.
fn settle_files(
    files: &Files,
    chain: &mut Chain,
    found: &Found,
    first_needed: FileNo,
) -> Result<Blank> {
    let _names = lock(&files.names);
    let count = chain.kept.len();
    for (index, kept) in chain.kept.iter_mut().enumerate() {
        let what = |e| Error::io(format!("repair the end of wal segment {}", kept.number), e);
        let path = files.path(kept.number);
        let file = files.env.fs.open(&path, OpenMode::ReadWrite).map_err(what)?;
        if index + 1 == count && !kept.sealed && kept.file_bytes != kept.end {
            sluice_env::probe!("wal: a torn tail was cut off");
            file.set_len(kept.end).map_err(what)?;
            kept.file_bytes = kept.end;
        }
        if kept.durable < kept.end {
            rewrite(&*file, kept).map_err(what)?;
        }
        file.sync_data().map_err(what)?;
    }
    for &number in &found.free {
        sluice_env::probe!("wal: a free file was found");
        files.adopt_free(number)?;
    }
    let end = chain.kept.last().map_or(FileNo(0), |kept| kept.number);
    // An empty segment behind the end becomes the new one: no file to make, and the number that
    // an owner may have noted as the first one needed stays there.
    chain.empty.sort_unstable();
    // So does the first one needed when it was lost whole: a power cut can tear a segment that was
    // begun after the last sync, and the next opening would miss its file.
    let torn = chain.kept.is_empty() && chain.dropped.contains(&first_needed);
    let behind = chain.empty.iter().copied().find(|&number| number > end);
    let adopt = if torn { Some(first_needed) } else { behind };
    let mut gone: Vec<FileNo> = chain.dropped.clone();
    gone.extend(&chain.empty);
    gone.retain(|&number| Some(number) != adopt);
    gone.sort_unstable_by(|a, b| b.cmp(a));
    for number in gone {
        discard(files, number)?;
    }
    for &number in &found.leftovers {
        sluice_env::probe!("wal: a segment below the first needed one was left behind");
        discard(files, number)?;
    }
    match adopt {
        Some(number) => files.adopt(number),
        None => files.create(files.segment_bytes(), false),
    }
}

/// Writes what no sync is known to have covered once more, so that the next sync does. A process may
/// have died of a failed sync: what that left in the page cache reads well and counts as clean, and
/// no sync would ever write it (Rebello et al., "Can applications recover from fsync failures?", ATC
/// 2020).
///
/// Such pages may also leave the page cache at any time, and what is on the disk in their place was
/// never replayed: bytes that have changed since are refused.
fn rewrite(file: &dyn File, kept: &Kept) -> std::io::Result<()> {
    sluice_env::probe!("wal: recovery wrote unsynced bytes once more");
    let mut buf = vec![0; (kept.end - kept.tail_from).min(REWRITE_BYTES) as usize];
    let (mut offset, mut crc) = (kept.tail_from, 0);
    while offset < kept.end {
        let part = &mut buf[..(kept.end - offset).min(REWRITE_BYTES) as usize];
        file.read_exact_at(part, offset)?;
        crc = checksum::crc32c_append(crc, part);
        file.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    if crc != kept.tail_crc {
        return Err(std::io::Error::other(
            "unsynced bytes have changed since they were replayed a moment ago, as after a sync that \
             failed: open once more to recover what the device holds",
        ));
    }
    Ok(())
}

/// Frees a segment file of unknown size.
fn discard(files: &Files, number: FileNo) -> Result<()> {
    let what = |e| Error::io(format!("look at wal segment {number}"), e);
    let path = files.path(number);
    let file = files.env.fs.open(&path, OpenMode::Read).map_err(what)?;
    let bytes = file.len().map_err(what)?;
    files.retire(number, bytes, false).map(|_| ())
}

/// The kept segments as the running log sees them: written, durable, without an open file.
fn live_of(chain: &Chain) -> VecDeque<Live> {
    let mut base = 0;
    chain
        .kept
        .iter()
        .map(|kept| {
            let live = Live {
                number: kept.number,
                file: None,
                capacity: kept.file_bytes,
                written: false,
                base,
                end: kept.end,
                durable: kept.end,
                first_seq: kept.first_seq,
                next_seq: kept.next_seq,
                sealed: true,
            };
            base += kept.end;
            live
        })
        .collect()
}
