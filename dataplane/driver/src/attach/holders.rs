//! Which attached programs hold what a node has only once: the membership of a group, the trees of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::node::wait::lock;

/// The programs that hold each group. What begins and ends a hold runs under one lock, so that a program which begins
/// while the last other one ends does not lose what it gets.
#[derive(Debug, Default)]
pub(super) struct Holders(Mutex<BTreeMap<u32, BTreeSet<u64>>>);

impl Holders {
    /// Carries out `begin`; if it succeeds, the program holds the group from then on. `is_foreign` says whether the
    /// node has it without any program: then the node's own process began it, and no program holds it.
    pub(super) fn hold<T, E>(
        &self,
        group: u32,
        program: u64,
        is_foreign: impl FnOnce() -> bool,
        begin: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut held = lock(&self.0);
        let foreign = !held.contains_key(&group) && is_foreign();
        let begun = begin()?;
        if !foreign {
            held.entry(group).or_default().insert(program);
        }
        Ok(begun)
    }

    /// The program does not hold the group any more. Carries out `end` if no other program holds it.
    pub(super) fn release<E>(
        &self,
        group: u32,
        program: u64,
        end: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut held = lock(&self.0);
        if let Some(programs) = held.get_mut(&group) {
            programs.remove(&program);
            if !programs.is_empty() {
                return Ok(());
            }
        }
        held.remove(&group);
        end()
    }

    /// The program holds nothing any more. Carries out `end` for each group of which it was the last holder.
    pub(super) fn release_all(&self, program: u64, mut end: impl FnMut(u32)) {
        lock(&self.0).retain(|group, programs| {
            let last = programs.remove(&program) && programs.is_empty();
            if last {
                end(*group);
            }
            !last
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(holders: &Holders, program: u64, foreign: bool) {
        let begun = holders.hold(5, program, || foreign, || Ok::<_, ()>(program));
        assert_eq!(begun, Ok(program));
    }

    fn ends(holders: &Holders, program: u64) -> bool {
        let mut ended = false;
        let released = holders.release(5, program, || {
            ended = true;
            Ok::<_, ()>(())
        });
        assert_eq!(released, Ok(()));
        ended
    }

    #[test]
    fn a_group_ends_with_the_last_of_its_programs() {
        let holders = Holders::default();
        begin(&holders, 1, false);
        begin(&holders, 2, true); // the node is a member by now, for program 1
        begin(&holders, 2, true);
        assert!(!ends(&holders, 1));
        assert!(
            !ends(&holders, 1),
            "it does not end the hold of another one"
        );
        assert!(ends(&holders, 2));
        assert!(ends(&holders, 2), "a call without a holder is carried out");
    }

    #[test]
    fn a_program_that_ends_releases_what_it_holds() {
        let holders = Holders::default();
        for (group, program) in [(1, 7), (2, 7), (2, 8), (3, 8)] {
            let begun = holders.hold(group, program, || false, || Ok::<_, ()>(()));
            assert_eq!(begun, Ok(()));
        }
        let mut ended = Vec::new();
        holders.release_all(7, |group| ended.push(group));
        holders.release_all(8, |group| ended.push(group));
        holders.release_all(8, |group| ended.push(group));
        assert_eq!(ended, [1, 2, 3]);
    }

    #[test]
    fn what_the_nodes_process_began_or_what_failed_is_not_held() {
        let holders = Holders::default();
        begin(&holders, 1, true);
        assert_eq!(holders.hold(6, 1, || false, || Err::<(), _>(4)), Err(4));
        holders.release_all(1, |group| panic!("group {group} is not the program's"));
    }
}
