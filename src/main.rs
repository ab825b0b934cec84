//! The program; see the library for all that it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    onex_registry::cli::main()
}
