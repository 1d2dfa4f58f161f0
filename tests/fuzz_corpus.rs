//! What the fuzzer found worth keeping (`make fuzz`) goes through the parsers again: each input once, without a fuzzer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures for those who read the output of a test")]

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[path = "fuzz/parsers.rs"]
mod parsers;

#[test]
fn no_input_that_the_fuzzer_kept_breaks_a_parser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, parser) in parsers::PARSERS {
        let lines = std::fs::read_to_string(root.join(format!("{name}.b64"))).unwrap();
        let inputs: Vec<Vec<u8>> = lines.lines().map(|line| STANDARD.decode(line).unwrap()).collect();
        assert!(inputs.len() >= 10, "the corpus of {name} is gone");
        for (number, data) in inputs.iter().enumerate() {
            // The line is the only way from a panic in here to its input.
            let ended = std::panic::catch_unwind(|| parser(data));
            assert!(ended.is_ok(), "line {} of {name}.b64 breaks it", number + 1);
        }
        println!("{name}: {} inputs", inputs.len());
    }
}
