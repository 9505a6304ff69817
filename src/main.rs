//! The `pinion` server.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pinion::server::boot::main(std::env::args_os().skip(1))
}
