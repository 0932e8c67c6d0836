//! Keys of several shapes, for the benchmarks of tables and blocks.

use std::sync::Arc;

use sluice_env::Rng;
use sluice_table::{FieldValue, KeySchema, filter_hash};

/// Keys that a schema fits, in order.
pub struct Case {
    pub name: &'static str,
    pub schema: Arc<KeySchema>,
    pub keys: Vec<Vec<u8>>,
}

fn case(name: &'static str, text: &str, mut keys: Vec<Vec<FieldValue<'static>>>) -> Case {
    let schema = KeySchema::parse("bench", 1, text).expect("a schema");
    let mut keys: Vec<_> =
        keys.drain(..).map(|fields| schema.join(&fields).expect("fields of the schema")).collect();
    keys.sort();
    keys.dedup();
    Case { name, schema: Arc::new(schema), keys }
}

const HASH: &str = "ns u16, slot u16, key counted u32, version u64, field rest";

const PROFILE: [&str; 10] = [
    "age",
    "city",
    "country",
    "created_at",
    "email",
    "last_seen",
    "name",
    "password",
    "phone",
    "status",
];

/// The key of a field of a Redis hash, as the server would lay it out.
fn hash_row(key: &str, version: u64, field: &str) -> Vec<FieldValue<'static>> {
    use FieldValue::Number;
    // Any spreading function does; Redis's CRC16 has the same range.
    let slot = filter_hash(key.as_bytes()) % 16_384;
    vec![Number(0), Number(slot), bytes(key), Number(version), bytes(field)]
}

fn bytes(bytes: impl Into<Vec<u8>>) -> FieldValue<'static> {
    FieldValue::Bytes(bytes.into().into())
}

pub fn cases(rows: u64) -> Vec<Case> {
    use FieldValue::Number;
    let mut rng = Rng::new(1);
    let start_ms = 1_700_000_000_000;
    let events = (0..rows)
        .map(|row| {
            let tenant = format!("tenant-{:05}", rng.below(1 + rows / 2000));
            vec![bytes(tenant), Number(start_ms + row * 40 + rng.below(40))]
        })
        .collect();
    let sensors = (0..rows)
        .map(|row| {
            let tenant = format!("customer-{:06}", rng.below(1 + rows / 50));
            vec![Number(7), bytes(tenant), Number(start_ms + row * 40), bytes(*b"v")]
        })
        .collect();
    // A profile of ten fields a hash; versions are moments, so they differ from hash to hash.
    let profiles = (0..rows)
        .map(|row| {
            let user = row / 10;
            let key = format!("user:{:08}", user * 7 % 10_000_000);
            let field = PROFILE[row as usize % 10];
            hash_row(&key, start_ms + user * 13, field)
        })
        .collect();
    let hashes = (0..rows)
        .map(|_| {
            let number = rng.below(1 + rows / 1000);
            let field = format!("field:{}", rng.below(1_000_000));
            hash_row(&format!("user:profile:{number}"), start_ms + number * 13, &field)
        })
        .collect();
    let random = (0..rows)
        .map(|_| {
            let mut key = vec![0; 16];
            rng.fill(&mut key);
            vec![bytes(key)]
        })
        .collect();
    vec![
        case("tenant, ts; 2,000 rows a tenant", "tenant escaped, ts u64 desc", events),
        case(
            "table, tenant, ts, rest; 50 a tenant",
            "table u32, tenant escaped, ts u64 desc, rest",
            sensors,
        ),
        case("hashes of 10 named fields", HASH, profiles),
        case("hashes of 1,000 fields", HASH, hashes),
        case("16 random bytes", "id fixed 16", random),
    ]
}
