//! cli (being written)

pub mod demo;
pub mod rls;
pub mod scan;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
