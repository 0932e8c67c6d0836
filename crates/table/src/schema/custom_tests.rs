//! What custom schemas are called, what they believe, and what is left of them without their code.

use sluice_base::ErrorKind;
use sluice_env::Rng;

use super::*;
use crate::{
    FieldValue, KeyPredicate,
    schema::sample::{self, splitters},
};

/// Says whatever it is told to.
#[derive(Debug)]
struct Says(&'static [usize], bool);

impl KeySplitter for Says {
    fn name(&self) -> &str {
        "says"
    }

    fn version(&self) -> u32 {
        3
    }

    fn fields(&self) -> Vec<SplitField> {
        vec![SplitField::uint("a", IntWidth::Two), SplitField::bytes("b")]
    }

    fn contract(&self) -> &str {
        "says"
    }

    fn split(&self, _: &[u8], ends: &mut Vec<usize>) -> bool {
        ends.extend(self.0);
        self.1
    }
}

#[test]
fn p12_a_custom_descriptor_has_these_bytes() {
    let schema = splitters::of(Arc::new(splitters::Framed::default()));
    let mut bytes = b"\x01\x06framed\x03".to_vec();
    // The low 60 bits of XXH3(contract), then 4 bits of width; both fields behind have the width alone.
    bytes.extend(b"\x07\xe1\x97\xca\x92\x99\x96\xce\xf5\xcd\x01\x04kind");
    bytes.extend(b"\x07\x00\x04body\x07\x02\x02id");
    assert_eq!(schema.encode(), bytes, "{:02x?}", schema.encode());
    let contract = checksum::xxh3(b"the first byte and the last two are integers");
    assert_eq!(schema.descriptor().fields[0].parameter, contract << 4 | 1);
    assert_eq!(schema.to_string(), "kind custom u8, body custom, id custom u16");
    assert_eq!(schema.id().to_string(), "framed v1 (e3cebc44381297b8)");
}

#[test]
fn every_part_of_the_identity_makes_another_schema() {
    let of =
        |version, contract| splitters::of(Arc::new(splitters::Framed { version, contract })).id();
    let same = of(1, "a");
    assert_eq!(same, of(1, "a"));
    assert!(of(2, "a") != same && of(1, "b").hash != same.hash);
    // The same fields, declared: another schema, whose columns are not asked for this one's.
    let declared = KeySchema::parse("framed", 1, "kind u8, body rest").unwrap();
    assert_ne!(declared.id().hash, same.hash);
}

#[test]
fn what_a_splitter_says_is_checked() {
    for (ends, said, wanted) in [
        (&[2usize, 5][..], true, true),
        (&[2, 5], false, false),
        (&[], true, false),
        (&[5], true, false),
        (&[2, 5, 5], true, false),
        (&[2, 4], true, false),
        (&[2, 6], true, false),
        (&[1, 5], true, false), // the integer has two bytes
        (&[3, 5], true, false),
        (&[5, 2], true, false),
        (&[usize::MAX, 5], true, false),
    ] {
        let schema = splitters::of(Arc::new(Says(ends, said)));
        let mut found = vec![9; 9];
        assert_eq!(schema.split_ends(b"ABcde", &mut found), wanted, "{ends:?}");
        let values = [FieldValue::Number(0x4142), FieldValue::Bytes(b"cde"[..].into())];
        assert_eq!(schema.split(b"ABcde"), wanted.then(|| values.to_vec()), "{ends:?}");
        assert_eq!(schema.join(&values).ok(), wanted.then(|| b"ABcde".to_vec()), "{ends:?}");
    }
}

#[test]
fn p11_what_splits_joins_to_the_same_bytes() {
    let mut rng = Rng::new(0x5eed_0007);
    let mut split = 0;
    for _ in 0..3000 {
        let schema = splitters::schema(&mut rng);
        let key = sample::key(&mut rng, &schema);
        let Some(values) = schema.split(&key) else { continue };
        assert_eq!(schema.join(&values).unwrap(), key);
        split += 1;
    }
    assert!(split > 1000, "{split}");
    // A value in which the splitter finds an end of its own.
    let schema = splitters::of(Arc::new(splitters::LastLetter));
    let bytes = |bytes: &'static [u8]| FieldValue::Bytes(bytes.into());
    let error = schema.join(&[bytes(b"a"), bytes(b"ba")]).unwrap_err();
    assert!(error.to_string().contains("does not split it so"), "{error}");
}

#[test]
fn without_its_splitter_a_schema_is_known_and_splits_nothing() {
    let schema = splitters::of(Arc::new(splitters::LastLetter));
    let read = KeySchema::decode(&schema.encode()).unwrap();
    assert_eq!((&read, read.id()), (&schema, schema.id()));
    assert!(schema.can_split() && read.is_custom() && !read.can_split());
    assert_eq!(read.split(b"xaz"), None);
    assert_eq!(read.to_string(), "lead custom, tail custom");
    let error = KeyPredicate::new(Arc::new(read))
        .equal("lead", FieldValue::Bytes(b"xa"[..].into()))
        .unwrap_err();
    assert!(error.to_string().contains("KeySchema::custom"), "{error}");
}

#[test]
fn p12_descriptors_that_mean_more_than_this_build_knows_are_unsupported() {
    let schema = splitters::of(Arc::new(splitters::Framed::default()));
    for (index, kind, parameter) in
        [(0, 7, 3), (0, 7, 15), (1, 7, 16), (1, 7, 3), (2, 7, 1 << 60 | 2), (1, 1, 0), (2, 8, 0)]
    {
        let mut descriptor = schema.descriptor().clone();
        (descriptor.fields[index].kind, descriptor.fields[index].parameter) = (kind, parameter);
        let error = KeySchema::from_descriptor(descriptor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(&format!("kind {kind}, parameter {parameter}")));
    }
}

#[test]
fn p12_wrong_names_and_fields_are_refused() {
    #[derive(Debug)]
    struct Named(&'static str, Vec<SplitField>);

    impl KeySplitter for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn version(&self) -> u32 {
            1
        }

        fn fields(&self) -> Vec<SplitField> {
            self.1.clone()
        }

        fn contract(&self) -> &str {
            ""
        }

        fn split(&self, _: &[u8], _: &mut Vec<usize>) -> bool {
            false
        }
    }

    let field = SplitField::bytes;
    for (name, fields, wanted) in [
        ("", vec![field("a")], "not a name"),
        ("ok", vec![], "0 fields; give 1 to 62"),
        ("ok", vec![field("a"), field("a")], "the name is taken"),
        ("ok", vec![field("a b")], "not a name"),
        ("ok", vec![field("a"); 63], "63 fields"),
    ] {
        let error = KeySchema::custom(Arc::new(Named(name, fields))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let built = KeySchema::builder("s", 1).field("a", FieldType::Custom).build();
    assert!(built.unwrap_err().to_string().contains("KeySplitter"));
    assert!(KeySchema::parse("s", 1, "a custom").is_err());
}
