//! Redis's glob, byte for byte: `*`, `?`, `[abc]`, `[^abc]`, `[a-z]` and `\` escapes, over bytes
//! that need not be UTF-8. Follows the observable behaviour of Redis's KEYS, its oddities
//! included: an unclosed class ends with the pattern, and a reversed range is turned round.
//!
//! Redis's own matcher is recursive and takes exponential time on patterns of many stars. This
//! one keeps only the last star to go back to, so it takes at most pattern × text steps; for this
//! pattern language (every other element takes exactly one byte) the answer is the same.

/// Whether the whole of `text` matches `pattern`. With `ignore_case`, ASCII letters are equal
/// without regard to case.
///
/// ```
/// use sluice_keyspace::glob::matches;
/// assert!(matches(b"user:[0-9]*", b"user:42", false));
/// assert!(!matches(b"h[^e]llo", b"hello", false));
/// ```
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let fold = |byte: u8| if ignore_case { byte.to_ascii_lowercase() } else { byte };
    let (mut p, mut t) = (0, 0);
    // Pattern position after the last star, and the text position it was tried at.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
            continue;
        }
        if let Some(&byte) = text.get(t) {
            if let Some(width) = element(&pattern[p..], byte, fold) {
                p += width;
                t += 1;
                continue;
            }
        } else if p == pattern.len() {
            return true;
        }
        // Mismatch: let the last star take one byte more.
        match star {
            Some((after, at)) if at < text.len() => {
                star = Some((after, at + 1));
                p = after;
                t = at + 1;
            }
            _ => return false,
        }
    }
}

/// Whether `pattern` can only match itself.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Matches the first element of `pattern`, which is no star, with `byte`; its width when it does.
fn element(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => class(pattern, byte, fold),
        b'\\' if pattern.len() >= 2 => (fold(pattern[1]) == fold(byte)).then_some(2),
        literal => (fold(literal) == fold(byte)).then_some(1),
    }
}

fn class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut matched = false;
    let width = loop {
        match pattern[at.min(pattern.len())..] {
            // Unclosed: the class ends where the pattern does.
            [] => break pattern.len(),
            [b'\\', escaped, ..] => {
                // Redis compares an escaped byte of a class without folding.
                matched |= escaped == byte;
                at += 2;
            }
            [b']', ..] => break at + 1,
            [first, b'-', last, ..] => {
                let (first, last) = (fold(first), fold(last));
                matched |= (first.min(last)..=first.max(last)).contains(&fold(byte));
                at += 3;
            }
            [single, ..] => {
                matched |= fold(single) == fold(byte);
                at += 1;
            }
        }
    };
    (matched != negated).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn the_usual_patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "a", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("h[a-]llo", "h-llo", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[\\]]", "]", true),
            ("[abc", "b", true),
            ("[", "[", false),
            ("[^", "x", true),
            ("[]", "x", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c", "xxaxxbxxcxx", false),
            ("*[0-9]", "abc7", true),
        ] {
            assert_eq!(hits(pattern, text), expected, "{pattern:?} on {text:?}");
        }
        assert!(matches(b"HeL[L-M]o", b"hEllO", true));
        assert!(matches(b"\xff?*", b"\xff\x00", false));
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"a*".repeat(64);
        let text = b"a".repeat(4096);
        assert!(matches(&pattern, &text, false));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text, false));
    }

    /// The plain definition, exponential, as the oracle.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.first() {
            None => text.is_empty(),
            Some(b'*') => {
                slow(&pattern[1..], text) || !text.is_empty() && slow(pattern, &text[1..])
            }
            Some(_) => text.first().is_some_and(|&byte| {
                element(pattern, byte, |b| b).is_some_and(|w| slow(&pattern[w..], &text[1..]))
            }),
        }
    }

    #[test]
    fn agrees_with_the_plain_definition() {
        let seed = 0x610b;
        println!("seed {seed:#x}");
        let mut rng = sluicedb::env::Rng::new(seed);
        for _ in 0..20_000 {
            let mut pick = |alphabet: &[u8], max: u64| -> Vec<u8> {
                (0..rng.below(max))
                    .map(|_| alphabet[rng.below(alphabet.len() as u64) as usize])
                    .collect()
            };
            let pattern = pick(b"ab*?[]^-\\", 8);
            let text = pick(b"ab-]", 7);
            assert_eq!(
                matches(&pattern, &text, false),
                slow(&pattern, &text),
                "{pattern:?} on {text:?}"
            );
        }
    }
}
