//! RESP2 and RESP3 as bytes: a request parser and a reply writer. Knows no commands, no sockets.
//!
//! Input comes from strangers: every decoder here is total (no panic, no overflow, no memory taken
//! on the word of a length that has only been announced).

mod double;
#[doc(hidden)]
pub mod fuzzing;
mod inline;
mod number;
mod reply;
mod request;

pub use double::format_double;
pub use inline::{UnbalancedQuotes, split_inline};
pub use number::{Decimal, parse_i64};
pub use reply::{Proto, ReplyBuf};
pub use request::{INLINE_BYTES_MAX, Limits, ProtocolError, RequestParser, Step};
