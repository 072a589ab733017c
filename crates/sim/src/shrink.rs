//! Making a failing run small: fewer steps, clients, faults and actions, as long as the same kind of promise
//! is broken. What is left is easier to read, and its options travel in one line of text.
//!
//! It must never turn one failure into another: a run counts as failing only if its violation is of the
//! [`class`] that was found first.

use crate::model::Violation;

/// Options that can be made simpler.
pub trait Shrink: Clone {
    /// Candidates, each a little or much simpler than `self`, the boldest first.
    fn simpler(&self) -> Vec<Self>;

    /// How `self` differs from what its seed says; empty if it does not.
    fn text(&self) -> String;

    fn seed(&self) -> u64;
}

/// What is left of a failing run.
#[derive(Clone, Debug)]
pub struct Shrunk<O> {
    pub options: O,
    pub violation: Violation,
    /// Runs that it took.
    pub run_count: u64,
}

/// The kind of a violation: its text without numbers.
pub fn class(violation: &Violation) -> String {
    let mut class = String::new();
    for c in violation.0.chars() {
        match c {
            '0'..='9' if class.ends_with('#') => {}
            '0'..='9' => class.push('#'),
            _ => class.push(c),
        }
    }
    // What a checker quotes of the state varies with the schedule.
    let end = class.find(['{', '[']).unwrap_or(class.len());
    class.truncate(end);
    class
}

/// Simpler options that break the same promise. `run` says what a run breaks; `go_on` is asked before
/// each run.
pub fn shrink<O: Shrink>(
    options: O,
    violation: Violation,
    mut run: impl FnMut(&O) -> Option<Violation>,
    mut go_on: impl FnMut() -> bool,
) -> Shrunk<O> {
    let wanted = class(&violation);
    let mut best = Shrunk { options, violation, run_count: 0 };
    let mut next = 0;
    let mut fruitless = 0;
    loop {
        let candidates = best.options.simpler();
        if fruitless >= candidates.len() || !go_on() {
            return best;
        }
        // After a success the same place is tried again: what was halved once may be halved twice.
        next %= candidates.len();
        let Some(candidate) = candidates.into_iter().nth(next) else { return best };
        best.run_count += 1;
        match run(&candidate).filter(|violation| class(violation) == wanted) {
            Some(violation) => {
                best = Shrunk { options: candidate, violation, ..best };
                fruitless = 0;
            }
            None => {
                next += 1;
                fruitless += 1;
            }
        }
    }
}

/// Values between `least` and `value`, the smallest first.
pub fn smaller(value: u64, least: u64) -> Vec<u64> {
    let Some(span) = value.checked_sub(least).filter(|span| *span > 0) else { return Vec::new() };
    let mut values = vec![least, least + span / 4, least + span / 2, value - span / 4];
    values.extend([value - span / 16, value - 1]);
    values.retain(|candidate| *candidate < value);
    values.dedup();
    values
}

/// Weights with some set to 0: all, each half, each quarter, then each alone.
pub fn without_some<T: Copy>(weights: &[(T, u64)]) -> Vec<Vec<(T, u64)>> {
    let on: Vec<usize> = (0..weights.len()).filter(|at| weights[*at].1 > 0).collect();
    let mut all = Vec::new();
    let mut size = on.len();
    while size > 0 {
        for part in on.chunks(size) {
            let mut fewer = weights.to_vec();
            part.iter().for_each(|at| fewer[*at].1 = 0);
            all.push(fewer);
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::actions::Action;
    use crate::world::faults::Fault;
    use crate::Options;

    fn has<T: Copy + PartialEq>(weights: &[(T, u64)], wanted: T) -> bool {
        weights.iter().any(|(choice, weight)| *choice == wanted && *weight > 0)
    }

    /// Fails as a node would that loses what one action wrote when one fault comes late enough.
    fn broken(options: &Options) -> Option<Violation> {
        let fails = options.steps >= 37
            && options.client_count >= 2
            && has(&options.faults, Fault::CrashTearing)
            && has(&options.actions, Action::Append);
        let other = Violation("something else".to_owned());
        let wanted = Violation(format!("v{} at 3 is gone", options.steps));
        if fails {
            Some(wanted)
        } else {
            (options.steps == 1).then_some(other)
        }
    }

    #[test]
    fn what_is_left_fails_and_nothing_can_be_taken_away() {
        let mut options = Options::from_seed(5);
        options.faults = Fault::ALL.to_vec();
        options.actions = Action::ALL.to_vec();
        let violation = broken(&options).expect("it fails");
        let shrunk = shrink(options, violation, broken, || true);
        assert_eq!(shrunk.options.steps, 37, "{shrunk:?}");
        assert_eq!((shrunk.options.client_count, shrunk.options.shard_count), (2, 1));
        let text = shrunk.options.text();
        assert!(text.contains("faults=CrashTearing,actions=Append"), "{text}");
        assert_eq!(shrunk.violation, Violation("v37 at 3 is gone".to_owned()));
        let again = Options::from_text(5, &text).expect("its own text");
        assert_eq!(again.text(), text);
        assert!(broken(&again).is_some());
    }

    #[test]
    fn it_ends_when_told_to() {
        let options = Options::from_seed(5);
        let mut runs = 3;
        let fails = |_: &Options| Some(Violation("x".to_owned()));
        let shrunk = shrink(options, Violation("x".to_owned()), fails, || {
            runs -= 1;
            runs > 0
        });
        assert_eq!(shrunk.run_count, 2);
    }

    #[test]
    fn classes_leave_numbers_out() {
        let class = |text: &str| class(&Violation(text.to_owned()));
        assert_eq!(class("v12 at 3 is gone"), class("v7 at 44 is gone"));
        assert_ne!(class("v12 at 3 is gone"), class("v12 at 3 was refused"));
        assert_eq!(class("12, half-settled (Settling { by: 3 })"), "#, half-settled (Settling ");
    }

    #[test]
    fn text_that_is_not_ours_is_refused() {
        for text in ["steps", "steps=x", "faults=Flood", "colour=1"] {
            assert!(Options::from_text(1, text).is_err(), "{text}");
        }
        assert_eq!(Options::from_text(1, "").map(|options| options.text()), Ok(String::new()));
    }
}
