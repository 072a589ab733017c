use super::*;
use crate::test_directory::TestDirectory;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn mode(file: &Path) -> u32 {
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn read(file: &Path) -> Certificate {
    let der = CertificateDer::from_pem_file(file).unwrap();
    Certificate::from_der(&der).unwrap()
}

#[test]
fn files_are_secret_where_they_must_be_and_never_written_over() {
    let directory = TestDirectory::new("certificates");
    let made = make(directory.path(), &names(&["broker.example.org", "192.0.2.7"])).unwrap();
    let alice = make_client(directory.path(), "alice").unwrap();
    for key in [&directory.path().join(CA_KEY_FILE), &made.server.key, &alice.key] {
        assert_eq!(mode(key), 0o600, "{}", key.display());
    }
    let before = std::fs::read(&made.ca).unwrap();
    let error = make(directory.path(), &[]).unwrap_err().to_string();
    assert!(error.ends_with("ca.pem exists already, and is never written over"), "{error}");
    let error = make_client(directory.path(), "alice").unwrap_err().to_string();
    assert!(error.contains("client-alice.key exists already"), "{error}");
    assert_eq!(std::fs::read(&made.ca).unwrap(), before);

    let half = TestDirectory::new("certificates");
    std::fs::write(half.path().join(SERVER_KEY_FILE), "mine").unwrap();
    assert!(make(half.path(), &[]).is_err());
    assert_eq!(std::fs::read_dir(half.path()).unwrap().count(), 1, "nothing was begun");
}

#[test]
fn the_authority_in_use_must_be_whole() {
    let directory = TestDirectory::new("certificates");
    assert!(make_client(directory.path(), "alice").is_err(), "there is none");
    make(directory.path(), &[]).unwrap();
    let other = TestDirectory::new("certificates");
    make(other.path(), &[]).unwrap();
    std::fs::copy(other.path().join(CA_KEY_FILE), directory.path().join(CA_KEY_FILE)).unwrap();
    let error = make_client(directory.path(), "alice").unwrap_err().to_string();
    assert!(error.contains("ca.key: is not the key of"), "{error}");
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    let directory = TestDirectory::new("certificates");
    for name in ["", "a b", "-\n", "a..b", &"x".repeat(64), "κ.example"] {
        assert!(make(directory.path(), &names(&[name])).is_err(), "{name:?}");
    }
    make(directory.path(), &names(&["*.example.org", "::1", "a_b"])).unwrap();
    for user in ["", "../x", "a/b", ".hidden", "a b", "a\0b", &"x".repeat(65)] {
        assert!(make_client(directory.path(), user).is_err(), "{user:?}");
    }
    make_client(directory.path(), "αλίκη@example.org").unwrap();
}

#[test]
fn a_certificate_says_what_it_is_for_and_no_more() {
    let directory = TestDirectory::new("certificates");
    let given = names(&["broker.example.org", "192.0.2.7", "localhost"]);
    let made = make(directory.path(), &given).unwrap();
    let alice = read(&make_client(directory.path(), "alice").unwrap().certificate).tbs_certificate;
    let (ca, server) =
        (read(&made.ca).tbs_certificate, read(&made.server.certificate).tbs_certificate);
    let basic = |of: &TbsCertificate| of.get::<BasicConstraints>().unwrap().unwrap();
    assert_eq!(basic(&ca), (true, BasicConstraints { ca: true, path_len_constraint: Some(0) }));
    assert_eq!(basic(&server), (true, BasicConstraints { ca: false, path_len_constraint: None }));
    let purpose = |of: &TbsCertificate| of.get::<ExtendedKeyUsage>().unwrap().unwrap().1 .0;
    assert_eq!((purpose(&server), purpose(&alice)), (vec![SERVER_AUTH], vec![CLIENT_AUTH]));
    let key = ca.get::<SubjectKeyIdentifier>().unwrap().unwrap().1 .0;
    let issuer = server.get::<AuthorityKeyIdentifier>().unwrap().unwrap().1.key_identifier;
    assert_eq!(issuer, Some(key));
    let alternatives = server.get::<SubjectAltName>().unwrap().unwrap().1 .0;
    for name in ["localhost", "127.0.0.1", "::1", "broker.example.org", "192.0.2.7"] {
        let wanted = alternative(name).unwrap();
        assert_eq!(alternatives.iter().filter(|found| **found == wanted).count(), 1, "{name}");
    }
    for (certificate, days) in [(&ca, CA_DAYS), (&server, LEAF_DAYS), (&alice, LEAF_DAYS)] {
        let Validity { not_before, not_after } = certificate.validity;
        let length = not_after.to_unix_duration() - not_before.to_unix_duration();
        assert_eq!(length, DAY * days);
        let age = SystemTime::now().duration_since(not_before.to_system_time()).unwrap();
        assert!(age >= DAY && age < DAY * 2, "{age:?}");
        assert_eq!(certificate.serial_number.as_bytes().len(), SERIAL_BYTES);
    }
    assert_ne!(server.serial_number, alice.serial_number);
}

/// `openssl verify -x509_strict`, where there is one.
#[test]
fn openssl_finds_nothing_to_object_to() {
    let directory = TestDirectory::new("certificates");
    let made = make(directory.path(), &names(&["broker.example.org"])).unwrap();
    let alice = make_client(directory.path(), "alice").unwrap();
    let verify = |purpose, rest: &[&str], file: &Path| {
        let mut command = Command::new("openssl");
        command.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(&made.ca);
        let Ok(output) = command.args(rest).arg(file).output() else {
            println!("skipped: there is no openssl");
            return true;
        };
        println!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
        output.status.success()
    };
    let server = &made.server.certificate;
    assert!(verify("sslserver", &["-verify_hostname", "broker.example.org"], server));
    assert!(verify("sslserver", &["-verify_ip", "127.0.0.1"], server));
    assert!(verify("sslclient", &[], &alice.certificate));
}
