//! The engine's decoders as total functions over bytes, for the fuzz targets. Not part of the API.

use crate::{
    batch::Entries,
    manifest::{decode_edit, dump, encode_edit},
    version::VersionState,
};

/// A manifest edit: what is understood must survive being written again, and applying it must give
/// a state or an error.
pub fn manifest_edit(bytes: &[u8]) {
    let _ = dump(bytes);
    let Ok(edit) = decode_edit(bytes) else { return };
    assert_eq!(decode_edit(&encode_edit(&edit)).as_ref(), Ok(&edit));
    if let Ok(state) = VersionState::<()>::empty().apply(&edit) {
        let _ = state.check();
    }
}

/// A batch payload, as the replay finds it in a log frame.
pub fn batch(bytes: &[u8]) {
    let mut entries = Entries::new(bytes);
    let count = entries.by_ref().map(|entry| entry.bytes()).fold(0usize, |n, _| n + 1);
    assert!(count <= bytes.len());
    let _ = entries.finished();
}
