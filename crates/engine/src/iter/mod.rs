//! TEMPORARY simple iterators.
use crate::{
    Result, SeqNo,
    memtable::MemtableIter,
    tables::{self, TableHandle},
};
use sluice_base::{Kind, Trailer};
use sluice_table::{IterOptions, TableIter};
use std::sync::Arc;
pub(crate) enum Source {
    Memtable(MemtableIter),
    Table(TableIter),
    Level(LevelRun),
}
macro_rules! each {
    ($s:expr, $i:ident, $m:expr, $t:expr) => {
        match $s {
            Source::Memtable($i) => $m,
            Source::Table($i) => $t,
            Source::Level($i) => $t,
        }
    };
}
impl Source {
    fn seek_to_first(&mut self) -> Result<bool> {
        each!(self, i, Ok(i.seek_to_first()), i.seek_to_first())
    }
    fn seek_to_last(&mut self) -> Result<bool> {
        each!(self, i, Ok(i.seek_to_last()), i.seek_to_last())
    }
    fn seek(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        each!(self, i, Ok(i.seek(k, t)), i.seek(k, t))
    }
    fn seek_for_prev(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        each!(self, i, Ok(i.seek_for_prev(k, t)), i.seek_for_prev(k, t))
    }
    fn next(&mut self) -> Result<bool> {
        each!(self, i, Ok(i.next()), i.next())
    }
    fn prev(&mut self) -> Result<bool> {
        each!(self, i, Ok(i.prev()), i.prev())
    }
    fn valid(&self) -> bool {
        each!(self, i, i.valid(), i.valid())
    }
    fn key(&self) -> &[u8] {
        each!(self, i, i.key(), i.key())
    }
    fn trailer(&self) -> Trailer {
        each!(self, i, i.trailer(), i.trailer())
    }
    fn value(&self) -> &[u8] {
        each!(self, i, i.value(), i.value())
    }
}
pub(crate) struct LevelRun {
    tables: Arc<Vec<Arc<TableHandle>>>,
    options: IterOptions,
    at: usize,
    iter: Option<TableIter>,
}
impl LevelRun {
    pub(crate) fn new(tables: Arc<Vec<Arc<TableHandle>>>, options: IterOptions) -> Self {
        LevelRun { tables, options, at: 0, iter: None }
    }
    fn open(&mut self, at: usize) -> Result<bool> {
        self.at = at;
        self.iter = None;
        if let Some(h) = self.tables.get(at) {
            self.iter = Some(TableIter::new(Arc::clone(tables::opened(h)?), self.options.clone()));
        }
        Ok(self.iter.is_some())
    }
    fn it(&mut self) -> &mut TableIter {
        self.iter.as_mut().expect("open")
    }
    fn forward(&mut self, mut on: bool) -> Result<bool> {
        while !on {
            if self.iter.is_none() || !self.open(self.at + 1)? {
                self.iter = None;
                return Ok(false);
            }
            on = self.it().seek_to_first()?;
        }
        Ok(on)
    }
    fn backward(&mut self, mut on: bool) -> Result<bool> {
        while !on {
            if self.iter.is_none() || self.at == 0 || !self.open(self.at - 1)? {
                self.iter = None;
                return Ok(false);
            }
            on = self.it().seek_to_last()?;
        }
        Ok(on)
    }
    fn seek_to_first(&mut self) -> Result<bool> {
        if !self.open(0)? {
            return Ok(false);
        }
        let on = self.it().seek_to_first()?;
        self.forward(on)
    }
    fn seek_to_last(&mut self) -> Result<bool> {
        if self.tables.is_empty() {
            return Ok(false);
        }
        self.open(self.tables.len() - 1)?;
        let on = self.it().seek_to_last()?;
        self.backward(on)
    }
    fn seek(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        let at = self.tables.partition_point(|h| *h.meta.largest.key < *k);
        if !self.open(at)? {
            return Ok(false);
        }
        let on = self.it().seek(k, t)?;
        self.forward(on)
    }
    fn seek_for_prev(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        let at = self.tables.partition_point(|h| *h.meta.smallest.key <= *k);
        if at == 0 {
            self.iter = None;
            return Ok(false);
        }
        self.open(at - 1)?;
        let on = self.it().seek_for_prev(k, t)?;
        self.backward(on)
    }
    fn next(&mut self) -> Result<bool> {
        if self.iter.is_none() {
            return Ok(false);
        }
        let on = self.it().next()?;
        self.forward(on)
    }
    fn prev(&mut self) -> Result<bool> {
        if self.iter.is_none() {
            return Ok(false);
        }
        let on = self.it().prev()?;
        self.backward(on)
    }
    fn valid(&self) -> bool {
        self.iter.as_ref().is_some_and(|i| i.valid())
    }
    fn key(&self) -> &[u8] {
        self.iter.as_ref().map_or(&[], |i| i.key())
    }
    fn trailer(&self) -> Trailer {
        self.iter.as_ref().map_or(Trailer(0), |i| i.trailer())
    }
    fn value(&self) -> &[u8] {
        self.iter.as_ref().map_or(&[], |i| i.value())
    }
}
pub(crate) struct MergeIter {
    children: Vec<Source>,
    at: Option<usize>,
    forward: bool,
}
impl MergeIter {
    pub(crate) fn new(children: Vec<Source>) -> Self {
        MergeIter { children, at: None, forward: true }
    }
    fn pick(&mut self) -> bool {
        let f = self.forward;
        self.at = self
            .children
            .iter()
            .enumerate()
            .filter(|(_, c)| c.valid())
            .min_by(|(_, a), (_, b)| {
                let o = a.key().cmp(b.key()).then_with(|| b.trailer().cmp(&a.trailer()));
                if f { o } else { o.reverse() }
            })
            .map(|(i, _)| i);
        self.at.is_some()
    }
    fn all(&mut self, forward: bool, f: impl Fn(&mut Source) -> Result<bool>) -> Result<bool> {
        self.forward = forward;
        self.at = None;
        for c in &mut self.children {
            f(c)?;
        }
        Ok(self.pick())
    }
    pub(crate) fn seek_to_first(&mut self) -> Result<bool> {
        self.all(true, |c| c.seek_to_first())
    }
    pub(crate) fn seek_to_last(&mut self) -> Result<bool> {
        self.all(false, |c| c.seek_to_last())
    }
    pub(crate) fn seek(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        self.all(true, |c| c.seek(k, t))
    }
    pub(crate) fn seek_for_prev(&mut self, k: &[u8], t: Trailer) -> Result<bool> {
        self.all(false, |c| c.seek_for_prev(k, t))
    }
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some(at) = self.at else { return Ok(false) };
        if !self.forward {
            let (k, t) = (self.key().to_vec(), self.trailer());
            self.seek(&k, t)?;
            return self.next();
        }
        self.children[at].next()?;
        Ok(self.pick())
    }
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let Some(at) = self.at else { return Ok(false) };
        if self.forward {
            let (k, t) = (self.key().to_vec(), self.trailer());
            self.seek_for_prev(&k, t)?;
            return self.prev();
        }
        self.children[at].prev()?;
        Ok(self.pick())
    }
    pub(crate) fn valid(&self) -> bool {
        self.at.is_some()
    }
    pub(crate) fn key(&self) -> &[u8] {
        self.children[self.at.expect("positioned")].key()
    }
    pub(crate) fn value(&self) -> &[u8] {
        self.children[self.at.expect("positioned")].value()
    }
    pub(crate) fn trailer(&self) -> Trailer {
        self.children[self.at.expect("positioned")].trailer()
    }
}
pub(crate) struct Bounds {
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
}
impl Bounds {
    pub(crate) fn new(
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
        prefix: Option<Vec<u8>>,
    ) -> Self {
        Bounds { lower, upper, prefix }
    }
    fn ok(&self, k: &[u8]) -> bool {
        self.lower.as_deref().is_none_or(|l| k >= l)
            && self.upper.as_deref().is_none_or(|u| k < u)
            && self.prefix.as_deref().is_none_or(|p| k.starts_with(p))
    }
    fn low(&self) -> &[u8] {
        self.lower.as_deref().unwrap_or(&[]).max(self.prefix.as_deref().unwrap_or(&[]))
    }
}
pub(crate) struct DbIter {
    m: MergeIter,
    seq: SeqNo,
    b: Bounds,
    current: Option<(Vec<u8>, Vec<u8>)>,
}
impl DbIter {
    pub(crate) fn new(c: Vec<Source>, seq: SeqNo, b: Bounds) -> Self {
        DbIter { m: MergeIter::new(c), seq, b, current: None }
    }
    fn fwd(&mut self) -> Result<bool> {
        self.current = None;
        while self.m.valid() {
            let key = self.m.key().to_vec();
            if !self.b.ok(&key) {
                return Ok(false);
            }
            let mut found = None;
            while self.m.valid() && self.m.key() == key {
                if found.is_none() && self.m.trailer().seq() <= self.seq {
                    found =
                        Some((self.m.trailer().kind() == Some(Kind::Put), self.m.value().to_vec()));
                }
                self.m.next()?;
            }
            if let Some((true, v)) = found {
                self.current = Some((key, v));
                return Ok(true);
            }
        }
        Ok(false)
    }
    fn bwd(&mut self) -> Result<bool> {
        self.current = None;
        while self.m.valid() {
            let key = self.m.key().to_vec();
            if !self.b.ok(&key) {
                return Ok(false);
            }
            let mut found = None;
            while self.m.valid() && self.m.key() == key {
                if self.m.trailer().seq() <= self.seq {
                    found =
                        Some((self.m.trailer().kind() == Some(Kind::Put), self.m.value().to_vec()));
                }
                self.m.prev()?;
            }
            if let Some((true, v)) = found {
                self.current = Some((key, v));
                return Ok(true);
            }
        }
        Ok(false)
    }
    pub(crate) fn seek_to_first(&mut self) -> Result<bool> {
        self.seek(&[])
    }
    pub(crate) fn seek(&mut self, k: &[u8]) -> Result<bool> {
        let k = k.max(self.b.low()).to_vec();
        self.m.seek(&k, Trailer(u64::MAX))?;
        self.fwd()
    }
    pub(crate) fn seek_to_last(&mut self) -> Result<bool> {
        self.m.seek_to_last()?;
        self.skip_back()
    }
    fn skip_back(&mut self) -> Result<bool> {
        while self.m.valid() && !self.b.ok(self.m.key()) && self.m.key() >= self.b.low() {
            self.m.prev()?;
        }
        self.bwd()
    }
    pub(crate) fn seek_for_prev(&mut self, k: &[u8]) -> Result<bool> {
        self.m.seek_for_prev(k, Trailer(0))?;
        self.skip_back()
    }
    pub(crate) fn next(&mut self) -> Result<bool> {
        let Some((k, _)) = self.current.take() else { return Ok(false) };
        self.m.seek(&k, Trailer(0))?;
        while self.m.valid() && self.m.key() == k {
            self.m.next()?;
        }
        self.fwd()
    }
    pub(crate) fn prev(&mut self) -> Result<bool> {
        let Some((k, _)) = self.current.take() else { return Ok(false) };
        self.m.seek_for_prev(&k, Trailer(u64::MAX))?;
        while self.m.valid() && self.m.key() == k {
            self.m.prev()?;
        }
        self.bwd()
    }
    pub(crate) fn valid(&self) -> bool {
        self.current.is_some()
    }
    pub(crate) fn key(&self) -> &[u8] {
        &self.current.as_ref().expect("positioned").0
    }
    pub(crate) fn value(&self) -> &[u8] {
        &self.current.as_ref().expect("positioned").1
    }
}
