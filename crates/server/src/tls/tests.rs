use super::*;
use crate::certificates;
use crate::config::{ClientAuth, UserFrom};
use crate::metrics::Refusal;
use crate::runtime::entrance::{enter, Entered};
use crate::test_directory::TestDirectory;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio::net::TcpListener;

/// A certificate of the integration tests, all made by openssl.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls/certificates").join(name)
}

fn identity_of(name: &str) -> koine_broker::session::ClientCertificate {
    identity::read(&CertificateDer::from_pem_file(fixture(name)).unwrap()).unwrap()
}

#[test]
fn a_subject_is_written_as_rfc_4514_has_it() {
    let check = |name: &str, subject: &str, common_name: Option<&str>| {
        let found = identity_of(name);
        assert_eq!((found.subject.as_str(), found.common_name.as_deref()), (subject, common_name));
    };
    check("alice.pem", "CN=alice,OU=dev\\, ops,O=Koine,C=GR", Some("alice"));
    check("bob.pem", "CN=bob,O=Koine", Some("bob"));
    check(
        "odd.pem",
        "CN=\\ lead,OU=x+1.2.840.113549.1.9.1=#160f6f6464406578616d706c652e6f7267,O=Κοινή \\\"#1\\\"",
        Some(" lead"),
    );
    let alice = identity_of("alice.pem");
    assert_eq!(alice.email_addresses, ["alice@example.org"]);
    assert_eq!(alice.dns_names, ["alice.example.org"]);
    assert_eq!(identity::read(b"\x30\x03\x02\x01\x00"), None);
}

#[test]
fn a_user_is_the_part_that_the_setting_names() {
    let alice = identity_of("alice.pem");
    let check = |from, expect: Option<&str>| {
        assert_eq!(identity::user(&alice, from).as_deref(), expect, "{from:?}");
    };
    check(UserFrom::CommonName, Some("alice"));
    check(UserFrom::DistinguishedName, Some("CN=alice,OU=dev\\, ops,O=Koine,C=GR"));
    check(UserFrom::San, Some("alice@example.org"));
    assert_eq!(identity::user(&identity_of("bob.pem"), UserFrom::San), None);
    let mut forged = alice;
    for name in ["", "admin\0.evil", "admin\n"] {
        forged.common_name = Some(name.to_owned());
        assert_eq!(identity::user(&forged, UserFrom::CommonName), None, "{name:?}");
    }
}

/// An authority, a broker's certificate, and what the broker is then told.
fn settings(directory: &TestDirectory, client_auth: ClientAuth) -> config::Tls {
    let made = certificates::make(directory.path(), &[]).unwrap();
    config::Tls {
        certificate: Some(made.server.certificate),
        key: Some(made.server.key),
        client_ca: (client_auth != ClientAuth::Off).then_some(made.ca),
        client_auth,
        ..config::Tls::default()
    }
}

fn client(directory: &Path, shows: Option<&certificates::Pair>) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(directory.join(certificates::CA_FILE)).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shows {
        Some(pair) => {
            let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(&pair.key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("127.0.0.1").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// What comes of the sockets that `clients` open, each on a thread of its own, in the order of
/// accepting; and how long the last one took.
fn enter_all(
    tls: &Arc<Tls>,
    acceptance: Acceptance,
    clients: Vec<Box<dyn FnOnce(std::net::TcpStream) + Send>>,
) -> Vec<(Result<Entered, Refusal>, Duration)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut entering = Vec::new();
        for client in clients {
            // Connected one after the other, so that their order is known.
            let stream = std::net::TcpStream::connect(address).unwrap();
            let (socket, remote) = listener.accept().await.unwrap();
            // It ends with the socket, which the caller may keep.
            std::thread::spawn(move || client(stream));
            let tls = Arc::clone(tls);
            entering.push(tokio::task::spawn_local(async move {
                let began = Instant::now();
                (enter(&tls, acceptance, socket, remote).await, began.elapsed())
            }));
        }
        let mut entered = Vec::new();
        for one in entering {
            entered.push(one.await.unwrap());
        }
        entered
    })
}

fn limits(handshake_ms_max: u64, tls_handshakes_max: usize) -> Limits {
    Limits { handshake_ms_max, tls_handshakes_max, ..Limits::default() }
}

/// Finishes its handshake and waits for the other end to go.
fn polite(mut tls: ClientConnection) -> Box<dyn FnOnce(std::net::TcpStream) + Send> {
    Box::new(move |mut socket| {
        while tls.is_handshaking() && tls.complete_io(&mut socket).is_ok() {}
        let _ = socket.read(&mut [0; 8]);
    })
}

/// Sends the bytes at once and nothing more.
fn saying(bytes: Vec<u8>) -> Box<dyn FnOnce(std::net::TcpStream) + Send> {
    Box::new(move |mut socket| {
        let _ = socket.write_all(&bytes);
        let _ = socket.read(&mut [0; 8]);
    })
}

#[test]
fn our_own_certificates_lead_to_a_user() {
    let directory = TestDirectory::new("tls");
    let settings = settings(&directory, ClientAuth::Required);
    let alice = certificates::make_client(directory.path(), "alice").unwrap();
    let tls = Tls::open(&settings, &Limits::default()).unwrap().unwrap();
    let clients = vec![polite(client(directory.path(), Some(&alice)))];
    let mut entered = enter_all(&tls, Acceptance::Either, clients);
    let Some((Ok(Entered::Tls(stream)), _)) = entered.pop() else {
        panic!("no TLS connection");
    };
    let peer = tls.peer(stream.get_ref().1);
    assert_eq!(peer.user.as_deref(), Some("alice"));
    assert_eq!(peer.certificate.unwrap().subject, "CN=alice");
}

#[test]
fn the_first_byte_decides() {
    let directory = TestDirectory::new("tls");
    let tls =
        Tls::open(&settings(&directory, ClientAuth::Off), &limits(5_000, 10)).unwrap().unwrap();
    let first = |byte: u8| saying(vec![byte, 3, 1, 0, 0, 0, 0, 0]);
    // Every byte that a plain protocol may begin with, and every other.
    for byte in 0..=u8::MAX {
        let entered = enter_all(&tls, Acceptance::Either, vec![first(byte)]).pop().unwrap().0;
        let is_plain = matches!(entered, Ok(Entered::Plain(_)));
        assert_eq!(is_plain, byte != HANDSHAKE_RECORD, "{byte:#x}");
    }
}

#[test]
fn silence_and_dribbling_end_at_the_same_time() {
    let directory = TestDirectory::new("tls");
    let tls = Tls::open(&settings(&directory, ClientAuth::Off), &limits(400, 10)).unwrap().unwrap();
    let mut hello = Vec::new();
    client(directory.path(), None).write_tls(&mut hello).unwrap();
    let half = hello[..hello.len() / 2].to_vec();
    let dribbling: Box<dyn FnOnce(std::net::TcpStream) + Send> = Box::new(move |mut socket| {
        for byte in hello {
            if socket.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    let clients = vec![saying(Vec::new()), saying(half), dribbling];
    for (outcome, took) in enter_all(&tls, Acceptance::Either, clients) {
        assert_eq!(outcome.err(), Some(Refusal::Slow));
        assert!((400..2_000).contains(&(took.as_millis() as u64)), "{took:?}");
    }
}

#[test]
fn handshakes_beyond_the_bound_wait_their_turn() {
    let directory = TestDirectory::new("tls");
    let tls =
        Tls::open(&settings(&directory, ClientAuth::Off), &limits(1_000, 2)).unwrap().unwrap();
    let half = || saying(vec![HANDSHAKE_RECORD, 3, 1]);
    // Two that stall hold both places; those behind them are served when the time of the two is over,
    // if their own is not.
    let clients = vec![half(), half(), polite(client(directory.path(), None))];
    let entered = enter_all(&tls, Acceptance::Always, clients);
    let outcomes: Vec<_> = entered.iter().map(|(outcome, _)| outcome.as_ref().err()).collect();
    assert_eq!(outcomes, [Some(&Refusal::Slow); 3], "it came when they did");
    // The place of one that fails is free at once.
    let rubbish = || saying(vec![HANDSHAKE_RECORD; 64]);
    let clients = vec![rubbish(), half(), polite(client(directory.path(), None))];
    let entered = enter_all(&tls, Acceptance::Always, clients);
    assert!(matches!(entered[0].0, Err(Refusal::Handshake)));
    assert!(matches!(entered[2], (Ok(Entered::Tls(_)), took) if took < Duration::from_millis(900)));
}

#[test]
fn files_are_taken_when_they_have_settled() {
    let directory = TestDirectory::new("tls");
    let settings = settings(&directory, ClientAuth::Off);
    let tls = Tls::open(&settings, &Limits::default()).unwrap().unwrap();
    let other = TestDirectory::new("tls");
    let made = certificates::make(other.path(), &[]).unwrap();
    let reloads = || {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&tls.counts.reloads), read(&tls.counts.reloads_failed))
    };
    tls.look_at_files();
    assert_eq!(reloads(), (0, 0));
    let (certificate, key) = (settings.certificate.unwrap(), settings.key.unwrap());
    std::fs::copy(made.server.certificate, &certificate).unwrap();
    tls.look_at_files();
    std::fs::copy(made.server.key, &key).unwrap();
    tls.look_at_files();
    assert_eq!(reloads(), (0, 0), "a change is under way");
    tls.look_at_files();
    tls.look_at_files();
    assert_eq!(reloads(), (1, 0), "taken together, once");
    std::fs::remove_file(&key).unwrap();
    (0..4).for_each(|_| tls.look_at_files());
    assert_eq!(reloads(), (1, 1), "told once");
}
