//! Every guest program is proven by exactly one test that bears its name.

use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn every_program_has_exactly_one_test() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: &str, kind: &str| -> Vec<_> {
        let files = fs::read_dir(here.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|e| e == kind)).collect()
    };
    let folders = ["tests/host", "tests/host/hostile", "tests/packed"];
    let tests = folders.map(|folder| files(folder, "rs"));
    let tests: String = tests.iter().flatten().map(|f| fs::read_to_string(f).unwrap()).collect();
    // `async fn s1_loops()`, `async fn program_echo()`
    let tests_of = |program: &str| {
        let ending = format!("_{}()", program.replace('-', "_"));
        let id =
            |line: &str| Some(line.strip_prefix("async fn ")?.split_once(&ending)?.0.to_owned());
        let is_id = |id: &str| {
            let mut chars = id.chars();
            id == "program"
                || chars.next().is_some_and(char::is_alphabetic) && chars.all(char::is_numeric)
        };
        tests.lines().filter_map(id).filter(|id| is_id(id)).count()
    };
    let mut programs = files("../../../tests/programs/examples", "rs");
    programs.extend(files("../../../tests/programs/modules", "wat"));
    assert!(programs.len() >= 40, "where are they?");
    let wrong: BTreeMap<_, _> = programs
        .iter()
        .map(|file| file.file_stem().unwrap().to_str().unwrap())
        .map(|program| (program, tests_of(program)))
        .filter(|(_, tests)| *tests != 1)
        .collect();
    assert!(wrong.is_empty(), "programs and the number of their tests: {wrong:?}");
}
