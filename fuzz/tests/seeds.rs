//! Every input in `seeds/` keeps every promise, without a fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is the report of a test, and the input that it was about belongs to it"
)]

use std::fs;
use std::path::{Path, PathBuf};

use hubcast_fuzz::{TARGETS, Target};

/// The inputs of one target, by their paths.
fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(name);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    let target: Target = target.unwrap().1;
    let seeds = seeds(name);
    assert!(seeds.len() >= 5, "only {} seeds for {name}", seeds.len());
    for (path, input) in seeds {
        // Shown if it fails.
        println!("{}", path.display());
        target(&input);
        // What is cut short must do no harm, either.
        (0..input.len()).for_each(|end| target(input.get(..end).unwrap_or_default()));
    }
}

#[test]
fn every_seed_keeps_the_promises_of_a_handshake() {
    replay("handshake");
}

#[test]
fn every_seed_keeps_the_promises_of_json() {
    replay("json");
}

#[test]
fn every_seed_keeps_the_promises_of_messagepack() {
    replay("messagepack");
}

#[test]
fn every_seed_keeps_the_promises_of_bodies() {
    replay("bodies");
}

#[test]
fn every_seed_keeps_the_promises_of_a_negotiation() {
    replay("negotiate");
}

#[test]
fn every_target_has_a_program_and_no_program_is_without() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    programs.sort();
    let mut targets = TARGETS.map(|(name, _)| name);
    targets.sort_unstable();
    assert_eq!(programs, targets);
}
