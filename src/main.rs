//! The program `bindery`; all of it is in the library.

#![forbid(unsafe_code)]

/// Thousands of bindings come and go in pieces of all sizes, on several threads: musl's allocator, which the image would
/// have, is slow at that. Without huge pages (`no_thp`), which would hold twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    bindery::cli::main()
}
