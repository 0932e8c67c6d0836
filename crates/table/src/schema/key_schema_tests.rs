//! Splitting, joining and the text form, over random schemas and hostile keys.

use sluice_env::Rng;

use super::*;
use crate::schema::sample;

#[test]
fn the_whole_key_is_the_schema_of_old_tables() {
    let whole = KeySchema::whole_key();
    assert!(whole.is_whole_key());
    assert_eq!(KeySchema::from_descriptor(Schema::whole_key()).unwrap(), whole);
    assert_eq!(whole.to_string(), "key rest");
    assert_eq!(KeySchema::parse("whole-key", 1, "key rest").unwrap(), whole);
}

#[test]
fn a_descriptor_has_these_bytes() {
    let text = "a u32, b u64 desc, c escaped, d fixed 16, e counted u16, rest";
    let schema = KeySchema::parse("s", 3, text).unwrap();
    let bytes = b"\x03\x01s\x06\x03\x04\x01a\x04\x08\x01b\x05\x00\x01c\x02\x10\x01d\x06\x02\x01e\x01\x00\x04rest";
    assert_eq!(schema.descriptor().encode(), bytes);
    assert_eq!(schema.to_string(), text);
}

#[test]
fn p11_what_splits_joins_to_the_same_bytes_and_keeps_the_order() {
    let seed = 0x5eed_5c4e;
    println!("seed {seed:#x}");
    let mut rng = Rng::new(seed);
    let (mut split, mut whole) = (0, 0);
    for round in 0..300 {
        let schema = sample::schema(&mut rng);
        println!("round {round}: {schema}");
        assert_eq!(KeySchema::parse("random", 1, &schema.to_string()).unwrap(), schema);
        let decoded = Schema::decode(&schema.descriptor().encode()).unwrap();
        assert_eq!(KeySchema::from_descriptor(decoded).unwrap(), schema);
        let mut keys: Vec<Vec<u8>> = (0..60).map(|_| sample::key(&mut rng, &schema)).collect();
        keys.sort();
        let (mut ends, mut before) = (Vec::new(), None::<Vec<Vec<u8>>>);
        for key in &keys {
            let Some(values) = schema.split(key) else {
                assert!(!schema.split_ends(key, &mut ends));
                whole += 1;
                continue;
            };
            split += 1;
            assert_eq!(&schema.join(&values).unwrap(), key, "{values:?}");
            assert!(schema.split_ends(key, &mut ends));
            // Field by field is the order of the keys.
            let mut start = 0;
            let fields: Vec<Vec<u8>> = ends
                .iter()
                .map(|&end| key[std::mem::replace(&mut start, end)..end].to_vec())
                .collect();
            assert!(before.as_ref() <= Some(&fields), "{before:?} {fields:?}");
            before = Some(fields);
        }
    }
    assert!(split > 5000 && whole > 1000, "{split} keys split, {whole} did not");
}

#[test]
fn values_sort_as_the_types_say() {
    let schema = KeySchema::parse("s", 1, "name escaped, ts u16 desc").unwrap();
    let key = |name: &[u8], ts| {
        schema.join(&[FieldValue::Bytes(name.into()), FieldValue::Number(ts)]).unwrap()
    };
    let names: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"a\x01"];
    let mut keys = Vec::new();
    for name in names {
        for ts in [65535, 256, 255, 0] {
            keys.push(key(name, ts));
        }
    }
    assert!(keys.is_sorted());
    let value = FieldValue::Number(65536);
    let error = schema.join(&[FieldValue::Bytes(b"a"[..].into()), value]).unwrap_err();
    assert!(error.to_string().contains("key field ts: 65536 does not fit"), "{error}");
}

#[test]
fn p12_wrong_texts_are_refused_with_the_place_and_the_way_out() {
    for (text, wanted) in [
        ("", "field 1 at byte 0: nothing; write a name and a type"),
        ("a u32,, rest", "field 2 at byte 6: nothing"),
        ("a u32, b", "field 2 at byte 7: \"b\" has no type"),
        ("a u24", "\"a\" has type \"u24\"; use one of u8"),
        ("a u32 down", "has type \"u32 down\""),
        ("a fixed 99999", "has type \"fixed 99999\""),
        ("a fixed 0", "parameter 0"),
        ("a fixed 5000", "parameter 5000"),
        ("a counted u64", "parameter 8"),
        ("rest, a u8", "field 1, \"rest\": the rest leaves nothing"),
        ("a u8, a u16", "field 2, \"a\": the name is taken"),
        ("1a u8", "field 1, \"1a\": not a name; use 1 to 64 letters"),
        ("\u{e4} u8", "not a name"),
    ] {
        let error = KeySchema::parse("s", 1, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(error.to_string().contains(wanted), "{text:?}: {error}");
    }
    let many: Vec<String> = (0..63).map(|index| format!("f{index} u8")).collect();
    assert!(KeySchema::parse("s", 1, &many[..62].join(",")).is_ok());
    let error = KeySchema::parse("s", 1, &many.join(",")).unwrap_err();
    assert!(error.to_string().contains("63 fields; give 1 to 62"), "{error}");
}

#[test]
fn p12_a_newer_field_kind_is_unsupported() {
    for (kind, parameter) in [(8, 0), (0, 0), (3, 3), (1, 1), (2, 0), (5, 1), (6, 8)] {
        let mut schema = Schema::whole_key();
        schema.fields[0] = SchemaField { kind, parameter, name: "new".to_owned() };
        let error = KeySchema::from_descriptor(schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("kind {kind}, parameter {parameter}")));
    }
}
