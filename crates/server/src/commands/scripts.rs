//! What the comparison with a real server cannot fix to the millisecond: expiry, representation,
//! whole databases, values that are no strings.

use super::harness::Harness;
use sluice_keyspace::{Head, LatchSet, Repr, ValueType};
use sluicedb::WriteOptions;

#[test]
fn set_options() {
    let mut h = Harness::new();
    h.script(
        "
        SET k v PX 500 => +OK
        PTTL k => :500
        PEXPIRETIME k => :1000500
        TTL k => :1
        SET k w KEEPTTL => +OK
        PTTL k => :500
        SET k x GET => $1|w
        PTTL k => :-1
        SET k y NX GET => $1|x
        GET k => $1|x
        SET new z XX GET => $-1
        SET k y NX => $-1
        SET k y NX XX => -ERR syntax error
        SET k y EX 10 PX 10 => -ERR syntax error
        SET k y EX 10 KEEPTTL => -ERR syntax error
        SET k y EX 0 => -ERR invalid expire time in 'set' command
        SET k y EX 9223372036854775807 => -ERR invalid expire time in 'set' command
        SET k y EX ten => -ERR value is not an integer or out of range
        SETEX k -1 v => -ERR invalid expire time in 'setex' command
        PSETEX k 0 v => -ERR invalid expire time in 'psetex' command
        GETEX k EX 0 => -ERR invalid expire time in 'getex' command
        GETEX k PXAT 5 => $1|x
        EXISTS k => :0
        ",
    );
}

#[test]
fn a_key_is_there_until_its_moment_is_over() {
    let mut h = Harness::new();
    h.script("SET k v PX 100 => +OK");
    h.now_ms += 100;
    h.script("GET k => $1|v \n PTTL k => :0 \n EXISTS k k => :2");
    h.now_ms += 1;
    h.script(
        "
        GET k => $-1
        TTL k => :-2
        TYPE k => +none
        KEYS * => *0
        RANDOMKEY => $-1
        DBSIZE => :1
        DEL k => :0
        DBSIZE => :0
        SET k 5 PXAT 1 => +OK
        DBSIZE => :1
        INCR k => :1
        TTL k => :-1
        DBSIZE => :1
        ",
    );
}

#[test]
fn expire_conditions() {
    let mut h = Harness::new();
    h.script(
        "
        SET k v => +OK
        EXPIRE k 10 XX => :0
        EXPIRE k 10 GT => :0
        EXPIRE k 10 LT => :1
        EXPIRE k 20 NX => :0
        EXPIRE k 20 LT => :0
        EXPIRE k 20 GT XX => :1
        TTL k => :20
        EXPIRE k 1 NX GT => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 AB => -ERR Unsupported option AB
        EXPIRE k 9223372036854775807 => -ERR invalid expire time in 'expire' command
        PEXPIREAT k x => -ERR value is not an integer or out of range
        PERSIST k => :1
        PERSIST k => :0
        EXPIRE k -1 => :1
        EXISTS k => :0
        EXPIRE k 10 => :0
        ",
    );
}

#[test]
fn representation_follows_how_the_value_came_to_be() {
    let mut h = Harness::new();
    let long = "x".repeat(45);
    h.run(&format!("SET long {long}"));
    h.script(
        "
        SET k 12 => +OK
        OBJECT ENCODING k => $3|int
        OBJECT REFCOUNT k => :2147483647
        APPEND k 3 => :3
        OBJECT ENCODING k => $3|raw
        INCR k => :124
        OBJECT ENCODING k => $3|int
        INCRBYFLOAT k 1 => $3|125
        OBJECT ENCODING k => $6|embstr
        SETRANGE k 0 9 => :3
        OBJECT ENCODING k => $3|raw
        RENAME k r => +OK
        OBJECT ENCODING r => $3|raw
        OBJECT ENCODING long => $3|raw
        SET k abc => +OK
        OBJECT ENCODING k => $6|embstr
        OBJECT IDLETIME k => :0
        OBJECT FREQ none => $-1
        ",
    );
}

#[test]
fn databases_are_flushed_swapped_and_moved_between() {
    let mut h = Harness::new();
    h.script(
        "
        MSET a 1 b 2 => +OK
        EXPIRE a 100 => :1
        MOVE a 1 => :1
        MOVE b 0 => -ERR source and destination objects are the same
        MOVE b 16 => -ERR DB index is out of range
        COPY b b DB 1 => :1
        COPY b b => -ERR source and destination objects are the same
        DBSIZE => :1
        SWAPDB 0 1 => +OK
        DBSIZE => :2
        TTL a => :100
        FLUSHDB ASYNC => +OK
        DBSIZE => :0
        GET a => $-1
        SET a new => +OK
        SWAPDB 0 1 => +OK
        GET b => $1|2
        FLUSHALL => +OK
        DBSIZE => :0
        SWAPDB 0 x => -ERR invalid second DB index
        SWAPDB 0 99 => -ERR DB index is out of range
        FLUSHDB NOW => -ERR syntax error
        ",
    );
    let options = WriteOptions::default();
    while h.keyspace.maintenance(1, &options).unwrap().more {}
    assert!((0..16).all(|db| h.keyspace.stats(db) == Default::default()));
}

#[test]
fn commands_for_strings_refuse_other_types() {
    let mut h = Harness::new();
    let mut latches = LatchSet::new();
    latches.add_key(b"h");
    h.txn.begin_write(h.now_ms, &latches);
    let head = Head { kind: ValueType::Hash, repr: Repr::Auto, expire_at: None };
    h.txn.put(0, b"h", head, &[b"anything"]).unwrap();
    h.txn.commit(&WriteOptions::default()).unwrap();
    for command in [
        "GET h",
        "SET h v GET",
        "GETSET h v",
        "GETDEL h",
        "GETEX h",
        "APPEND h v",
        "STRLEN h",
        "GETRANGE h 0 -1",
        "SETRANGE h 0 v",
        "INCR h",
        "DECRBY h 2",
        "INCRBYFLOAT h 1",
    ] {
        let expected = "-WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(h.run(command), expected, "{command}");
    }
    h.script(
        "
        LCS h h => -ERR The specified keys must contain string values
        MGET h => *1|$-1
        TYPE h => +hash
        SCAN 0 TYPE hash => *2|$1|0|*1|$1|h
        SCAN 0 TYPE string => *2|$1|0|*0
        EXPIRE h 100 => :1
        COPY h g => :1
        TYPE g => +hash
        TTL g => :100
        SET h v => +OK
        TYPE h => +string
        ",
    );
}

#[test]
fn sizes_beyond_the_limit_are_refused() {
    let mut h = Harness::new();
    h.script(
        "
        SETRANGE k 536870911 ab => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 9223372036854775807 a => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k -1 a => -ERR offset is out of range
        EXISTS k => :0
        SETRANGE k 20000 a => :20001
        LCS k k LEN => -ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len
        ",
    );
}

#[test]
fn a_failed_command_leaves_nothing() {
    let mut h = Harness::new();
    h.script(
        "
        MSET a 1 b => -ERR wrong number of arguments for 'mset' command
        EXISTS a => :0
        SET n 9223372036854775807 => +OK
        INCR n => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => -ERR decrement would overflow
        INCRBYFLOAT n inf => -ERR increment would produce NaN or Infinity
        GET n => $19|9223372036854775807
        ",
    );
}
