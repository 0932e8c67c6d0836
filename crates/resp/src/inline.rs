//! Inline commands: one line typed by a person, words separated by blanks, quotes allowed.

/// A quote was opened and not closed, or a closing quote was followed by something else than a
/// blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Splits a line into words.
///
/// - blanks (space, tab, vertical tab, form feed, CR, LF) separate words;
/// - `"…"` understands `\n \r \t \b \a`, `\xHH`, and `\` before any other byte as that byte;
/// - `'…'` understands only `\'`;
/// - a closing quote ends its word: a blank or the end must follow.
///
/// A NUL byte ends the line, as it ends a C string in Redis.
pub fn split_inline(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let line = match memchr::memchr(0, line) {
        Some(end) => &line[..end],
        None => line,
    };
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(words);
        }
        let (word, after) = read_word(rest)?;
        words.push(word);
        rest = after;
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn read_word(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    let mut word = Vec::new();
    loop {
        match *rest {
            [] => return Ok((word, rest)),
            [byte, ..] if is_blank(byte) => return Ok((word, rest)),
            [b'"', ref inside @ ..] => {
                let after = read_double_quoted(inside, &mut word)?;
                return end_of_quoted(word, after);
            }
            [b'\'', ref inside @ ..] => {
                let after = read_single_quoted(inside, &mut word)?;
                return end_of_quoted(word, after);
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn end_of_quoted(word: Vec<u8>, after: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    match after.first() {
        Some(byte) if !is_blank(*byte) => Err(UnbalancedQuotes),
        _ => Ok((word, after)),
    }
}

fn read_double_quoted<'a>(
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match *rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', ref after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, ref after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_digit(high) << 4 | hex_digit(low));
                rest = after;
            }
            [b'\\', escaped, ref after @ ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                rest = after;
            }
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn read_single_quoted<'a>(
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        match *rest {
            [] => return Err(UnbalancedQuotes),
            [b'\\', b'\'', ref after @ ..] => {
                word.push(b'\'');
                rest = after;
            }
            [b'\'', ref after @ ..] => return Ok(after),
            [byte, ref after @ ..] => {
                word.push(byte);
                rest = after;
            }
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Result<Vec<String>, UnbalancedQuotes> {
        Ok(split_inline(line.as_bytes())?
            .into_iter()
            .map(|word| String::from_utf8_lossy(&word).into_owned())
            .collect())
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(split("  set  a\tb \r\n"), Ok(vec!["set".into(), "a".into(), "b".into()]));
        assert_eq!(split(r#"set "a b" 'c d'"#), Ok(vec!["set".into(), "a b".into(), "c d".into()]));
        assert_eq!(split(r#""\x41\n\"\q""#), Ok(vec!["A\n\"q".into()]));
        assert_eq!(split(r"'it\'s' 'a\n'"), Ok(vec!["it's".into(), r"a\n".into()]));
        assert_eq!(split(r#"a"b c""#), Ok(vec!["ab c".into()]));
        assert_eq!(split(r#""""#), Ok(vec![String::new()]));
        assert_eq!(split(""), Ok(vec![]));
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#""abc"#, "'abc", r#""a"b"#, "'a'b", r#""a\"#, r#"x ""y"#] {
            assert_eq!(split(line), Err(UnbalancedQuotes), "{line:?}");
        }
    }
}
