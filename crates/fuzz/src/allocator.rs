//! Counts what is allocated, so that a target can say how much memory an input may cost. The one place here
//! with `unsafe`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted per thread.
pub struct Counting;

thread_local! {
    /// Bytes that are allocated now and were since [`measured`] began, less what was freed.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator with the same arguments; the counters are thread-local
// cells without destructors, which neither allocate nor unwind.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        System.alloc_zeroed(layout)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        System.dealloc(pointer, layout);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as isize - layout.size() as isize);
        System.realloc(pointer, layout, size)
    }
}

/// Runs `work` on `bytes` of input, which may have no more than `free + per_byte * bytes` allocated at any
/// moment beside what there was before. Without [`Counting`] as the program's allocator nothing is
/// counted and all is well.
pub fn measured<R>(bytes: usize, free: usize, per_byte: usize, work: impl FnOnce() -> R) -> R {
    let before = NOW.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let done = work();
    let peak = PEAK.with(Cell::get) - before;
    let allowed = free + per_byte * bytes;
    assert!(
        peak <= allowed as isize,
        "{peak} bytes were allocated for {bytes} of input; {allowed} are allowed"
    );
    done
}
