//! The Rust in the pages: it compiles here, line for line, or the test next door fails. Not run.

#![allow(dead_code, reason = "compiled, not run")]
#![allow(clippy::print_stdout, reason = "an example prints")]

#[rustfmt::skip]
pub fn readme() -> sluicedb::Result<()> {
    use sluicedb::{Db, FlushRequest, Options, WriteBatch, WriteOptions};

    let db = Db::open("./data", Options::default())?;
    let cf = db.default_cf();
    let mut batch = WriteBatch::new();
    batch.put(&cf, b"from", b"90");
    batch.put(&cf, b"to", b"10");
    db.write(&batch, &WriteOptions::default())?;                  // atomic, logged, visible
    let report = db.flush(FlushRequest::default())?.wait(None)?; // in a table, synced, confirmed
    println!("safe up to {}: {} bytes in {:?}", report.position, report.bytes_out, report.took);
    Ok(())
}

#[rustfmt::skip]
pub fn guide() -> sluicedb::Result<()> {
    use sluicedb::{Db, Options};

    let options = Options { memory_budget: 2 << 30, memtable_bytes: 128 << 20, ..Options::default() };
    options.validate()?;
    let db = Db::open("./data", options)?;
    println!("{:?}", db.positions());
    Ok(())
}
