//! Feeds bytes to the decoder of manifest edits. What it understands must survive being written
//! again, and applying it must give a state or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicedb::{
    manifest::{decode_edit, dump, encode_edit},
    version::VersionState,
};

fuzz_target!(|bytes: &[u8]| {
    let _ = dump(bytes);
    let Ok(edit) = decode_edit(bytes) else { return };
    assert_eq!(decode_edit(&encode_edit(&edit)).as_ref(), Ok(&edit));
    if let Ok(state) = VersionState::<()>::empty().apply(&edit) {
        let _ = state.check();
    }
});
