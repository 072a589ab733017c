//! What TLS counts, of the whole node.

use super::exposition::Exposition;
use crate::tls::Counts;
use std::sync::atomic::{AtomicU64, Ordering};

pub fn expose(page: &mut Exposition, counts: &Counts) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.counter("koine_tls_handshakes_total", "TLS handshakes that ended, by how.");
    page.sample(&[("result", "done")], read(&counts.done));
    page.sample(&[("result", "failed")], read(&counts.failed));
    page.sample(&[("result", "slow")], read(&counts.timed_out));
    page.counter("koine_tls_reloads_total", "Times the certificate files were read again.");
    page.sample(&[("result", "taken")], read(&counts.reloads));
    page.sample(&[("result", "refused")], read(&counts.reloads_failed));
    page.gauge("koine_tls_certificate_expiry_seconds", "Unix time at which the certificate ends.")
        .sample(&[], read(&counts.expires_unix_seconds));
}
