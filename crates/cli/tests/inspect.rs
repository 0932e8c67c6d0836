//! `sluice inspect table FILE` as an operator meets it: what it prints of a sound file, and that a file
//! which is damaged, of a newer format or no table at all is a sentence and status 1.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use sluice_base::{Kind, Trailer, checksum};
use sluice_table::{Compression, FieldValue, KeySchema, TableOptions, TableWriter};
use sluicedb::env::{DiskFs, Fs, Rng};
use sluicedb::{Db, FileNo, FlushRequest, Options, SeqNo};

/// 40 tenants with 50 moments each, one key that does not split, one deleted.
fn write_table(path: &Path) {
    let schema = KeySchema::parse("events", 2, "tenant escaped, ts u64 desc").unwrap();
    let options = TableOptions {
        schema: Arc::new(schema.clone()),
        compression: Compression::None,
        created_for: "a \u{1b}[31mtest".to_owned(),
        ..TableOptions::default()
    };
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let mut writer = TableWriter::create(&fs, path, FileNo(7), options).unwrap();
    let mut rows = vec![(b"zz\0\x02odd".to_vec(), false)];
    for tenant in 0..40 {
        let tenant = format!("tenant-{tenant:02}");
        for ts in 0..50 {
            let fields =
                [FieldValue::Bytes(tenant.as_bytes().into()), FieldValue::Number(1000 + ts)];
            rows.push((schema.join(&fields).unwrap(), tenant == "tenant-00" && ts == 48));
        }
    }
    rows.sort();
    for (number, (key, is_deleted)) in rows.iter().enumerate() {
        let kind = if *is_deleted { Kind::Delete } else { Kind::Put };
        let value = if *is_deleted { vec![] } else { vec![b'v'; 30] };
        let trailer = Trailer::new(SeqNo(number as u64 + 1), kind);
        writer.add(key, trailer, &value).unwrap();
    }
    writer.finish().unwrap();
}

fn inspect(path: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["inspect", "table"]).arg(path).args(options).output().unwrap()
}

fn printed(path: &Path, options: &[&str]) -> String {
    let output = inspect(path, options);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{options:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says on stderr, with status 1.
fn refused(path: &Path, options: &[&str]) -> String {
    let output = inspect(path, options);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{options:?}: {stderr}");
    assert!(stderr.starts_with("sluice: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

#[test]
fn a_table_is_shown_with_its_schema_columns_blocks_and_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("000007.sst");
    write_table(&path);
    let text = printed(&path, &["--blocks", "--rows", "3", "--verify"]);
    for wanted in [
        "  name        events\n  version     2\n",
        "  fields      tenant escaped, ts u64 desc\n",
        "  entries              2001\n  puts                 2000\n  tombstones           1\n",
        // Nothing of a file steers a terminal.
        "  created for          a \\u{1b}[31mtest\n",
        "  largest key          \"zz\\x00\\x02odd\"\n",
        "key tenant",
        "key ts",
        // The statistics of the first block, as numbers of the application.
        ", tenant \"tenant-00\" to \"tenant-",
        ", ts 1000 to 1049\n",
        "exception",
        ", 2001 in all; 1 tombstones, 1 keys that do not split\n  0: at 0, ",
        "rows:\n  0.0 tenant=\"tenant-00\" ts=1049 @1 = \"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\"\n  \
         0.1 tenant=\"tenant-00\" ts=1048 @2 deleted\n  0.2 tenant=\"tenant-00\" ts=1047 @3 = ",
        " blocks, 2001 entries\n",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing in\n{text}");
    }
    assert_eq!(text.matches("\n  0.").count(), 3, "{text}");

    // Bits per key times keys are the bytes, column by column.
    let mut columns = 0;
    for line in text.lines().skip_while(|line| !line.contains("bits/key")).skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(at) = words.iter().position(|word| word.contains('.')) else { break };
        let (bytes, bits) = (words[at - 1].parse::<f64>(), words[at].parse::<f64>());
        let (bytes, bits) = (bytes.unwrap(), bits.unwrap());
        assert!((bits * 2001.0 / 8.0 - bytes).abs() < 2.0, "{line}");
        columns += 1;
    }
    assert!(columns >= 9, "{text}");

    // The last block has the key that does not split.
    let blocks = text.lines().filter(|line| line.contains(" unpacked, none)")).count();
    let last = (blocks - 1).to_string();
    let text = printed(&path, &["--block", &last, "--rows", "0"]);
    assert!(text.starts_with(&format!("block {last}: at ")), "{text}");
    assert!(
        text.ends_with(
            " whole key \"zz\\x00\\x02odd\" @2001 = \"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\"\n"
        )
    );
    let error = refused(&path, &["--block", &blocks.to_string()]);
    assert!(error.contains(&format!("there is no data block {blocks}; they are 0 to {last}")));
}

#[test]
fn p12_no_file_makes_it_panic_and_every_refusal_is_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("000007.sst");
    write_table(&path);
    let sound = std::fs::read(&path).unwrap();
    let store = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();

    assert!(refused(directory.path(), &[]).contains("Is a directory"));
    assert!(refused(&directory.path().join("none"), &[]).contains("No such file"));
    store(b"");
    assert!(refused(&path, &[]).contains("expected a table of at least 80 bytes, found 0 bytes"));
    store(&[b'x'; 5000]);
    assert!(refused(&path, &[]).contains("expected the magic SLUICSST"));
    // Version, magic and checksum keep their places: a newer format is told from damage.
    let mut newer = sound.clone();
    let footer = newer.len() - 80;
    newer[footer + 64] = 99;
    let crc = checksum::crc32c(&newer[footer..footer + 68]);
    newer[footer + 68..footer + 72].copy_from_slice(&crc.to_le_bytes());
    store(&newer);
    assert!(refused(&path, &[]).contains("version 99"));

    // Damage in a block: what the index says is printed all the same.
    let mut damaged = sound.clone();
    damaged[100] ^= 1;
    store(&damaged);
    let output = inspect(&path, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("  name        events\n"));
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("000007.sst is damaged at offset 0")
    );

    let seed = 0x5eed_1357;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    for _ in 0..40 {
        let mut bytes = sound.clone();
        match rng.below(3) {
            0 => bytes.truncate(rng.below(sound.len() as u64) as usize),
            1 => bytes[rng.below(sound.len() as u64) as usize] ^= 1 << rng.below(8),
            _ => {
                let at = sound.len() - 1 - rng.below(900) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        store(&bytes);
        let error = refused(&path, &["--blocks", "--rows", "0", "--verify"]);
        assert!(error.contains("000007.sst"), "{error}");
    }
}

/// The first case of docs/guide/key-schemas.md, which shows what its keys cost.
#[test]
fn the_guides_multi_tenant_table_is_a_quarter_smaller_and_its_keys_half_as_large() {
    let cost = |is_under_schema: bool| {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(directory.path(), Options::default()).unwrap();
        let cf = db.default_cf();
        let text = "table u32, tenant escaped, created u64 desc, id u64";
        let rows = KeySchema::parse("rows", 1, text).unwrap();
        if is_under_schema {
            db.set_key_schema(&cf, rows.clone()).unwrap();
        }
        for id in 0..20_000 {
            let tenant = format!("tenant-{:03}", id % 50);
            let fields = [
                FieldValue::Number(7),
                FieldValue::Bytes(tenant.as_bytes().into()),
                FieldValue::Number(1_700_000_000_000 + id * 977),
                FieldValue::Number(id),
            ];
            db.put(&cf, &rows.join(&fields).unwrap(), b"row").unwrap();
        }
        db.flush(FlushRequest::default()).unwrap().wait(None).unwrap();
        let name = if is_under_schema { "rows" } else { "whole-key" };
        let tables = db.schema_tables(name);
        let path = directory.path().join(format!("{:06}.sst", tables[0].file.0));
        let text = printed(&path, &[]);
        let keys = text.lines().filter_map(|line| line.strip_prefix("  key "));
        let keys = keys.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap());
        (tables[0].bytes, keys.sum::<u64>())
    };
    let (whole, columns) = (cost(false), cost(true));
    println!("file and key bytes: {whole:?}, {columns:?}");
    assert!(columns.0 * 4 < whole.0 * 3 && columns.1 * 100 < whole.1 * 55);
}
