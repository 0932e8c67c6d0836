//! The engine: manifest, versions and the compaction picker.

pub mod compaction;
pub mod manifest;
pub mod version;
