//! The manifest: the append-only, checksummed log of version edits that says which files make up
//! the database.
//!
//! ```text
//!   CURRENT ──names──▶ MANIFEST-000012   header │ snapshot frames │ edit │ edit │ edit …
//!                                                └ the whole state  └ one synced append each
//!   LOCK   000009.wal …   000007.sst …   (CURRENT.tmp while switching)
//! ```
//!
//! Invariants:
//! 1. `CURRENT` names a manifest only after its header and whole snapshot are durable.
//! 2. An edit is in the state only after its frame is durable, and frames are synced one by one:
//!    so only the very last frame of a file can be torn by a crash. Anything else that does not
//!    verify is damage and is reported, never skipped.
//! 3. After a failed append nothing is ever appended to that file again. The failed edit is **in
//!    doubt** until the next rotation has succeeded: a crash before that may bring it back. The
//!    engine keeps every file the edit names, those it adds and those it removes, until then.
//! 4. A directory that holds data but no `CURRENT` is an error, never an empty database.
//!
//! Files: [`FileName`] knows the names, `field` and `edit_codec` the bytes of an edit, `frame` the
//! bytes around it, [`ManifestWriter`] and [`read`] the files. Byte layout: `docs/format/manifest.md`.

mod current;
mod dump;
mod edit_codec;
mod field;
mod frame;
mod names;
mod read;
mod snapshot;
mod writer;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
pub(crate) mod sample;

pub use dump::dump;
pub use edit_codec::{decode_edit, encode_edit};
pub use field::DecodeError;
pub use names::FileName;
pub use read::read;
pub use writer::ManifestWriter;
