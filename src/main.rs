//! The program; see the library for all that it does.

use std::process::ExitCode;

/// A request makes dozens of small allocations, and a change of the catalog some more, on all threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    onex_registry::cli::main()
}
