//! The `hedgerow` binary: hands over to [`hedgerow::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hedgerow::cli::main()
}
