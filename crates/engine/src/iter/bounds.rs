//! [`Bounds`]: the range of user keys an iterator may show. Lower inclusive, upper exclusive; a
//! prefix is nothing but a range.

/// See the file's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
}

impl Bounds {
    /// The keys that are at or above `lower`, below `upper` and begin with `prefix`, where each of
    /// the three is given.
    pub(crate) fn new(
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
        prefix: Option<Vec<u8>>,
    ) -> Bounds {
        let prefix_end = prefix.as_deref().and_then(prefix_end);
        let upper = match (upper, prefix_end) {
            (Some(upper), Some(end)) => Some(upper.min(end)),
            (upper, end) => upper.or(end),
        };
        // `None` is below every `Some`.
        Bounds { lower: lower.max(prefix), upper }
    }

    /// These bounds, narrowed to the keys that begin with `prefix`.
    pub(crate) fn within(self, prefix: &[u8]) -> Bounds {
        let Bounds { lower, upper } = self;
        Bounds::new(lower, upper, Some(prefix.to_vec()))
    }

    pub(crate) fn lower(&self) -> Option<&[u8]> {
        self.lower.as_deref()
    }

    pub(crate) fn upper(&self) -> Option<&[u8]> {
        self.upper.as_deref()
    }

    /// Whether `key` is at or above the lower bound.
    #[inline]
    pub(crate) fn above_lower(&self, key: &[u8]) -> bool {
        self.lower.as_deref().is_none_or(|lower| key >= lower)
    }

    /// Whether `key` is below the upper bound.
    #[inline]
    pub(crate) fn below_upper(&self, key: &[u8]) -> bool {
        self.upper.as_deref().is_none_or(|upper| key < upper)
    }
}

/// The smallest key above every key that begins with `prefix`; `None` when there is no such key.
fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(lower: &[u8], upper: &[u8], prefix: &[u8]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let given = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        let bounds = Bounds::new(given(lower), given(upper), given(prefix));
        (bounds.lower, bounds.upper)
    }

    #[test]
    fn a_prefix_narrows_the_range() {
        let some = |bytes: &[u8]| Some(bytes.to_vec());
        assert_eq!(bounds(b"", b"", b""), (None, None));
        assert_eq!(bounds(b"", b"", b"ab"), (some(b"ab"), some(b"ac")));
        assert_eq!(bounds(b"abc", b"abd", b"ab"), (some(b"abc"), some(b"abd")));
        assert_eq!(bounds(b"a", b"b", b"ab"), (some(b"ab"), some(b"ac")));
        assert_eq!(bounds(b"", b"", b"a\xff\xff"), (some(b"a\xff\xff"), some(b"b")));
        assert_eq!(bounds(b"", b"", b"\xff\xff"), (some(b"\xff\xff"), None));
        assert_eq!(bounds(b"", b"\xff\xffz", b"\xff\xff"), (some(b"\xff\xff"), some(b"\xff\xffz")));
    }
}
