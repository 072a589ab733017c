//! Rules and passwords changed by Kafka's own requests.

use super::*;
use crate::session::tests::rights::as_role;
use crate::session::tests::sasl;
use koine_broker::access::scram::{Mechanism, Verifier};
use koine_broker::access::{
    AccessCommand, Acl, AclKind, AclPattern, Effect, Operation, PasswordCheck, Secret,
};

pub fn everything() -> describe_acls::Request {
    describe_acls::Request {
        resource_type: 1,
        resource_name: None,
        pattern_type: 1,
        principal: None,
        host: None,
        operation: 1,
        permission_type: 1,
    }
}

pub fn any() -> delete_acls::AclFilter {
    delete_acls::AclFilter {
        resource_type: 1,
        resource_name: None,
        pattern_type: 1,
        principal: None,
        host: None,
        operation: 1,
        permission_type: 1,
    }
}

/// Bob may read a topic.
pub fn creation(topic: &str) -> create_acls::AclCreation {
    create_acls::AclCreation {
        resource_type: 2,
        resource_name: topic.into(),
        pattern_type: 3,
        principal: "User:bob".into(),
        host: "*".into(),
        operation: 3,
        permission_type: 3,
    }
}

fn create(client: &mut Client, creations: Vec<create_acls::AclCreation>) -> Vec<i16> {
    let request = create_acls::Request { creations };
    let response = call!(client, create_acls, CreateAcls, 2, request);
    response.results.iter().map(|result| result.error_code).collect()
}

fn names(client: &mut Client, request: describe_acls::Request) -> Vec<String> {
    let response = call!(client, describe_acls, DescribeAcls, 3, request);
    assert_eq!(response.error_code, 0);
    response.resources.into_iter().map(|resource| resource.resource_name).collect()
}

fn upsertion(
    user: &str,
    password: &str,
    mechanism: Mechanism,
) -> alter_user_scram_credentials::Upsertion {
    use ring::pbkdf2;
    let (algorithm, number) = match mechanism {
        Mechanism::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 1),
        Mechanism::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 2),
    };
    let mut salted = vec![0; mechanism.hash_bytes()];
    let iterations = std::num::NonZeroU32::new(4096).expect("not zero");
    pbkdf2::derive(algorithm, iterations, b"salt", password.as_bytes(), &mut salted);
    alter_user_scram_credentials::Upsertion {
        name: user.into(),
        mechanism: number,
        iterations: 4096,
        salt: Bytes::from_static(b"salt"),
        salted_password: Secret::new(salted),
    }
}

fn alter(
    client: &mut Client,
    deletions: Vec<alter_user_scram_credentials::Deletion>,
    upsertions: Vec<alter_user_scram_credentials::Upsertion>,
) -> Vec<alter_user_scram_credentials::UserResult> {
    let request = alter_user_scram_credentials::Request { deletions, upsertions };
    call!(client, alter_user_scram_credentials, AlterUserScramCredentials, 0, request).results
}

pub fn set_password(
    client: &mut Client,
    user: &str,
    password: &str,
) -> alter_user_scram_credentials::UserResult {
    alter(client, Vec::new(), vec![upsertion(user, password, Mechanism::Sha256)]).remove(0)
}

#[test]
fn rules_are_made_shown_and_taken_away() {
    let mut client = as_role("administrator");
    let subject = Acl {
        user: "bob".into(),
        host: "*".into(),
        effect: Effect::Allow,
        operation: Operation::Read,
        kind: AclKind::Subject,
        pattern: AclPattern::Filter("a/#".into()),
    };
    client.engine.access(AccessCommand::AddAcls { acls: vec![subject] });
    let prefixed = create_acls::AclCreation { pattern_type: 4, ..creation("t") };
    let group = create_acls::AclCreation { resource_type: 3, ..creation("g") };
    let wrong = create_acls::AclCreation { resource_type: 7, ..creation("bob") };
    let creations = vec![creation("t"), wrong, prefixed, group, creation("t")];
    assert_eq!(create(&mut client, creations), [0, 42, 0, 0, 0]);
    assert_eq!(names(&mut client, everything()), ["t", "t", "g"]);
    let of_topic = describe_acls::Request {
        resource_type: 2,
        resource_name: Some("tt".into()),
        pattern_type: 2,
        ..everything()
    };
    assert_eq!(names(&mut client, of_topic), ["t"]);
    let of_others = describe_acls::Request { principal: Some("User:alice".into()), ..everything() };
    assert!(names(&mut client, of_others).is_empty());

    let of_groups = delete_acls::AclFilter { resource_type: 3, ..any() };
    let unknown = delete_acls::AclFilter { operation: 0, ..any() };
    let request = delete_acls::Request { filters: vec![of_groups, unknown, any()] };
    let response = call!(client, delete_acls, DeleteAcls, 3, request);
    let found: Vec<(i16, usize)> = response
        .filter_results
        .iter()
        .map(|result| (result.error_code, result.matching_acls.len()))
        .collect();
    assert_eq!(found, [(0, 1), (42, 0), (0, 2)]);
    assert!(names(&mut client, everything()).is_empty());
    assert_eq!(client.engine.metadata.access().acls().count(), 1, "not the one on a subject");
}

#[test]
fn rules_in_thousands_travel_in_several_commands() {
    let mut client = as_role("administrator");
    let creations: Vec<_> = (0..2500).map(|number| creation(&format!("t{number}"))).collect();
    assert!(create(&mut client, creations).iter().all(|code| *code == 0));
    assert_eq!(names(&mut client, everything()).len(), 2500);
    let request = delete_acls::Request { filters: vec![any()] };
    let response = call!(client, delete_acls, DeleteAcls, 3, request);
    assert_eq!(response.filter_results[0].matching_acls.len(), 2500);
    assert!(names(&mut client, everything()).is_empty());
}

#[test]
fn a_node_without_users_has_no_rules() {
    let mut client = Client::new();
    let disabled = ErrorCode::SecurityDisabled.code();
    let response = call!(client, describe_acls, DescribeAcls, 3, everything());
    assert_eq!(response.error_code, disabled);
    assert_eq!(create(&mut client, vec![creation("t")]), [disabled]);
    let request = delete_acls::Request { filters: vec![any()] };
    let response = call!(client, delete_acls, DeleteAcls, 3, request);
    assert_eq!(response.filter_results[0].error_code, disabled);
    // The first user is made where it can be made an administrator as well.
    assert_eq!(set_password(&mut client, "alice", "secret").error_code, disabled);
    assert!(!client.engine.metadata.access().is_secured());
    let request = describe_user_scram_credentials::Request::default();
    let response =
        call!(client, describe_user_scram_credentials, DescribeUserScramCredentials, 0, request);
    assert_eq!((response.error_code, response.results.len()), (0, 0));
}

#[test]
fn passwords_that_clients_set_let_in() {
    let mut client = as_role("administrator");
    let result = set_password(&mut client, "carol", "secret");
    assert_eq!((result.error_code, result.error_message), (0, None));
    let carol = client.engine.metadata.access().user("carol").expect("made").clone();
    assert_eq!(carol.verifiers.scram_sha_512, None);
    let right = |password: &str| {
        PasswordCheck::new(1, Secret::new(password), Some(carol.verifiers.clone())).is_right()
    };
    assert!(right("secret") && !right("wrong"));
    let expect =
        Verifier::of_password(Mechanism::Sha256, &Secret::new("secret"), b"salt".to_vec(), 4096);
    assert_eq!(carol.verifiers.scram_sha_256, Some(expect));
}

#[test]
fn passwords_are_described_but_not_shown() {
    let mut client = as_role("administrator");
    set_password(&mut client, "carol", "secret");
    let mut describe = |users: Option<Vec<&str>>| {
        let user = |name: &str| describe_user_scram_credentials::UserName { name: name.into() };
        let users = users.map(|users| users.into_iter().map(user).collect());
        let request = describe_user_scram_credentials::Request { users };
        let response = call!(
            client,
            describe_user_scram_credentials,
            DescribeUserScramCredentials,
            0,
            request
        );
        let results = response.results.into_iter().map(|result| {
            let infos = result.credential_infos.iter();
            let infos = infos.map(|info| (info.mechanism, info.iterations)).collect();
            (result.user, result.error_code, infos)
        });
        results.collect::<Vec<(String, i16, Vec<(i8, i32)>)>>()
    };
    let both = vec![(1, 4096), (2, 4096)];
    let all = vec![
        ("alice".to_owned(), 0, both.clone()),
        ("bob".to_owned(), 0, both.clone()),
        ("carol".to_owned(), 0, vec![(1, 4096)]),
    ];
    assert_eq!(describe(None), all);
    assert_eq!(describe(Some(Vec::new())), all);
    let some = vec![
        ("bob".to_owned(), 0, both),
        ("dave".to_owned(), 91, Vec::new()),
        ("alice".to_owned(), 92, Vec::new()),
    ];
    assert_eq!(describe(Some(vec!["bob", "dave", "alice", "alice"])), some);
}

#[test]
fn passwords_that_cannot_be_set_are_refused_with_kafkas_codes() {
    let deletion = |name: &str, mechanism: i8| alter_user_scram_credentials::Deletion {
        name: name.into(),
        mechanism,
    };
    let with = |change: fn(&mut alter_user_scram_credentials::Upsertion)| {
        let mut upsertion = upsertion("bob", "secret", Mechanism::Sha256);
        change(&mut upsertion);
        vec![upsertion]
    };
    let two = || {
        let mut two = with(|_| {});
        two.push(upsertion("bob", "secret", Mechanism::Sha512));
        two
    };
    for (deletions, upsertions, expect) in [
        (vec![deletion("bob", 1)], Vec::new(), 0),
        (vec![deletion("bob", 3)], Vec::new(), 33),
        (vec![deletion("dave", 1)], Vec::new(), 91),
        (vec![deletion("", 1)], Vec::new(), 93),
        (vec![deletion("bob", 1), deletion("bob", 2)], Vec::new(), 92),
        (vec![deletion("bob", 1)], with(|_| {}), 92),
        (Vec::new(), two(), 92),
        (Vec::new(), with(|upsertion| upsertion.iterations = 4095), 93),
        (Vec::new(), with(|upsertion| upsertion.iterations = 16_385), 93),
        (Vec::new(), with(|upsertion| upsertion.iterations = -1), 93),
        (Vec::new(), with(|upsertion| upsertion.mechanism = 0), 33),
        (Vec::new(), with(|upsertion| upsertion.name.clear()), 93),
        (Vec::new(), with(|upsertion| upsertion.name = "*".into()), 93),
        (Vec::new(), with(|upsertion| upsertion.salt = Bytes::new()), 93),
        (Vec::new(), with(|upsertion| upsertion.salt = vec![0; 257].into()), 93),
        (Vec::new(), with(|upsertion| upsertion.salted_password = Secret::new("x")), 93),
    ] {
        let mut client = as_role("administrator");
        let results = alter(&mut client, deletions.clone(), upsertions);
        assert_eq!(results.len(), 1, "{deletions:?}");
        assert_eq!(results[0].error_code, expect, "{deletions:?} {:?}", results[0]);
        assert_eq!(results[0].error_message.is_some(), expect != 0);
    }
}

#[test]
fn a_new_password_ends_the_connections_of_the_old_one() {
    let mut client = as_role("administrator");
    assert_eq!(set_password(&mut client, "bob", "other").error_code, 0);
    client.access_changed();
    assert!(sasl::is_served(&mut client), "alice is not bob");
    assert_eq!(set_password(&mut client, "alice", "other").error_code, 0);
    client.access_changed();
    assert!(client.closed);
}

#[test]
fn who_changes_its_own_password_is_told_before_it_is_cut_off() {
    let own = || {
        let mut client = as_role("administrator");
        client.engine.paused = true;
        let upsertions = vec![upsertion("alice", "other", Mechanism::Sha256)];
        let request = alter_user_scram_credentials::Request { deletions: Vec::new(), upsertions };
        client.queue(ApiKey::AlterUserScramCredentials, 0, |w| request.encode(w, 0));
        client.run();
        // The change is here before its answer.
        let verifiers = Default::default();
        client.engine.access(AccessCommand::SetVerifiers { name: "alice".into(), verifiers });
        client.access_changed();
        assert!(!client.closed && !client.session.wants_input());
        client
    };
    let mut client = own();
    client.queue(ApiKey::Metadata, 9, |w| metadata::Request::default().encode(w, 9));
    client.engine.paused = false;
    client.run();
    assert!(client.answer(ApiKey::AlterUserScramCredentials, 0).is_some());
    assert!(client.closed && client.take_bytes().is_empty(), "nothing else is served");

    let mut client = own();
    client.pass_deadline();
    assert!(client.closed, "nor is it waited for without end");
}

#[test]
fn salted_passwords_are_not_printed() {
    let mut salted = upsertion("bob", "secret", Mechanism::Sha256);
    salted.salted_password = Secret::new("canary");
    assert!(!format!("{salted:?}").contains("canary"));
    let bytes = format!("{:?}", b"canary");
    assert!(!format!("{salted:?}").contains(bytes.trim_matches(['[', ']'])));
}
