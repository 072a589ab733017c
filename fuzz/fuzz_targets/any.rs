//! The target that `KOINE_FUZZ_TARGET` names, under libFuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<&koine_fuzz::Target> = OnceLock::new();

#[global_allocator]
static ALLOCATOR: koine_fuzz::allocator::Counting = koine_fuzz::allocator::Counting;

fuzz_target!(|input: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("KOINE_FUZZ_TARGET").expect("KOINE_FUZZ_TARGET names a target");
        koine_fuzz::find(&name).expect("a target of that name")
    });
    target.check(input);
});
