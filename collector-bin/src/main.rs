//! The `promferry` command.

use std::process::ExitCode;

use promferry_collector::cli::{self, Aws, Command, DemoArgs, documents};
use promferry_collector::{aws, check, demo, parse, run, spool};

// Many threads allocate and free pages and buffers of all sizes: glibc's allocator keeps what jemalloc gives
// back.
#[cfg(not(miri))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options, a C string that it finds by this name. One arena instead of four a core: buffers that one thread
/// gives back are used by the next, which takes 2.4 MiB less at 200 targets and no more CPU time (BENCHMARKS.md). The
/// variable `_RJEM_MALLOC_CONF` overrides it.
#[cfg(not(miri))]
#[expect(
    unsafe_code,
    reason = "only an exported name tells jemalloc; nothing but a constant of its type bears it"
)]
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 10] = b"narenas:1\0";

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // Where even that can't be written, the exit status says it.
            let _ = error.print();
            return ExitCode::from(cli::exit_status(&error));
        }
    };
    match cli.command {
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Parse(args)) => parse::run(&args),
        Some(Command::Aws { what: Aws::Whoami(args) }) => aws::whoami(&args),
        Some(Command::Spool { what }) => spool::run(&what),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Completions { shell }) => documents::completions(shell),
        Some(Command::Man) => documents::manual(),
        Some(Command::Version) => run::version(),
        None => demo::run(&DemoArgs::default()),
    }
}
