//! Single bits, and whole pages: zeroed, swapped, written twice. What a device does to data is
//! rarely one byte.

use super::*;
use sluice_env::Rng;

/// Bits flipped in a run; `SLUICE_DAMAGE_BITS` chooses another number, 0 all of them.
const BITS: u64 = 6_000;

#[test]
fn p08_one_flipped_bit_anywhere_is_an_error_or_harmless() {
    let (fs, states) = sample();
    let all: Vec<(PathBuf, u64)> = files(&fs);
    let bits: u64 = all.iter().map(|(_, bytes)| bytes * 8).sum();
    let seed =
        budget("SLUICE_SEED", std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0));
    println!("SLUICE_SEED={seed} of {bits} bits");
    let mut rng = Rng::new(seed);
    let wanted = budget("SLUICE_DAMAGE_BITS", BITS);
    let mut verdicts = BTreeMap::new();
    let mut first = 0;
    for (path, bytes) in all {
        for bit in 0..bytes * 8 {
            first += 1;
            if wanted > 0 && rng.below(bits) >= wanted {
                continue;
            }
            let copy = fs.kill_clone();
            copy.corrupt(&path, bit / 8, 1 << (bit % 8)).unwrap();
            let what = format!("seed {seed}: {} at bit {bit}", path.display());
            if path.extension().is_some_and(|e| e == "sst") {
                assert_verify_tells(&copy, &path, &what);
            }
            let may_go_back = path.extension().is_some_and(|e| e == "wal");
            *verdicts.entry(judge(copy, &states, may_go_back, &what)).or_insert(0u64) += 1;
        }
    }
    assert_eq!(first, bits);
    println!("{verdicts:?}");
    assert!(verdicts.contains_key("refused") && verdicts.contains_key("partly read"));
}

/// What happens to a page.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Zeroed,
    /// Its bytes and those of the other page change places.
    SwappedWith(usize),
    /// The other page's bytes are there too.
    OverwrittenBy(usize),
}

/// `bytes` with one page harmed; `None` where that changes nothing.
fn harmed(bytes: &[u8], page_bytes: usize, page: usize, harm: Harm) -> Option<Vec<u8>> {
    let range = |page: usize| page * page_bytes..((page + 1) * page_bytes).min(bytes.len());
    let mut out = bytes.to_vec();
    let copy = |out: &mut Vec<u8>, from: usize, to: usize| {
        let len = range(from).len().min(range(to).len());
        let (from, to) = (range(from).start, range(to).start);
        out[to..to + len].copy_from_slice(&bytes[from..from + len]);
    };
    match harm {
        Harm::Zeroed => out[range(page)].fill(0),
        Harm::SwappedWith(other) => {
            copy(&mut out, other, page);
            copy(&mut out, page, other);
        }
        Harm::OverwrittenBy(other) => copy(&mut out, other, page),
    }
    (out != bytes).then_some(out)
}

#[test]
fn p08_harmed_pages_are_an_error_or_an_older_state() {
    let (fs, states, _) = sample_of(700);
    let mut verdicts = BTreeMap::new();
    for (path, len) in files(&fs) {
        let bytes = fs.read(&path).unwrap();
        for page_bytes in [512, 4096] {
            let pages = (len as usize).div_ceil(page_bytes);
            for page in 0..pages {
                // Each page by itself, with its neighbour, and with one far away.
                let others = [(page + 1) % pages, (page + pages / 2) % pages];
                let swaps = others.map(Harm::SwappedWith);
                let copies = others.map(Harm::OverwrittenBy);
                for harm in [Harm::Zeroed].into_iter().chain(swaps).chain(copies) {
                    let Some(harmed) = harmed(&bytes, page_bytes, page, harm) else { continue };
                    let copy = with_file(&fs, &path, &harmed);
                    let what =
                        format!("{}, page {page} of {page_bytes} bytes, {harm:?}", path.display());
                    let is_table = path.extension().is_some_and(|e| e == "sst");
                    if is_table {
                        assert_verify_tells(&copy, &path, &what);
                    }
                    let verdict = judge(copy, &states, looks_torn(&path), &what);
                    let is_reserve = path.ends_with("RESERVE");
                    assert!(verdict != "all there" || !is_table || is_reserve, "{what}: unnoticed");
                    *verdicts.entry((is_table, verdict)).or_insert(0u64) += 1;
                }
            }
        }
    }
    println!("(table, verdict): {verdicts:?}");
    assert!(verdicts.contains_key(&(true, "partly read")), "{verdicts:?}");
    assert!(verdicts.contains_key(&(false, "refused")), "{verdicts:?}");
}
