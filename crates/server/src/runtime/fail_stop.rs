//! A broken invariant in the engine ends the process: going on could acknowledge what is not stored.

/// Ends the process if dropped by a panic. Names who failed.
pub struct FailStop(pub &'static str);

impl Drop for FailStop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic's own message has been printed by the hook.
            eprintln!("koine: {} failed; stopping so that nothing false is acknowledged", self.0);
            std::process::abort();
        }
    }
}
