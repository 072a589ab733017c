//! How the process's allocator treats large blocks. Touches nothing but the allocator's settings, before
//! the first thread is started.
//!
//! glibc gives large blocks pages of their own and returns these when they are freed, but with the first
//! one freed it raises what it calls large, up to 32 MiB: from then on entries and the buffers of
//! requests come from heaps, one per thread, that keep what is free between two of them. With 1,000
//! connections that pushed large messages the process had 411 MiB resident; with the mark where it is
//! set here 249 MiB, for the same processor time per message.

/// Blocks of at least this size have pages of their own. Below are the blocks that sockets are read
/// into, which come and go too often for that.
const OWN_PAGES_BYTES_MIN: i32 = 1 << 20;

/// True if the allocator takes the setting; another than glibc's has none.
pub fn return_large_blocks() -> bool {
    set(M_MMAP_THRESHOLD, OWN_PAGES_BYTES_MIN)
}

/// From glibc's `malloc.h`.
const M_MMAP_THRESHOLD: i32 = -3;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn set(parameter: i32, value: i32) -> bool {
    extern "C" {
        fn mallopt(parameter: i32, value: i32) -> i32;
    }
    // SAFETY: mallopt(3) takes two ints, which `i32` is on all Linux targets, keeps no pointer, and takes
    // the allocator's own locks, so that it may be called at any time.
    unsafe { mallopt(parameter, value) == 1 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set(_parameter: i32, _value: i32) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::process_use;

    #[test]
    fn a_large_block_goes_back_to_the_system_even_below_one_that_stays() {
        if !return_large_blocks() {
            return;
        }
        const BLOCK: usize = 8 << 20;
        // Freed once, it would raise the mark.
        drop(vec![1u8; BLOCK - 1]);
        let blocks: Vec<Vec<u8>> = (0..6).map(|_| vec![1; BLOCK - 1]).collect();
        let above = vec![1u8; 2 << 20];
        let full = process_use().resident_bytes;
        drop(blocks);
        let left = process_use().resident_bytes;
        assert!(full - left.min(full) > 4 * BLOCK as u64, "{left} of {full} stay");
        drop(above);
    }
}
