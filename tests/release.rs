//! What a release promises of itself: a version with its commit, a bill of materials, a hardened binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_hedgerow");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_version_names_the_commit_or_says_that_it_is_unknown() {
    let output = Command::new(BINARY).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = concat!("hedgerow ", env!("CARGO_PKG_VERSION"), " (");
    let build = text.trim().strip_prefix(version).and_then(|rest| rest.strip_suffix(')')).unwrap();
    let commit = build.len() >= 7 && build.chars().all(|c| c.is_ascii_hexdigit());
    assert!(commit || build == "unknown commit", "{text}");
}

#[test]
fn the_bill_of_materials_holds_every_linked_crate_with_licence_and_checksum() {
    let run = || {
        let output = Command::new("python3").arg(root().join("scripts/sbom.py")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let text = run();
    assert_eq!(text, run(), "the same lock file gives the same bytes");
    let bom: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    let components = bom["components"].as_array().unwrap();
    let names: BTreeSet<&str> = components.iter().map(|c| c["name"].as_str().unwrap()).collect();
    for linked in ["tokio", "rustls", "ring", "sqlparser", "pg_raw_parse"] {
        assert!(names.contains(linked), "{linked}");
    }
    assert!(!names.contains("proptest"), "crates of tests are not linked");
    for component in components {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str().unwrap().len(), 64, "{component}");
    }
}

/// The few fields of a 64-bit little-endian ELF file that tell how it is loaded.
struct Elf {
    kind: u16,
    /// Type and flags of each program header.
    segments: Vec<(u32, u32)>,
    /// Tag and value of each entry of the dynamic section.
    dynamic: Vec<(u64, u64)>,
}

impl Elf {
    fn read(path: &Path) -> Self {
        let file = std::fs::read(path).unwrap();
        let number = |at: usize, size: usize| {
            let mut bytes = [0; 8];
            bytes[..size].copy_from_slice(&file[at..at + size]);
            u64::from_le_bytes(bytes)
        };
        let index = |value: u64| usize::try_from(value).unwrap();
        assert_eq!(&file[..6], b"\x7fELF\x02\x01", "{}", path.display());
        let (headers, size, count) =
            (index(number(32, 8)), index(number(54, 2)), index(number(56, 2)));
        let mut elf = Self {
            kind: u16::try_from(number(16, 2)).unwrap(),
            segments: Vec::new(),
            dynamic: Vec::new(),
        };
        for header in (0..count).map(|at| headers + at * size) {
            let word = |at: usize| u32::try_from(number(header + at, 4)).unwrap();
            elf.segments.push((word(0), word(4)));
            if word(0) == DYNAMIC {
                let (from, length) = (index(number(header + 8, 8)), index(number(header + 32, 8)));
                let entries = (from..from + length).step_by(16);
                elf.dynamic = entries.map(|at| (number(at, 8), number(at + 8, 8))).collect();
            }
        }
        elf
    }

    fn entry(&self, tag: u64) -> Option<u64> {
        self.dynamic.iter().find(|(known, _)| *known == tag).map(|(_, value)| *value)
    }
}

const DYNAMIC: u32 = 2;
const GNU_STACK: u32 = 0x6474_e551;
const GNU_RELRO: u32 = 0x6474_e552;
/// A shared object: position-independent, and so loaded at a random address.
const ET_DYN: u16 = 3;
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;

#[test]
fn the_binary_is_position_independent_with_read_only_relocations_and_no_executable_stack() {
    let mut binaries = vec![PathBuf::from(BINARY)];
    // `target/debug/hedgerow` has its release beside it, where one was built.
    let release = Path::new(BINARY).ancestors().nth(2).unwrap().join("release/hedgerow");
    if release.is_file() {
        binaries.push(release);
    }
    for binary in binaries {
        let elf = Elf::read(&binary);
        let shown = binary.display();
        assert_eq!(elf.kind, ET_DYN, "{shown}: position-independent");
        let flags = |kind| elf.segments.iter().find(|(known, _)| *known == kind).map(|(_, f)| *f);
        assert!(flags(GNU_RELRO).is_some(), "{shown}: read-only relocations");
        // DT_FLAGS with DF_BIND_NOW, or DT_FLAGS_1 with DF_1_NOW: nothing is bound later.
        let now = elf.entry(30).is_some_and(|flags| flags & 8 != 0)
            || elf.entry(0x6fff_fffb).is_some_and(|flags| flags & 1 != 0);
        assert!(now, "{shown}: bound before main");
        assert!(flags(GNU_STACK).is_some_and(|f| f & EXECUTE == 0), "{shown}: the stack");
        let both = elf.segments.iter().any(|(_, f)| f & WRITE != 0 && f & EXECUTE != 0);
        assert!(!both, "{shown}: memory that is written and run");
        // DT_RPATH, DT_RUNPATH: libraries from the system's places alone.
        assert_eq!(
            (elf.entry(15), elf.entry(29)),
            (None, None),
            "{shown}: where libraries come from"
        );
    }
}
