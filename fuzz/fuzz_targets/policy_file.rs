//! Any file may lie in the policy directory: it compiles, or its faults are listed with places.
#![no_main]

use hedgerow::ids::PolicyEpoch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(faults) = hedgerow::policy::load::compile(&[("fuzz.yaml", text)], PolicyEpoch(1)) {
        assert!(!faults.is_empty(), "refused without a fault");
    }
});
