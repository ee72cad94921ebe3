//! Which directories and files the command line's paths stand for, right now. Layer 5.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::audit::SegmentFile;
use crate::audit::vigil::Survey;

/// How far below a named directory sidecars' directories are looked for.
const DEPTH: usize = 3;
/// Most directories.
const MOST: usize = 10_000;

/// One directory that holds, or is meant to hold, a trail.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// Whether the directory itself was named, and not single files of it.
    pub(super) whole: bool,
    /// What is there, or why that cannot be told.
    pub(super) survey: io::Result<Survey>,
}

/// Looks at every path. A directory without segments stands for the directories below it, so that
/// one path can name the collected trails of many sidecars.
pub(super) fn look(paths: &[PathBuf]) -> Vec<Place> {
    let mut places: BTreeMap<PathBuf, Place> = BTreeMap::new();
    let mut files: BTreeMap<PathBuf, Vec<SegmentFile>> = BTreeMap::new();
    for path in paths {
        match SegmentFile::from_path(path) {
            Some(segment) if !path.is_dir() => {
                let parent = path.parent().unwrap_or(Path::new("."));
                files.entry(parent.to_owned()).or_default().push(segment);
            }
            Some(_) | None => descend(path, DEPTH, true, &mut places),
        }
    }
    for (directory, files) in files {
        // The directory is there as a whole already.
        places.entry(directory.clone()).or_insert_with(|| {
            let there = files.into_iter().filter(|segment| segment.path.is_file());
            Place { directory, whole: false, survey: Ok(Survey::of_files(there)) }
        });
    }
    places.into_values().collect()
}

fn descend(directory: &Path, depth: usize, named: bool, places: &mut BTreeMap<PathBuf, Place>) {
    if places.len() >= MOST {
        return;
    }
    let survey = Survey::of(directory);
    let empty = survey.as_ref().is_ok_and(Survey::is_empty);
    if empty && let Some(deeper) = depth.checked_sub(1) {
        let below = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut below: Vec<PathBuf> = below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort();
        for directory in below {
            descend(&directory, deeper, false, places);
        }
    }
    // A named directory that is empty, or gone, is shown as such.
    if named && !places.keys().any(|place| place.starts_with(directory)) || !empty {
        let directory = directory.to_owned();
        places.insert(directory.clone(), Place { directory, whole: true, survey });
    }
}
