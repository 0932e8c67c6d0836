//! The shortest plan that still fails: epochs and steps are taken out in ever smaller pieces for as
//! long as the failure stays (Zeller and Hildebrandt's delta debugging, 2002, without complements).

use crate::plan::{Act, End, Epoch, Opening, Plan};

/// Makes `plan`, for which `fails` is true, shorter, trying at most `tries` candidates. The result
/// fails too.
///
/// ```
/// use sluice_sim::{Plan, plan::Act, shrink::shrink};
/// // Of a whole plan one drop of a family is what matters.
/// let fails = |plan: &Plan| {
///     plan.epochs.iter().flat_map(|epoch| &epoch.steps).any(|(act, _)| *act == Act::Drop)
/// };
/// let plan = (1..).map(Plan::new).find(fails).unwrap();
/// assert_eq!(shrink(&plan, 1000, fails).len(), 3); // it, its opening, its end
/// ```
pub fn shrink(plan: &Plan, tries: u64, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut best = plan.clone();
    let mut left = tries;
    let mut attempt = |best: &mut Plan, candidate: Plan| {
        if left == 0 || candidate == *best {
            return false;
        }
        left -= 1;
        let better = fails(&candidate);
        if better {
            *best = candidate;
        }
        better
    };
    loop {
        let before = best.len();
        shrink_epochs(&mut best, &mut attempt);
        shrink_steps(&mut best, &mut attempt);
        simplify(&mut best, &mut attempt);
        if best.len() == before {
            return best;
        }
    }
}

fn shrink_epochs(best: &mut Plan, attempt: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    let mut at = best.epochs.len();
    while at > 0 {
        at -= 1;
        if best.epochs.len() > 1 {
            let mut candidate = best.clone();
            candidate.epochs.remove(at);
            attempt(best, candidate);
        }
    }
}

fn shrink_steps(best: &mut Plan, attempt: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    for index in (0..best.epochs.len()).rev() {
        let mut piece = best.epochs[index].steps.len();
        while piece > 0 {
            // From the end: late steps matter least often.
            let mut end = best.epochs[index].steps.len();
            while end > 0 {
                let start = end.saturating_sub(piece);
                let mut candidate = best.clone();
                candidate.epochs[index].steps.drain(start..end);
                attempt(best, candidate);
                end = start;
            }
            piece /= 2;
        }
    }
}

/// Calmer openings and ends, single writes for bursts.
fn simplify(best: &mut Plan, attempt: &mut impl FnMut(&mut Plan, Plan) -> bool) {
    for index in 0..best.epochs.len() {
        let mut changed = |change: &dyn Fn(&mut Epoch)| {
            let mut candidate = best.clone();
            change(&mut candidate.epochs[index]);
            attempt(best, candidate)
        };
        changed(&|epoch| epoch.open = (Opening::Clean, 0));
        changed(&|epoch| epoch.end = (End::Close, 0));
        changed(&|epoch| epoch.end = (End::Kill, 0));
        changed(&|epoch| {
            for step in epoch.steps.iter_mut().filter(|(act, _)| *act == Act::Burst) {
                step.0 = Act::Write;
            }
        });
    }
}
