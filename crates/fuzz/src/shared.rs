//! What the protocols share: batches and their codecs, filters, headers, patterns, logins, metadata.

use crate::allocator::measured;
use crate::data::Data;
use bytes::Bytes;
use koine_base::checksum::crc32c;
use koine_broker::access::scram::{Mechanism, ServerExchange, Verifier};
use koine_broker::access::{
    Access, AccessCommand, AccessLimits, Pattern, Secret, SecretRng, User, Verifiers,
};
use koine_broker::batch::{self, BatchLimits};
use koine_broker::limits::Limits;
use koine_broker::message::{Annotation, Content};
use koine_broker::metadata::{Metadata, MetadataLimits};
use koine_broker::router::{Filter, FilterLevel, MatchScratch, Subject, SubjectTree};
use koine_cluster::peer::PeerMail;

/// Small, so that a cap is met soon.
const LIMITS: BatchLimits = BatchLimits {
    batch_bytes_max: 1 << 20,
    record_count_max: 100_000,
    decompressed_bytes_max: 8 << 20,
    decompressed_ratio_max: 100,
};

/// What a Zstandard frame may ask for to look back into: the smallest window that every decoder has to
/// support (RFC 8878 §3.1.1.1.2), and the room that its buffer has beside it.
pub const ZSTD_WINDOW_BYTES: usize = (8 << 20) + (512 << 10);

/// A batch as a producer sends it; its checksum is made right, because guessing one takes too long.
pub fn batch(input: &[u8]) {
    let mut raw = input.to_vec();
    put_length_and_checksum(&mut raw);
    read_batch(raw);
}

fn put_length_and_checksum(raw: &mut [u8]) {
    if raw.len() < 61 {
        return;
    }
    let length = (raw.len() - 12) as i32;
    raw[8..12].copy_from_slice(&length.to_be_bytes());
    raw[16] = 2;
    let crc = crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn read_batch(raw: Vec<u8>) {
    let bytes = Bytes::from(raw);
    let allowed = LIMITS.decompressed_bytes_allowed(bytes.len());
    let is_zstd = bytes.get(22).is_some_and(|attributes| attributes & 7 == 4);
    let free = (1 << 20) + if is_zstd { ZSTD_WINDOW_BYTES } else { 0 };
    // Records are views into one buffer, and that grows by doubling.
    measured(bytes.len(), free, 8 + 3 * (allowed / bytes.len().max(1) + 1), || {
        let Ok(info) = batch::validate_from_producer(&bytes, &LIMITS) else { return };
        let is_plain = info.codec == batch::Codec::None;
        // Where the log puts it.
        let mut stored = bytes.to_vec();
        batch::patch(&mut stored, 7, 1);
        let bytes = Bytes::from(stored);
        let Ok(records) = batch::records(&bytes, &LIMITS) else {
            assert!(!is_plain, "what was walked can be read");
            return;
        };
        let mut count = 0;
        for record in records {
            let Ok(record) = record else {
                assert!(!is_plain, "what was walked can be read");
                return;
            };
            let _ = (record.key(), record.value(), record.headers().count());
            let (content, _) = koine_broker::message::from_record(&record);
            let _ = content.size();
            count += 1;
        }
        assert_eq!(count, info.record_count, "as many records as announced");
    });
}

/// A batch whose records are these bytes, compressed as they say.
fn compressed(codec: u8, input: &[u8]) {
    let mut raw = vec![0; 61];
    raw[22] = codec;
    raw[60] = 1; // one record
    raw[43..51].fill(0xff); // no producer
    raw[51..53].fill(0xff);
    raw[53..57].fill(0xff);
    raw.extend_from_slice(input);
    put_length_and_checksum(&mut raw);
    read_batch(raw);
}

pub fn gzip(input: &[u8]) {
    compressed(1, input);
}

pub fn snappy(input: &[u8]) {
    compressed(2, input);
}

pub fn lz4(input: &[u8]) {
    compressed(3, input);
}

pub fn zstd(input: &[u8]) {
    compressed(4, input);
}

/// Some filters, MQTT's and AMQP's, and some subjects; the tree against a comparison level by level.
pub fn filters(input: &[u8]) {
    let mut data = Data::new(input);
    let mut tree: SubjectTree<u32, ()> = SubjectTree::new();
    let mut filters = Vec::new();
    for number in 0..data.byte() % 16 {
        let filter = match data.byte() & 1 {
            0 => Filter::from_mqtt(&data.text(40)),
            _ => Filter::from_amqp(data.piece(40)),
        };
        if let Ok(filter) = filter {
            tree.insert(&filter, u32::from(number), ());
            filters.push((filter, u32::from(number)));
        }
    }
    let mut scratch = MatchScratch::default();
    while !data.is_empty() {
        let subject = match data.byte() & 1 {
            0 => Subject::from_mqtt(&data.text(40)),
            _ => Subject::from_amqp(data.piece(40)),
        };
        let Ok(subject) = subject else { continue };
        let mut found = Vec::new();
        tree.matching(&subject, &mut scratch, |key, ()| found.push(*key));
        found.sort_unstable();
        let levels: Vec<&[u8]> = subject.levels().collect();
        let mut expect: Vec<u32> = filters
            .iter()
            .filter(|(filter, _)| {
                // MQTT has no name for a subject without a level, and `$` hides from its wildcards.
                let is_hidden = filter.starts_with_mqtt_wildcard()
                    && levels.first().is_none_or(|level| level.starts_with(b"$"));
                let asked: Vec<_> = filter.levels().collect();
                !is_hidden && matches(&asked, &levels)
            })
            .map(|(_, number)| *number)
            .collect();
        expect.sort_unstable();
        assert_eq!(found, expect, "{subject:?} of {filters:?}");
    }
}

fn matches(filter: &[FilterLevel<'_>], levels: &[&[u8]]) -> bool {
    match (filter.split_first(), levels.split_first()) {
        (None, None) => true,
        (Some((FilterLevel::Many, rest)), _) => {
            (0..=levels.len()).any(|skipped| matches(rest, &levels[skipped..]))
        }
        (Some((FilterLevel::One, rest)), Some((_, below))) => matches(rest, below),
        (Some((FilterLevel::Exact(text), rest)), Some((level, below))) => {
            text == level && matches(rest, below)
        }
        _ => false,
    }
}

/// Arguments and headers of a headers exchange, from AMQP tables.
pub fn headers(input: &[u8]) {
    let mut data = Data::new(input);
    let arguments = Bytes::copy_from_slice(data.piece(400));
    let raw = Bytes::copy_from_slice(data.rest());
    measured(input.len(), 64 << 10, 256, || {
        let (Ok(arguments), Ok(raw)) = (
            koine_amqp::v091::table::Table::new(arguments),
            koine_amqp::v091::table::Table::new(raw),
        ) else {
            return;
        };
        for (name, _) in arguments.view().entries() {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let _ = raw.view().find(name);
        }
    });
}

pub fn patterns(input: &[u8]) {
    let mut data = Data::new(input);
    let pattern = data.text(1100);
    let name = data.rest();
    // A compiled pattern, and what its building takes.
    measured(input.len(), 16 << 20, 64, || {
        let Ok(pattern) = Pattern::new(&pattern) else { return };
        let mut access = Access::default();
        let user = User::default();
        let limits = AccessLimits::default();
        let add = AccessCommand::AddUser { name: "u".to_owned(), user, decoy_key: vec![1] };
        access.apply(add, &limits).expect("a sound user");
        let row = koine_broker::access::Permissions {
            configure: pattern.clone(),
            write: pattern.clone(),
            read: pattern,
        };
        let namespace = koine_broker::metadata::NamespaceId(0);
        let set = AccessCommand::SetPermissions { user: "u".to_owned(), namespace, row };
        access.apply(set, &limits).expect("checked before");
        let who = koine_broker::access::Principal {
            user: Some("u".into()),
            generation: access.user("u").map_or(0, |user| user.generation),
            client_id: Some(String::from_utf8_lossy(name).into()),
            address: None,
        };
        let name = String::from_utf8_lossy(name);
        let topic = koine_broker::access::Resource::Topic { namespace, name: &name };
        let _ = access.authorize(&who, koine_broker::access::Action::Read, &topic);
    });
}

/// First and last message of a client who does not know the password.
pub fn scram(input: &[u8]) {
    let mut data = Data::new(input);
    let mechanism = Mechanism::ALL[data.below(2)];
    let mut verifiers = Verifiers::default();
    let salted = vec![3; mechanism.hash_bytes()];
    let verifier = Verifier::of_salted_password(mechanism, &salted, vec![5; 16], 4096);
    *verifiers.scram_mut(mechanism) = Some(verifier);
    let mut access = Access::default();
    let user = User { verifiers, ..User::default() };
    let add = AccessCommand::AddUser { name: "user".to_owned(), user, decoy_key: vec![1] };
    access.apply(add, &AccessLimits::default()).expect("a sound user");
    let first = match data.byte() & 1 {
        0 => b"n,,n=user,r=abc".to_vec(),
        _ => data.piece(300).to_vec(),
    };
    let last = data.rest();
    measured(input.len(), 64 << 10, 64, || {
        let mut rng = SecretRng::new(&[1; 32]);
        let begun = ServerExchange::begin(mechanism, &first, &access, &mut rng);
        let Ok((exchange, server_first)) = begun else { return };
        assert!(exchange.finish(last).is_err());
        // With the right nonce it is the proof that is wrong.
        let nonce = server_first.split(',').next().unwrap_or_default();
        let mut guess = format!("c=biws,{nonce},p=").into_bytes();
        guess.extend_from_slice(last);
        assert!(exchange.finish(&guess).is_err());
    });
    let _ = Secret::new("");
}

pub fn metadata(input: &[u8]) {
    let limits = MetadataLimits::from(&Limits::default());
    measured(input.len(), 4 << 20, 1024, || {
        // Not from a peer: a checkpoint's checksum stands before it. It must still not bring us down.
        if let Some(metadata) = Metadata::decode(input, limits) {
            let _ = metadata.encode();
        }
    });
}

pub fn peer_mail(input: &[u8]) {
    measured(input.len(), 64 << 10, 256, || {
        if let Some(mail) = PeerMail::decode(input) {
            let mut out = Vec::new();
            mail.encode(&mut out);
            let again = PeerMail::decode(&out);
            assert_eq!(again.map(|mail| mail.describe()), Some(mail.describe()));
        }
    });
}

pub fn content(input: &[u8]) {
    measured(input.len(), 64 << 10, 64, || {
        if let Some(content) = Content::decode(Bytes::copy_from_slice(input)) {
            assert_eq!(Content::decode(content.encode()), Some(content));
        }
        if let Some(annotation) = Annotation::decode(input) {
            assert_eq!(Annotation::decode(&annotation.encode()), Some(annotation));
        }
    });
}
