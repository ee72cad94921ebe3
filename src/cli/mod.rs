//! cli (being written)

pub mod demo;
pub mod rls;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
