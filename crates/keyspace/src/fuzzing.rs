//! The decoders of this crate as total functions over bytes, for the fuzz targets. Not API.

use crate::row::Head;

/// A meta row: what is understood must encode to the same bytes.
pub fn meta_row(bytes: &[u8]) {
    if let Ok((head, payload)) = Head::decode(bytes) {
        let mut again = Vec::new();
        head.encode(&mut again);
        assert_eq!(again, bytes[..payload]);
    }
}
