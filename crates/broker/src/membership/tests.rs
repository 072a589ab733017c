//! Sessions of members as scripts, and a seeded run that checks what must hold in any order of events:
//! every request is answered once, timers never spin, silence empties every group.

use super::*;
use bytes::Bytes;
use std::collections::HashSet;

const GROUP: &str = "g";

/// A coordinator with a clock. Waiters count up from 1.
struct Trial {
    membership: Membership,
    now_ms: u64,
    waiter: u64,
    out: Vec<(u64, Answer)>,
}

fn config() -> GroupsConfig {
    GroupsConfig { session_timeout_ms_min: 100, ..GroupsConfig::default() }
}

fn join_request(member_id: &str, protocols: &[(&str, &'static str)]) -> Join {
    Join {
        group: GROUP.into(),
        member: MemberRef { member_id: member_id.into(), instance_id: None },
        client_id: "client".into(),
        client_host: "/host".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: protocols
            .iter()
            .map(|(name, data)| ((*name).into(), Bytes::from_static(data.as_bytes())))
            .collect(),
        require_known_member_id: false,
        supports_skipping_assignment: true,
    }
}

fn plain(member_id: &str) -> Join {
    join_request(member_id, &[("range", "m")])
}

fn instance(member_id: &str, instance_id: &str) -> Join {
    let mut join = plain(member_id);
    join.member.instance_id = Some(instance_id.into());
    join
}

fn member(member_id: &str) -> MemberRef {
    MemberRef { member_id: member_id.into(), instance_id: None }
}

impl Trial {
    fn new(config: GroupsConfig) -> Self {
        let membership = Membership::new(config, Rng::new(1));
        Trial { membership, now_ms: 1_000_000, waiter: 0, out: Vec::new() }
    }

    fn now(&self) -> Now {
        Now { moment: Moment(self.now_ms * 1000), ..Now::default() }
    }

    fn send(&mut self, request: Request) -> u64 {
        self.waiter += 1;
        let now = self.now();
        self.membership.handle(now, self.waiter, request, &mut self.out);
        self.waiter
    }

    /// Lets time pass, stopping at every deadline.
    fn wait(&mut self, ms: u64) {
        let end = Moment((self.now_ms + ms) * 1000);
        let mut steps = 0;
        while self.membership.deadline() <= end {
            let moment = self.membership.deadline();
            self.membership.tick(Now { moment, ..Now::default() }, &mut self.out);
            assert!(self.membership.deadline() > moment, "the deadline must move on");
            steps += 1;
            assert!(steps < 10_000, "timers spin");
        }
        self.now_ms += ms;
    }

    fn answer(&mut self, waiter: u64) -> Answer {
        let index = self.out.iter().position(|(to, _)| *to == waiter);
        let index = index.unwrap_or_else(|| panic!("{waiter} is not answered, but {:?}", self.out));
        self.out.remove(index).1
    }

    fn joined(&mut self, waiter: u64) -> Joined {
        match self.answer(waiter) {
            Answer::Join(Ok(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn join(&mut self, join: Join) -> u64 {
        self.send(Request::Join(join))
    }

    fn join_refused(&mut self, join: Join) -> (GroupError, String) {
        let waiter = self.join(join);
        self.refusal(waiter)
    }

    fn refusal(&mut self, waiter: u64) -> (GroupError, String) {
        match self.answer(waiter) {
            Answer::Join(Err(refused)) => (refused.error, refused.member_id),
            other => panic!("not refused: {other:?}"),
        }
    }

    fn send_sync(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> u64 {
        let assignments = assignments
            .iter()
            .map(|(id, part)| ((*id).into(), Bytes::from_static(part.as_bytes())))
            .collect();
        self.send(Request::Sync(Sync {
            group: GROUP.into(),
            member: member(member_id),
            generation,
            assignments,
            ..Sync::default()
        }))
    }

    fn synced(&mut self, waiter: u64) -> Result<String, GroupError> {
        match self.answer(waiter) {
            Answer::Sync(result) => {
                result.map(|synced| String::from_utf8(synced.assignment.to_vec()).unwrap())
            }
            other => panic!("no sync: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member: MemberRef, generation: i32) -> Result<(), GroupError> {
        let waiter = self.send(Request::Heartbeat { group: GROUP.into(), member, generation });
        match self.answer(waiter) {
            Answer::Heartbeat(result) => result,
            other => panic!("no heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, members: Vec<MemberRef>) -> Vec<Result<(), GroupError>> {
        let waiter = self.send(Request::Leave { group: GROUP.into(), members });
        match self.answer(waiter) {
            Answer::Leave(Ok(left)) => left.into_iter().map(|(_, result)| result).collect(),
            other => panic!("not left: {other:?}"),
        }
    }

    fn describe(&mut self) -> GroupDescription {
        let waiter = self.send(Request::Describe { group: GROUP.into() });
        match self.answer(waiter) {
            Answer::Describe(Ok(description)) => description,
            other => panic!("not described: {other:?}"),
        }
    }

    fn phase(&mut self) -> GroupPhase {
        self.describe().phase
    }

    /// A stable group of two; the first is the leader. Returns ids and generation.
    fn two_members(&mut self) -> (String, String, i32) {
        let first = self.join(plain(""));
        let a = self.joined(first).member_id;
        let second = self.join(plain(""));
        assert_eq!(self.phase(), GroupPhase::PreparingRebalance);
        assert_eq!(self.heartbeat(member(&a), 1), Err(GroupError::RebalanceInProgress));
        let again = self.join(plain(&a));
        let (joined_a, joined_b) = (self.joined(again), self.joined(second));
        let b = joined_b.member_id;
        assert_eq!((joined_a.generation, joined_b.generation), (2, 2));
        assert_eq!((joined_a.leader.as_str(), joined_b.leader.as_str()), (a.as_str(), a.as_str()));
        assert_eq!(joined_a.members.len(), 2);
        assert!(joined_b.members.is_empty(), "only the leader sees the members");
        let waiting = self.send_sync(&b, 2, &[]);
        let leader = self.send_sync(&a, 2, &[(a.as_str(), "part a"), (b.as_str(), "part b")]);
        assert_eq!(self.synced(leader), Ok("part a".into()));
        assert_eq!(self.synced(waiting), Ok("part b".into()));
        assert_eq!(self.phase(), GroupPhase::Stable);
        assert!(self.out.is_empty());
        (a, b, 2)
    }
}

#[test]
fn two_members_share_and_a_third_makes_them_rejoin() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    assert_eq!(trial.heartbeat(member(&a), generation), Ok(()));
    assert_eq!(trial.heartbeat(member(&a), generation + 1), Err(GroupError::IllegalGeneration));
    let third = trial.join(plain(""));
    for id in [&a, &b] {
        assert_eq!(trial.heartbeat(member(id), generation), Err(GroupError::RebalanceInProgress));
    }
    let waiter = trial.send_sync(&b, generation, &[]);
    assert_eq!(trial.synced(waiter), Err(GroupError::RebalanceInProgress));
    let (first, second) = (trial.join(plain(&a)), trial.join(plain(&b)));
    let c = trial.joined(third).member_id;
    assert_eq!(trial.joined(first).members.len(), 3);
    assert_eq!(trial.joined(second).generation, 3);
    assert!(c.starts_with("client-") && c.len() == "client-".len() + 36);

    // The leader leaves: someone else leads the next generation.
    assert_eq!(trial.leave(vec![member(&a)]), [Ok(())]);
    let (second, third) = (trial.join(plain(&b)), trial.join(plain(&c)));
    let joined = trial.joined(second);
    assert_eq!(joined.generation, 4);
    assert_eq!(trial.joined(third).leader, joined.leader);
    assert!([&b, &c].contains(&&joined.leader));
    assert_eq!(
        trial.leave(vec![member(&b), member(&c), member("?")]),
        [Ok(()), Ok(()), Err(GroupError::UnknownMemberId)]
    );
    assert_eq!(trial.phase(), GroupPhase::Empty);
    assert_eq!(trial.heartbeat(member(&b), 4), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_first_join_may_have_to_come_back_with_its_id() {
    let mut trial = Trial::new(config());
    let join = Join { require_known_member_id: true, ..plain("") };
    let (error, id) = trial.join_refused(join.clone());
    assert_eq!(error, GroupError::MemberIdRequired);
    assert_eq!(trial.phase(), GroupPhase::Empty);
    let again = trial.join(Join { require_known_member_id: true, ..plain(&id) });
    let joined = trial.joined(again);
    assert_eq!((joined.member_id, joined.leader, joined.generation), (id.clone(), id.clone(), 1));

    // Who does not come back is forgotten with its session timeout, and holds up a rebalance till then.
    let (_, lost) = trial.join_refused(join.clone());
    let waiter = trial.send_sync(&id, 1, &[(&id, "all")]);
    assert_eq!(trial.synced(waiter), Ok("all".into()));
    let rejoin = trial.join(plain(&id));
    assert_eq!(trial.phase(), GroupPhase::PreparingRebalance);
    trial.wait(10_000);
    assert_eq!(trial.joined(rejoin).generation, 2);
    assert_eq!(trial.join_refused(plain(&lost)), (GroupError::UnknownMemberId, lost));

    // Nor does a pending one keep a group alive.
    let mut trial = Trial::new(config());
    trial.join_refused(join);
    trial.wait(10_000);
    assert_eq!(trial.membership.list(), []);
    assert_eq!(trial.phase(), GroupPhase::Dead);
}

#[test]
fn silent_members_are_out() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    for _ in 0..4 {
        trial.wait(4_000);
        assert!(matches!(
            trial.heartbeat(member(&a), generation),
            Ok(()) | Err(GroupError::RebalanceInProgress)
        ));
    }
    assert_eq!(trial.phase(), GroupPhase::PreparingRebalance);
    assert_eq!(trial.heartbeat(member(&b), generation), Err(GroupError::UnknownMemberId));
    let waiter = trial.join(plain(&a));
    assert_eq!(trial.joined(waiter).members.len(), 1);
    trial.wait(10_000);
    assert_eq!(trial.phase(), GroupPhase::Empty);
    // An empty group is remembered for a day.
    trial.wait(23 * 3_600_000);
    assert_eq!(trial.phase(), GroupPhase::Empty);
    trial.wait(3_600_000);
    assert_eq!(trial.phase(), GroupPhase::Dead);
    assert_eq!(trial.membership.deadline(), Moment::NEVER);
}

#[test]
fn members_that_do_not_rejoin_in_time_are_out() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    let waiter = trial.join(plain(&a));
    for _ in 0..15 {
        trial.wait(4_000);
        // Heartbeats alone do not save it, nor does waiting cost the other its session.
        let _ = trial.heartbeat(member(&b), generation);
    }
    let joined = trial.joined(waiter);
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
    assert_eq!(trial.heartbeat(member(&b), generation), Err(GroupError::UnknownMemberId));
}

#[test]
fn members_that_never_sync_are_out() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    let (first, second) = (trial.join(plain(&a)), trial.join(plain(&b)));
    trial.joined(first);
    trial.joined(second);
    let follower = trial.send_sync(&b, generation + 1, &[]);
    for _ in 0..14 {
        trial.wait(4_000);
        assert_eq!(
            trial.heartbeat(member(&a), generation + 1),
            Ok(()),
            "the leader is alive but does not assign"
        );
    }
    trial.wait(4_000);
    assert_eq!(trial.synced(follower), Err(GroupError::RebalanceInProgress));
    assert_eq!(trial.heartbeat(member(&a), generation + 1), Err(GroupError::UnknownMemberId));
    let waiter = trial.join(plain(&b));
    assert_eq!(trial.joined(waiter).leader, b);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut trial = Trial::new(GroupsConfig { initial_rebalance_delay_ms: 3_000, ..config() });
    let first = trial.join(plain(""));
    trial.wait(2_000);
    let second = trial.join(plain(""));
    trial.wait(2_000);
    assert!(trial.out.is_empty(), "a new member prolongs the wait");
    trial.wait(2_000);
    let (a, b) = (trial.joined(first), trial.joined(second));
    assert_eq!((a.generation, b.generation), (1, 1));
    // It cannot be prolonged beyond the rebalance timeout.
    let mut trial = Trial::new(GroupsConfig { initial_rebalance_delay_ms: 3_000, ..config() });
    let first = trial.join(Join { rebalance_timeout_ms: 8_000, ..plain("") });
    for _ in 0..8 {
        trial.wait(1_000);
        trial.join(Join { rebalance_timeout_ms: 8_000, ..plain("") });
    }
    trial.wait(1_500);
    assert_eq!(trial.joined(first).members.len(), 8, "the ninth came too late");
}

#[test]
fn the_protocol_most_prefer_and_all_support_is_chosen() {
    let mut trial = Trial::new(GroupsConfig { initial_rebalance_delay_ms: 1_000, ..config() });
    let all: [&[(&str, &'static str)]; 3] = [
        &[("sticky", "s1"), ("range", "r1")],
        &[("range", "r2"), ("sticky", "s2"), ("odd", "o2")],
        &[("odd", "o3"), ("range", "r3"), ("sticky", "s3")],
    ];
    let waiters: Vec<u64> =
        all.iter().map(|protocols| trial.join(join_request("", protocols))).collect();
    trial.wait(3_000);
    let joined: Vec<Joined> = waiters.into_iter().map(|waiter| trial.joined(waiter)).collect();
    assert_eq!(joined[0].protocol_name, "range");
    let metadata: HashSet<Bytes> =
        joined[0].members.iter().map(|member| member.metadata.clone()).collect();
    assert_eq!(metadata, ["r1", "r2", "r3"].map(|data| Bytes::from_static(data.as_bytes())).into());

    let refused = trial.join_refused(join_request("", &[("odd", "")]));
    assert_eq!(refused.0, GroupError::InconsistentGroupProtocol);
    let other_type = Join { protocol_type: "connect".into(), ..join_request("", &[("range", "")]) };
    assert_eq!(trial.join_refused(other_type).0, GroupError::InconsistentGroupProtocol);
    assert_eq!(trial.join_refused(join_request("", &[])).0, GroupError::InconsistentGroupProtocol);
}

#[test]
fn rejoining_without_change_disturbs_nobody_unless_it_is_the_leader() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    let waiter = trial.join(plain(&b));
    assert_eq!(trial.joined(waiter).generation, generation);
    assert_eq!(trial.phase(), GroupPhase::Stable);
    // Changed metadata does.
    let changed = trial.join(join_request(&b, &[("range", "other")]));
    assert_eq!(trial.phase(), GroupPhase::PreparingRebalance);
    let leader = trial.join(plain(&a));
    trial.joined(changed);
    assert_eq!(trial.joined(leader).generation, generation + 1);
    // Between join and sync the same answer is given again, with the members for the leader.
    let again = trial.join(plain(&a));
    assert_eq!(trial.joined(again).members.len(), 2);
    let waiter = trial.send_sync(&a, generation + 1, &[]);
    assert_eq!(trial.synced(waiter), Ok(String::new()));
    trial.join(plain(&a));
    assert_eq!(trial.phase(), GroupPhase::PreparingRebalance);
    assert_eq!(trial.join_refused(plain("stranger")).0, GroupError::UnknownMemberId);
}

#[test]
fn a_repeated_request_replaces_the_one_that_waits() {
    let mut trial = Trial::new(config());
    let (a, b, generation) = trial.two_members();
    let stale = trial.join(plain(&a));
    let repeated = trial.join(plain(&a));
    assert_eq!(trial.refusal(stale).0, GroupError::RebalanceInProgress);
    let other = trial.join(plain(&b));
    assert_eq!(
        (trial.joined(repeated).generation, trial.joined(other).generation),
        (generation + 1, generation + 1)
    );
    let stale = trial.send_sync(&b, generation + 1, &[]);
    let repeated = trial.send_sync(&b, generation + 1, &[]);
    assert_eq!(trial.synced(stale), Err(GroupError::RebalanceInProgress));
    let leader = trial.send_sync(&a, generation + 1, &[(&b, "b")]);
    assert_eq!((trial.synced(leader), trial.synced(repeated)), (Ok(String::new()), Ok("b".into())));
}

#[test]
fn static_members_come_back_without_a_rebalance() {
    let mut trial = Trial::new(config());
    let first = trial.join(instance("", "i1"));
    let old = trial.joined(first).member_id;
    assert!(old.starts_with("i1-"));
    let waiter = trial.send_sync(&old, 1, &[(&old, "part")]);
    assert_eq!(trial.synced(waiter), Ok("part".into()));

    let back = trial.join(instance("", "i1"));
    let joined = trial.joined(back);
    let new = joined.member_id.clone();
    assert_ne!(new, old);
    assert_eq!(
        (joined.generation, joined.leader.as_str(), joined.skip_assignment),
        (1, new.as_str(), true)
    );
    assert_eq!(joined.members.len(), 1);
    let waiter = trial.send_sync(&new, 1, &[]);
    assert_eq!(trial.synced(waiter), Ok("part".into()), "it keeps its assignment");

    // The old incarnation is fenced.
    let fenced = MemberRef { member_id: old.clone(), instance_id: Some("i1".into()) };
    assert_eq!(trial.heartbeat(fenced.clone(), 1), Err(GroupError::FencedInstanceId));
    assert_eq!(trial.join_refused(instance(&old, "i1")).0, GroupError::FencedInstanceId);
    assert_eq!(trial.leave(vec![fenced]), [Err(GroupError::FencedInstanceId)]);
    assert_eq!(
        trial.heartbeat(MemberRef { member_id: new.clone(), instance_id: Some("i2".into()) }, 1),
        Err(GroupError::UnknownMemberId)
    );

    // Older clients are told of the old leader, so that they do not assign.
    let back = trial.join(Join { supports_skipping_assignment: false, ..instance("", "i1") });
    let joined = trial.joined(back);
    assert_eq!((joined.leader, joined.skip_assignment, joined.members.len()), (new, false, 0));
    // An administrator removes it by its instance.
    let by_instance =
        |name: &str| MemberRef { member_id: String::new(), instance_id: Some(name.into()) };
    assert_eq!(
        trial.leave(vec![by_instance("i9"), by_instance("i1")]),
        [Err(GroupError::UnknownMemberId), Ok(())]
    );
    assert_eq!(trial.phase(), GroupPhase::Empty);
}

#[test]
fn a_static_member_that_returns_while_the_group_assigns_makes_it_start_over() {
    let mut trial = Trial::new(config());
    let first = trial.join(instance("", "i1"));
    let a = trial.joined(first).member_id;
    let second = trial.join(instance("", "i2"));
    let rejoin = trial.join(instance(&a, "i1"));
    trial.joined(rejoin);
    let b = trial.joined(second).member_id;
    let waiting = trial.send_sync(&b, 2, &[]);
    let back = trial.join(instance("", "i2"));
    assert_eq!(trial.synced(waiting), Err(GroupError::FencedInstanceId));
    assert_eq!(trial.phase(), GroupPhase::PreparingRebalance);
    let rejoin = trial.join(instance(&a, "i1"));
    let (joined_a, joined_b) = (trial.joined(rejoin), trial.joined(back));
    assert_eq!((joined_a.generation, joined_b.generation, joined_a.members.len()), (3, 3, 2));
    // A static member that misses a rebalance stays until its session ends.
    let waiter = trial.join(instance("", "i3"));
    trial.wait(5_000);
    let _ = trial.heartbeat(member(&joined_b.member_id), 3);
    trial.wait(5_001);
    let _ = trial.heartbeat(member(&joined_b.member_id), 3);
    trial.wait(10_000);
    assert_eq!(trial.joined(waiter).members.len(), 1);
}

#[test]
fn limits() {
    let mut trial =
        Trial::new(GroupsConfig { member_count_max: 2, group_count_max: 2, ..config() });
    let (a, _, _) = trial.two_members();
    assert_eq!(trial.join_refused(plain("")).0, GroupError::GroupMaxSizeReached);
    let pending = Join { group: "h".into(), require_known_member_id: true, ..plain("") };
    assert_eq!(trial.join_refused(pending.clone()).0, GroupError::MemberIdRequired);
    assert_eq!(trial.join_refused(pending.clone()).0, GroupError::MemberIdRequired);
    assert_eq!(trial.join_refused(pending.clone()).0, GroupError::GroupMaxSizeReached);
    // Groups in use are not pushed out, empty ones are.
    let third = Join { group: "third".into(), ..plain("") };
    assert_eq!(trial.join_refused(third.clone()).0, GroupError::CoordinatorNotAvailable);
    let b = trial.describe().members.into_iter().map(|m| m.member_id).find(|id| *id != a).unwrap();
    trial.leave(vec![member(&a), member(&b)]);
    let waiter = trial.join(third);
    trial.joined(waiter);
    assert_eq!(trial.phase(), GroupPhase::Dead);
}

#[test]
fn refused_joins() {
    let check = |join: Join, expect| {
        let mut trial = Trial::new(config());
        assert_eq!(trial.join_refused(join).0, expect);
        assert_eq!(trial.membership.list(), [], "a refused join leaves no group");
        assert_eq!(trial.membership.deadline(), Moment::NEVER);
    };
    check(Join { group: String::new(), ..plain("") }, GroupError::InvalidGroupId);
    check(Join { group: "g".repeat(256), ..plain("") }, GroupError::InvalidGroupId);
    check(Join { session_timeout_ms: 99, ..plain("") }, GroupError::InvalidSessionTimeout);
    check(Join { session_timeout_ms: 1_800_001, ..plain("") }, GroupError::InvalidSessionTimeout);
    check(
        Join { protocols: vec![("p".into(), Bytes::new()); 65], ..plain("") },
        GroupError::InconsistentGroupProtocol,
    );
    let large = Bytes::from(vec![0; METADATA_BYTES_MAX]);
    check(
        Join { protocols: vec![("p".into(), large)], ..plain("") },
        GroupError::InconsistentGroupProtocol,
    );
    check(
        Join { protocol_type: String::new(), ..plain("") },
        GroupError::InconsistentGroupProtocol,
    );
    check(plain("unknown"), GroupError::UnknownMemberId);
}

#[test]
fn commits_are_checked_and_keep_the_session() {
    let mut trial = Trial::new(config());
    let commit =
        |member_id: &str, generation| CommitMember { member: member(member_id), generation };
    let now = trial.now();
    assert_eq!(trial.membership.check_commit(now, GROUP, None), Ok(()));
    assert_eq!(trial.membership.check_commit(now, GROUP, Some(&commit("", -1))), Ok(()));
    assert_eq!(
        trial.membership.check_commit(now, GROUP, Some(&commit("x", 3))),
        Err(GroupError::IllegalGeneration)
    );
    let (a, b, generation) = trial.two_members();
    for (member_id, generation, expect) in [
        (a.as_str(), generation, Ok(())),
        (a.as_str(), generation - 1, Err(GroupError::IllegalGeneration)),
        ("x", generation, Err(GroupError::UnknownMemberId)),
        ("", -1, Err(GroupError::UnknownMemberId)),
    ] {
        let result =
            trial.membership.check_commit(now, GROUP, Some(&commit(member_id, generation)));
        assert_eq!(result, expect, "{member_id} {generation}");
    }
    assert_eq!(trial.membership.check_commit(now, GROUP, None), Err(GroupError::UnknownMemberId));
    for _ in 0..5 {
        trial.wait(4_000);
        let now = trial.now();
        for id in [&a, &b] {
            assert_eq!(
                trial.membership.check_commit(now, GROUP, Some(&commit(id, generation))),
                Ok(())
            );
        }
    }
    assert_eq!(trial.phase(), GroupPhase::Stable);
    let (first, second) = (trial.join(plain(&a)), trial.join(plain(&b)));
    trial.joined(first);
    trial.joined(second);
    let now = trial.now();
    assert_eq!(
        trial.membership.check_commit(now, GROUP, Some(&commit(&a, generation + 1))),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn deletion_and_subscribed_topics() {
    let mut trial = Trial::new(config());
    let delete = |trial: &mut Trial| {
        let waiter = trial.send(Request::Delete { group: GROUP.into() });
        match trial.answer(waiter) {
            Answer::Delete(result) => result,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut trial), Err(GroupError::GroupIdNotFound));
    let waiter = trial.join(join_request("", &[("range", "\0\x01\0\0\0\x01\0\x01t")]));
    let id = trial.joined(waiter).member_id;
    assert_eq!(delete(&mut trial), Err(GroupError::NonEmptyGroup));
    assert!(trial.membership.is_in_use(GROUP));
    assert_eq!(
        trial.membership.check_delete_offsets(GROUP, "t"),
        Err(GroupError::GroupSubscribedToTopic)
    );
    assert_eq!(trial.membership.check_delete_offsets(GROUP, "other"), Ok(()));
    assert_eq!(trial.membership.check_delete_offsets("unknown", "t"), Ok(()));
    trial.leave(vec![member(&id)]);
    assert!(!trial.membership.is_subscribed(GROUP, "t") && !trial.membership.is_in_use(GROUP));
    assert_eq!(delete(&mut trial), Ok(()));
    assert_eq!(trial.phase(), GroupPhase::Dead);
    let waiter = trial.join(Join { protocol_type: "connect".into(), ..plain("") });
    trial.joined(waiter);
    assert_eq!(trial.membership.check_delete_offsets(GROUP, "t"), Err(GroupError::NonEmptyGroup));
}

#[test]
fn a_stable_group_is_described_whole() {
    let mut trial = Trial::new(config());
    let (a, _, _) = trial.two_members();
    let description = trial.describe();
    assert_eq!(
        (description.protocol_type.as_str(), description.protocol_name.as_str()),
        ("consumer", "range")
    );
    let first = description.members.iter().find(|described| described.member_id == a).unwrap();
    assert_eq!((first.client_id.as_str(), first.client_host.as_str()), ("client", "/host"));
    assert_eq!((&first.metadata[..], &first.assignment[..]), (&b"m"[..], &b"part a"[..]));
    let listing = trial.membership.list();
    assert_eq!(listing[0].phase, GroupPhase::Stable);
    assert_eq!(listing.len(), 1);
}

/// One simulated client of the random run.
#[derive(Clone, Default)]
struct Client {
    member_id: String,
    instance_id: Option<String>,
    generation: i32,
    is_leader: bool,
    waiting: Option<u64>,
}

fn random_run(seed: u64) {
    let mut rng = Rng::new(seed);
    let initial_rebalance_delay_ms = rng.below(2) * 2_000;
    let mut trial =
        Trial::new(GroupsConfig { initial_rebalance_delay_ms, member_count_max: 5, ..config() });
    let mut clients: Vec<Client> = (0..8)
        .map(|index| Client {
            instance_id: (index % 3 == 0).then(|| format!("i{}", index % 2)),
            ..Client::default()
        })
        .collect();
    let mut open = HashSet::new();
    for _ in 0..400 {
        let index = rng.below(8) as usize;
        let client = clients[index].clone();
        let who = MemberRef {
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
        };
        let request = match rng.below(10) {
            0..4 => {
                let data = ["x", "y"][rng.below(2) as usize];
                let mut join = join_request(&client.member_id, &[("range", data), ("odd", "o")]);
                join.member = who;
                join.require_known_member_id = rng.chance(1, 2);
                Request::Join(join)
            }
            4..7 => Request::Sync(Sync {
                group: GROUP.into(),
                member: who,
                generation: client.generation,
                assignments: if client.is_leader {
                    vec![(client.member_id, Bytes::from_static(b"p"))]
                } else {
                    vec![]
                },
                ..Sync::default()
            }),
            7 => Request::Heartbeat {
                group: GROUP.into(),
                member: who,
                generation: client.generation,
            },
            8 if rng.chance(1, 2) => Request::Leave { group: GROUP.into(), members: vec![who] },
            _ => {
                let wait_ms = rng.below(8_000);
                trial.wait(wait_ms);
                Request::Describe { group: GROUP.into() }
            }
        };
        let waiter = trial.send(request);
        clients[index].waiting = Some(waiter);
        open.insert(waiter);
        for (to, answer) in std::mem::take(&mut trial.out) {
            assert!(open.remove(&to), "answered twice or unasked: {to}");
            hear(&mut clients, to, answer);
        }
    }
    trial.wait(3 * 24 * 3_600_000);
    for (to, _) in std::mem::take(&mut trial.out) {
        assert!(open.remove(&to));
    }
    assert!(open.is_empty(), "never answered: {open:?}");
    assert_eq!(trial.membership.list(), []);
    assert_eq!(trial.membership.deadline(), Moment::NEVER);
}

fn hear(clients: &mut [Client], to: u64, answer: Answer) {
    let Some(client) = clients.iter_mut().find(|client| client.waiting == Some(to)) else {
        return;
    };
    match answer {
        Answer::Join(Ok(joined)) => {
            client.is_leader = joined.leader == joined.member_id;
            assert_eq!(client.is_leader, !joined.members.is_empty());
            client.member_id = joined.member_id;
            client.generation = joined.generation;
        }
        Answer::Join(Err(refused)) if refused.error == GroupError::MemberIdRequired => {
            client.member_id = refused.member_id;
        }
        Answer::Join(Err(_)) | Answer::Heartbeat(Err(GroupError::UnknownMemberId)) => {
            client.member_id.clear()
        }
        _ => {}
    }
}

#[test]
fn every_request_is_answered_once_whatever_happens() {
    for seed in 0..300 {
        random_run(seed);
    }
}
