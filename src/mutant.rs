//! Seeded faults: what the tests must notice. Layer 0.
//!
//! A call site asks [`on`] whether its fault is planted. Without the feature `mutants` the answer is
//! the constant `false` and nothing of it is left in the program; with it, `HEDGEROW_MUTANT` names
//! the faults of the process, separated by commas. `tests/mutants` holds the list of all faults and
//! shows that each is caught.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` plants faults: it is for debug builds of the tests alone");

/// Whether the fault is planted: never.
#[cfg(not(feature = "mutants"))]
pub const fn on(_fault: &str) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod planted {
    use std::sync::{LazyLock, PoisonError, RwLock};

    static PLANTED: LazyLock<RwLock<Vec<String>>> = LazyLock::new(|| {
        let named = std::env::var("HEDGEROW_MUTANT").unwrap_or_default();
        RwLock::new(named.split(',').map(str::to_owned).collect())
    });

    /// Whether the fault is planted.
    pub fn on(fault: &str) -> bool {
        PLANTED.read().unwrap_or_else(PoisonError::into_inner).iter().any(|named| named == fault)
    }

    /// Plants these faults in this process, instead of those that were planted.
    pub fn plant(faults: &[&str]) {
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        *PLANTED.write().unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

#[cfg(feature = "mutants")]
pub use planted::{on, plant};
