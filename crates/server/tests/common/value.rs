//! Replies as values, and as redis-cli shows them.

/// A reply of RESP2 or RESP3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The reply that `bytes` are.
    pub fn parse(bytes: &[u8]) -> Value {
        let mut rest = bytes;
        let value = take(&mut rest);
        assert!(rest.is_empty(), "bytes behind a reply: {:?}", String::from_utf8_lossy(rest));
        value
    }

    /// A map's value, or that of a flat array of pairs.
    pub fn get(&self, name: &str) -> &Value {
        let is_it = |key: &Value| *key == Value::Bulk(name.as_bytes().to_vec());
        let found = match self {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| is_it(key)).map(|(_, value)| value),
            Value::Array(items) => {
                items.chunks(2).find(|pair| is_it(&pair[0])).map(|pair| &pair[1])
            }
            _ => None,
        };
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(items) => items,
            other => panic!("not an array: {other:?}"),
        }
    }

    pub fn number(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Bulk(bytes) => bytes,
            other => panic!("not a string: {other:?}"),
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    /// The error's text.
    pub fn error(&self) -> &str {
        match self {
            Value::Error(text) => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    /// As `redis-cli -3` shows it on a terminal, each line with its end, without blanks there.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        self.show(&mut out, 0);
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn show(&self, out: &mut String, indent: usize) {
        let many = |out: &mut String, mark: char, items: Vec<(Option<&Value>, &Value)>| {
            if items.is_empty() {
                out.push_str(if mark == '#' { "(empty hash)\n" } else { "(empty array)\n" });
            }
            let width = items.len().to_string().len();
            for (index, (key, value)) in items.into_iter().enumerate() {
                let pad = if index > 0 { indent } else { 0 };
                out.push_str(&format!("{:pad$}{:>width$}{mark} ", "", index + 1));
                let inner = indent + width + 2;
                if let Some(key) = key {
                    let mut shown = key.shown();
                    shown.pop();
                    out.push_str(&format!("{shown} => "));
                    if matches!(value, Value::Array(of) if !of.is_empty())
                        || matches!(value, Value::Map(of) if !of.is_empty())
                    {
                        out.push_str(&format!("\n{:inner$}", ""));
                    }
                }
                value.show(out, inner);
            }
        };
        match self {
            Value::Simple(text) => out.push_str(&format!("{text}\n")),
            Value::Error(text) => out.push_str(&format!("(error) {text}\n")),
            Value::Integer(number) => out.push_str(&format!("(integer) {number}\n")),
            Value::Bulk(bytes) => out.push_str(&format!("\"{}\"\n", bytes.escape_ascii())),
            Value::Null => out.push_str("(nil)\n"),
            Value::Array(items) => many(out, ')', items.iter().map(|item| (None, item)).collect()),
            Value::Map(pairs) => {
                many(out, '#', pairs.iter().map(|(key, value)| (Some(key), value)).collect());
            }
        }
    }
}

fn take(rest: &mut &[u8]) -> Value {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a whole reply");
    let (line, behind) = (&rest[1..end], &rest[end + 2..]);
    let kind = rest[0];
    *rest = behind;
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || text().parse::<i64>().unwrap();
    match kind {
        b'+' => Value::Simple(text()),
        b'-' => Value::Error(text()),
        b':' => Value::Integer(number()),
        b'_' => Value::Null,
        b'$' | b'*' if number() < 0 => Value::Null,
        b'$' | b'=' => {
            let (bytes, behind) = rest.split_at(number() as usize);
            *rest = &behind[2..];
            // A verbatim string begins with its format: `txt:`.
            Value::Bulk(bytes[if kind == b'=' { 4 } else { 0 }..].to_vec())
        }
        b'*' => Value::Array((0..number()).map(|_| take(rest)).collect()),
        b'%' => Value::Map((0..number()).map(|_| (take(rest), take(rest))).collect()),
        other => panic!("a reply of kind {:?}", char::from(other)),
    }
}
