//! What the Rust example clients share: where the broker is, names that no earlier run has used, and one line per
//! check. It must never know a protocol.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest that one check may take before it counts as failed.
pub const CHECK_SECONDS_MAX: u64 = 60;

/// `HOST:PORT` from the first argument, else from the environment variable, else the usual local port.
pub fn address(variable: &str, usual: &str) -> String {
    std::env::args()
        .nth(1)
        .or_else(|| std::env::var(variable).ok())
        .unwrap_or_else(|| usual.to_owned())
}

/// Splits `HOST:PORT`.
pub fn host_and_port(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').expect("the address is HOST:PORT");
    (host.to_owned(), port.parse().expect("the port is a number"))
}

/// A name that no other run uses: `prefix-` and the clock in hexadecimal.
pub fn unique(prefix: &str) -> String {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    format!("{prefix}-{:x}", clock.as_nanos())
}

/// Why a check failed, in words.
pub type Outcome = Result<(), String>;

/// Turns any error into the text of a failed check.
pub fn why(error: impl Display) -> String {
    error.to_string()
}

/// Fails with both sides unless they are equal.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want {
        Ok(())
    } else {
        Err(format!("{what}: got {got:?}, want {want:?}"))
    }
}

/// Counts failed checks and prints one line for each check.
#[derive(Default)]
pub struct Checks {
    failed: usize,
}

impl Checks {
    /// Runs one check to its end, at most [`CHECK_SECONDS_MAX`] seconds.
    pub async fn run(&mut self, name: &str, check: impl Future<Output = Outcome>) {
        let limit = Duration::from_secs(CHECK_SECONDS_MAX);
        let outcome = tokio::time::timeout(limit, check)
            .await
            .unwrap_or_else(|_| Err(format!("not done after {CHECK_SECONDS_MAX} s")));
        match outcome {
            Ok(()) => println!("ok {name}"),
            Err(reason) => {
                self.failed += 1;
                println!("FAIL {name}: {}", reason.replace('\n', " "));
            }
        }
    }

    /// 0 when every check passed, else 1.
    pub fn finish(self) -> ExitCode {
        ExitCode::from(u8::from(self.failed > 0))
    }
}
