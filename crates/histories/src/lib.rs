//! Histories of concurrent clients of a running server, and the judges of them.
//!
//! ```text
//! clients  ──▶  what was asked, what came back, when        client, record, *_load
//!                   │
//!                   ├──▶  registers: is there one order?    linear, register
//!                   └──▶  lists, transactions: any cycle?   lists
//! ```
//!
//! A history says for each operation when it was called, when it returned, and what. A client whose
//! connection dies does not know whether its operation happened: such an operation may take effect
//! at any later moment, or never. The judges look for an order of all operations that explains every
//! reply and in which nothing that returned comes after something that was called later. Where there
//! is none, no implementation that is atomic could have answered so.
//!
//! This crate knows the protocol and nothing of the engine. It starts no threads and no servers: the
//! tests do (`crates/cli/tests/histories.rs`).

pub mod client;
pub mod linear;
pub mod list_load;
pub mod lists;
pub mod record;
pub mod register;
pub mod register_load;
