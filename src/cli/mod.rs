//! cli (being merged)
pub mod audit;
pub mod demo;
pub mod rls;
pub mod scan;
pub mod token;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
