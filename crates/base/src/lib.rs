//! The vocabulary every other crate speaks: sequence numbers and ids, entry kinds, varints,
//! checksums, limits, and the one error type. Pure values: nothing here performs I/O, reads a
//! clock or starts a thread, so everything here can be tested as arithmetic.

pub mod checksum;
mod entry;
mod error;
mod ids;
pub mod limits;
pub mod varint;

pub use entry::{Kind, Trailer};
pub use error::{Damage, Error, ErrorKind, Result};
pub use ids::{CfId, FileNo, Level, Position, SeqNo};
