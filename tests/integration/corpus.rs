//! The saved corpus of `scripts/fuzz`: what must hold of any input holds of these, of which each has shown something once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

// The same functions as in the programs that look for inputs. Those take flags that nothing else is built with.
#[path = "../../fuzz/properties/mod.rs"]
mod properties;

#[test]
fn the_corpus_of_cursors_holds() {
    replay("cursor", properties::cursor::holds);
}

#[test]
fn the_corpus_of_query_strings_holds() {
    replay("query_string", properties::query_string::holds);
}

#[test]
fn the_corpus_of_containment_holds() {
    replay("containment", properties::containment::holds);
}

#[test]
fn the_corpus_of_key_files_holds() {
    replay("key_file", properties::key_file::holds);
}

fn replay(target: &str, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in &files {
        let input = std::fs::read(file).unwrap();
        let held = catch_unwind(AssertUnwindSafe(|| holds(&input)));
        assert!(held.is_ok(), "{} breaks what must hold of it, see above", file.display());
    }
}
