//! Verifies every chain as it grows, and says how each stands. Layer 5.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::places::Place;
use super::{Shared, lock, write};
use crate::audit::vigil::{Stamp, Vigil};
use crate::audit::{PUBLIC_KEY_FILE, SignedCheckpoint, TrustedKeys, VerifyError};

/// Bytes of each chain that are verified before the next has its turn.
const PART: u64 = 2 << 20;

/// How a source stands.
#[derive(Clone, Debug, Default)]
pub(in crate::console) struct Standing {
    pub(in crate::console) directory: PathBuf,
    /// Empty: the directory holds no trail, or cannot be read.
    pub(in crate::console) chain: String,
    pub(in crate::console) segments: usize,
    /// Numbers of the first and the last segment that is there.
    pub(in crate::console) numbers: Option<(u64, u64)>,
    /// Bytes that are there, and bytes verified.
    pub(in crate::console) bytes: (u64, u64),
    pub(in crate::console) records: u64,
    /// The last record that fits.
    pub(in crate::console) sequence: Option<u64>,
    pub(in crate::console) checkpoint: Option<SignedCheckpoint>,
    pub(in crate::console) fault: Option<BrokenAt>,
    pub(in crate::console) complete: bool,
    pub(in crate::console) closed: bool,
    pub(in crate::console) changed: u64,
    /// Ids of the keys that are trusted.
    pub(in crate::console) keys: Vec<String>,
    /// Whether those keys were given, and do not just lie beside the records.
    pub(in crate::console) keys_given: bool,
    /// Why it cannot be looked at, or why there are no keys.
    pub(in crate::console) problem: Option<String>,
}

/// The first thing that does not fit.
#[derive(Clone, Debug)]
pub(in crate::console) struct BrokenAt {
    pub(in crate::console) path: PathBuf,
    /// 0: not about a line.
    pub(in crate::console) line: u64,
    pub(in crate::console) text: String,
}

impl Standing {
    /// Whether something is wrong with it.
    pub(in crate::console) const fn broken(&self) -> bool {
        self.fault.is_some() || self.problem.is_some()
    }
}

/// The keys of one directory.
struct Keys {
    stamp: Option<Stamp>,
    keys: TrustedKeys,
    problem: Option<String>,
}

/// Followers of all chains.
pub(super) struct Verifier {
    given: Option<TrustedKeys>,
    keys: BTreeMap<PathBuf, Keys>,
    followers: BTreeMap<(PathBuf, String), Vigil>,
}

impl Verifier {
    /// A verifier that trusts these keys, or those beside the records.
    pub(super) fn new(given: Option<TrustedKeys>) -> Self {
        Self { given, keys: BTreeMap::new(), followers: BTreeMap::new() }
    }

    /// Verifies a part of each chain; answers whether everything there is was verified.
    pub(super) fn pass(&mut self, places: &[Place], shared: &Shared, verify: bool) -> bool {
        for place in places {
            self.keys_of(&place.directory);
            if let Ok(survey) = &place.survey {
                for chain in survey.chains() {
                    let keys = self.keys.get(&place.directory).map(|known| known.keys.clone());
                    let key = (place.directory.clone(), chain.to_owned());
                    self.followers.entry(key).or_insert_with(|| {
                        let keys = keys.unwrap_or_default();
                        Vigil::new(&place.directory, chain, place.whole, keys)
                    });
                }
            }
        }
        if verify {
            self.poll(places);
        }
        let standings = self.standings(places);
        let settled = !verify || standings.iter().all(|standing| standing.complete);
        *write(&shared.standings) = standings;
        settled
    }

    /// Every follower reads on, on all cores.
    fn poll(&mut self, places: &[Place]) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let surveys: BTreeMap<&Path, &Place> =
            places.iter().map(|place| (place.directory.as_path(), place)).collect();
        let queue = Mutex::new(self.followers.iter_mut());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let Some(((directory, _), follower)) = lock(&queue).next() else { return };
                        let place = surveys.get(directory.as_path());
                        if let Some(Place { survey: Ok(survey), .. }) = place {
                            follower.poll(survey, PART);
                        }
                    }
                });
            }
        });
    }

    fn standings(&self, places: &[Place]) -> Vec<Standing> {
        let mut standings = Vec::new();
        for place in places {
            let keys = self.keys.get(&place.directory);
            let base = Standing {
                directory: place.directory.clone(),
                keys: keys
                    .map_or_else(Vec::new, |known| known.keys.ids().map(str::to_owned).collect()),
                keys_given: self.given.is_some(),
                complete: true,
                ..Standing::default()
            };
            let known = self.followers.iter().filter(|((at, _), _)| *at == place.directory);
            let survey = match &place.survey {
                Ok(survey) => survey,
                Err(error) => {
                    let problem = Some(format!("cannot be read: {error}"));
                    let mut none = true;
                    for ((_, chain), _) in known {
                        none = false;
                        let (chain, problem) = (chain.clone(), problem.clone());
                        standings.push(Standing { chain, problem, ..base.clone() });
                    }
                    if none {
                        standings.push(Standing { problem, ..base });
                    }
                    continue;
                }
            };
            let mut none = true;
            for ((_, chain), follower) in known {
                none = false;
                let problem = keys.and_then(|known| known.problem.clone());
                standings.push(standing(base.clone(), chain, follower, survey, problem));
            }
            if none {
                standings.push(base);
            }
        }
        // What was there and is nowhere any more is not passed over in silence.
        for (directory, chain) in self.followers.keys() {
            if !places.iter().any(|place| place.directory == *directory) {
                let problem = Some("the directory is gone".to_owned());
                let (directory, chain) = (directory.clone(), chain.clone());
                let gone =
                    Standing { directory, chain, problem, complete: true, ..Standing::default() };
                standings.push(gone);
            }
        }
        standings
    }

    /// Reads the keys of a directory, if they are new or changed.
    fn keys_of(&mut self, directory: &Path) {
        let file = directory.join(PUBLIC_KEY_FILE);
        let stamp = Stamp::of(&file).ok();
        let known = self.keys.get(directory);
        if let Some(known) = known
            && (self.given.is_some() || known.stamp == stamp)
        {
            return;
        }
        let (keys, problem) = match &self.given {
            Some(given) => (given.clone(), None),
            None => match TrustedKeys::read(&file) {
                Ok(keys) => (keys, None),
                Err(error) => (
                    TrustedKeys::default(),
                    Some(format!("no public key, so no signature can be checked: {error}")),
                ),
            },
        };
        let before = known.map(|known| known.keys.ids().map(str::to_owned).collect::<Vec<_>>());
        let changed = before.is_some_and(|ids| !keys.ids().eq(ids.iter().map(String::as_str)));
        if changed {
            for ((at, _), follower) in &mut self.followers {
                if at == directory {
                    follower.trust(keys.clone());
                }
            }
        }
        self.keys.insert(directory.to_owned(), Keys { stamp, keys, problem });
    }
}

fn standing(
    base: Standing,
    chain: &str,
    follower: &Vigil,
    survey: &crate::audit::vigil::Survey,
    problem: Option<String>,
) -> Standing {
    let seen = follower.standing();
    let segments = survey.segments(chain);
    let bytes = segments
        .iter()
        .filter_map(|segment| Stamp::of(&segment.path).ok())
        .map(|stamp| stamp.length())
        .sum();
    let fault = seen.fault.as_ref().map(|fault| match fault {
        VerifyError::Broken { path, line, .. } => {
            BrokenAt { path: path.clone(), line: *line, text: fault.to_string() }
        }
        VerifyError::Unreadable { path, .. } | VerifyError::NotASegment(path) => {
            BrokenAt { path: path.clone(), line: 0, text: fault.to_string() }
        }
        VerifyError::Nothing => {
            BrokenAt { path: base.directory.clone(), line: 0, text: fault.to_string() }
        }
    });
    let gone = segments.is_empty().then(|| "the files of this chain are gone".to_owned());
    Standing {
        chain: chain.to_owned(),
        segments: segments.len(),
        numbers: segments.first().zip(segments.last()).map(|(one, last)| (one.number, last.number)),
        bytes: (bytes, seen.bytes),
        records: seen.records,
        sequence: seen.sequence,
        checkpoint: seen.checkpoint.clone(),
        fault,
        complete: seen.complete,
        closed: seen.closed,
        changed: seen.changed,
        problem: gone.or(problem),
        ..base
    }
}
