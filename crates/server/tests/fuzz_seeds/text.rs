//! The seeds that are written by hand: requests, configuration, commands.

/// Streams of requests; see `sluice_resp::fuzzing::requests` for the first byte.
pub fn requests() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 14] = [
        b"*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
        b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"PING\r\nSET key \"a \\x41 b\"\r\nGET 'it\\'s'\r\n",
        b"\r\n\r\nPING\n",
        b"*0\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\n",
        b"*1048577\r\n",
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$-1\r\n",
        b"*2\r\n:1\r\n",
        b"*1\r\n$4\r\nPINGxx",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n",
        b"SET \"unbalanced\r\n",
        b"*2\r\n$4\r\nHELLO\r\n",
    ];
    let with = |first: u8| streams.iter().map(move |stream| [&[first][..], stream].concat());
    with(0).chain(with(6)).chain(with(128)).collect()
}

/// Text for `sluice_server::fuzzing::text`: the first byte chooses who reads it.
pub fn server() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for file in [
        "# a comment\nport 7000\nbind 127.0.0.1 ::1\nsave 900 1\nsave 300 10\n",
        "maxmemory 100mb\nappendonly yes\nappendfsync everysec\nrequirepass \"a b\\\"c\"\n",
        "client-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit pubsub 32mb 8mb 60\n",
        "dir \"/var/lib/with space\"\nlogfile 'it\\'s'\nunknown-thing 1\nsave \"\"\n",
        "bind \"a'b\" c\\x00d\nrequirepass \"a\\x00b\\x7f\"\nbind '#' \"\\\"\"\n",
        "workers 2\ndatabases 16\nnotify-keyspace-events KEA\nloglevel notice\n",
    ] {
        out.push([&[0][..], file.as_bytes()].concat());
    }
    for line in [
        "--port\n7000\n--save\n900\n1",
        "--appendfsync=always\n--bind\n127.0.0.1\n::1",
        "--memory-budget\n512mb\n--requirepass\n",
    ] {
        out.push([&[1][..], line.as_bytes()].concat());
    }
    for (index, value) in ["yes", "64mb", "-1", "900 1 300 10", "KEA", "1gb", "everysec", "a b"]
        .into_iter()
        .enumerate()
    {
        out.push([&[2, index as u8 * 9][..], value.as_bytes()].concat());
    }
    for pattern in ["h[a-c]llo\0hallo", "*a*b\0xaxb", "[^\\]]?\0ab", "plain\0plain"] {
        out.push([&[3][..], pattern.as_bytes()].concat());
    }
    for arguments in [
        "CF data meta TIMEOUT 7 REPORT",
        "ASYNC",
        "ID 5 ADDR 127.0.0.1:1 TYPE normal SKIPME no MAXAGE 3",
        "SET key value",
        "MSET a 1 b 2",
    ] {
        out.push([&[4][..], arguments.as_bytes()].concat());
    }
    for commands in [
        "SET key value EX 10 NX GET\nGET key\nGETEX key PX 5\nTTL key\nPEXPIRETIME key",
        "APPEND k abc\nSETRANGE k 5 def\nGETRANGE k -3 -1\nSTRLEN k\nOBJECT ENCODING k",
        "INCR n\nINCRBY n 9223372036854775807\nDECRBY n -5\nINCRBYFLOAT f 1.5e-3\nINCRBYFLOAT f -inf",
        "MSET a 1 b 2 c 3\nMGET a b c\nMSETNX a 1 d 2\nLCS a b IDX MINMATCHLEN 2 WITHMATCHLEN",
        "MSET a 1 b 2\nSCAN 0 MATCH a* COUNT 1 TYPE string\nSCAN 281474976710656\nKEYS *\nRANDOMKEY\nDBSIZE",
        "SET a 1\nRENAME a b\nRENAMENX b c\nCOPY c d DB 1 REPLACE\nMOVE d 1\nDEL c\nUNLINK c\nEXISTS c c",
        "SET a 1\nEXPIRE a 10 NX\nEXPIREAT a 2000 GT\nPERSIST a\nPEXPIRE a -1\nTOUCH a\nTYPE a",
        "SETEX a 10 v\nPSETEX a 10 v\nSETNX a w\nGETSET a x\nGETDEL a\nSUBSTR a 0 1",
        "SWAPDB 0 1\nFLUSHDB ASYNC\nFLUSHALL SYNC\nSORT a\nDUMP a",
    ] {
        out.push([&[5][..], commands.as_bytes()].concat());
    }
    out
}
