//! One parser under libFuzzer: `BINDERY_FUZZ` names it. `make fuzz` builds and runs this.

#![no_main]

use std::sync::LazyLock;

mod parsers;

static PARSER: LazyLock<parsers::Parser> = LazyLock::new(|| {
    let name = std::env::var("BINDERY_FUZZ").unwrap_or_default();
    let found = parsers::PARSERS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("BINDERY_FUZZ={name}: there are {:?}", parsers::PARSERS.map(|(name, _)| name))).1
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| PARSER(data));
