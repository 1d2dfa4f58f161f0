//! What the fuzzer found worth keeping (`make fuzz`) goes through the parsers again: each file once, without a fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

use std::path::Path;

#[path = "fuzz/parsers.rs"]
mod parsers;

#[test]
fn no_input_that_the_fuzzer_kept_breaks_a_parser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, parser) in parsers::PARSERS {
        let mut files: Vec<_> = std::fs::read_dir(root.join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 10, "the corpus of {name} is gone");
        for file in &files {
            let data = std::fs::read(file).unwrap();
            // The name of the file is the only way from a panic in here to its input.
            let ended = std::panic::catch_unwind(|| parser(&data));
            assert!(ended.is_ok(), "{name}: {} breaks it", file.display());
        }
        println!("{name}: {} inputs", files.len());
    }
}
