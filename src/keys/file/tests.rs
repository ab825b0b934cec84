//! What a file may hold, and what is said of one that is wrong.

use super::*;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn read(content: &str) -> Result<KeySet, Vec<String>> {
    parse(content.as_bytes(), Path::new("keys.toml")).map_err(|BadKeys(wrong)| wrong)
}

/// All that is wrong, without the name of the file.
fn wrong(content: &str) -> Vec<String> {
    let wrong = read(content).expect_err(content);
    let shown = |line: String| line.strip_prefix("keys.toml line ").map_or(line.clone(), str::to_owned);
    wrong.into_iter().map(shown).collect()
}

#[test]
fn a_key_has_a_name_a_digest_and_roles_and_may_have_patterns_and_an_end() {
    let content = format!(
        "# Keys\n[[keys]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nroles = [\"read\", \"write\"]\n\
         node_ids = [\"a-*\", \"é\"]\nexpires = 2030-01-31T13:00:00+01:00\n\n\
         [[keys]]\nname = 'b'\nsha256 = '{}'\nroles = ['admin']\nexpires = '2030-01-31t12:00:00.5z'\n",
        DIGEST.replace('b', "c")
    );
    let set = read(&content).unwrap();
    let [a, b] = &set.keys[..] else { panic!("{set:?}") };
    assert_eq!((a.name.as_str(), a.role, a.node_ids.len()), ("a", Role::Write, 2));
    assert_eq!(a.expires.unwrap().unix_timestamp(), 1_896_091_200);
    assert_eq!((b.name.as_str(), b.role, b.node_ids.len()), ("b", Role::Admin, 0));
    assert_eq!(b.expires.unwrap() - a.expires.unwrap(), time::Duration::milliseconds(500));
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_its_line_and_key() {
    let content = format!(
        "colour = \"red\"\n\
         [[keys]]\nname = \"a\"\nsha256 = \"hunter2\"\nroles = [\"root\", 7]\nsecret = \"hunter2\"\n\
         [[keys]]\nroles = []\nnode_ids = []\nexpires = \"soon\"\n\
         [[keys]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nroles = [\"read\"]\nnode_ids = [\"a-*\"]\n\
         [[keys]]\nname = \"b b\"\nsha256 = \"{}\"\nroles = \"read\"\nnode_ids = [\"\", \"\\u0000\"]\nexpires = 2030-01-31\n\
         [[keys]]\nname = \"c\"\nsha256 = 7\nroles = [\"admin\"]\nnode_ids = [\"a-*\"]\n",
        DIGEST.to_uppercase()
    );
    let expected = [
        "1: 'colour' is not a field of this file; it has [[keys]]",
        "6, key 'a': 'secret' is not a field; the fields of a key are name, sha256, roles, node_ids, expires",
        "4, key 'a': sha256: must be 64 hexadecimal digits: the SHA-256 of the secret",
        "5, key 'a': roles: must be one of read, write, admin",
        "5, key 'a': roles: must be a string",
        "7: name: is required",
        "7: sha256: is required",
        "7: roles: is required, some of read, write, admin",
        "7: node_ids: must not be empty; a key without it covers all nodes",
        "10: expires: must be an instant with its offset, such as \"2030-01-31T12:00:00Z\"",
        "11, key 'a': name: the key of line 2 has it already",
        "11, key 'a': node_ids: limits what a key may change, and one with the role read changes nothing: leave it out",
        "16, key 'b b': sha256: the key of line 11 has it already",
        "17, key 'b b': name: must have 1 to 255 of the characters A-Z a-z 0-9 - . _ : / @ +",
        "19, key 'b b': roles: must be an array of strings, at most 3",
        "20, key 'b b': node_ids: must have 1 to 255 characters, and no control characters",
        "20, key 'b b': node_ids: must have 1 to 255 characters, and no control characters",
        "21, key 'b b': expires: must be an instant with its offset, such as \"2030-01-31T12:00:00Z\"",
        "24, key 'c': sha256: must be a string",
        "22, key 'c': node_ids: does not limit a key with the role admin: leave it out, or give it write",
    ];
    assert_eq!(wrong(&content), expected);
}

#[test]
fn a_file_without_keys_is_wrong() {
    for (content, expected) in [
        ("", "1: has no keys: begin each with [[keys]]"),
        ("keys = []", "1: must have 1 to 2000 keys, not 0"),
        ("keys = 7", "1: keys must be tables: begin each with [[keys]]"),
        ("keys = [7]", "1: keys must be tables: begin each with [[keys]]"),
        ("\n[keys]\nname = 'a'", "2: keys must be tables: begin each with [[keys]]"),
    ] {
        assert_eq!(wrong(content), [expected], "{content}");
    }
    let many: String = (0..2_001).map(|_| "[[keys]]\n".to_owned()).collect();
    assert_eq!(wrong(&many), ["1: must have 1 to 2000 keys, not 2001"]);
}

#[test]
fn what_is_no_toml_is_said_without_repeating_it() {
    let broken =
        format!("[[keys]]\nname = hunter2\nsha256 = \"{DIGEST}\nhunter2\nroles = [\"hunter2\n= hunter2\n");
    let said = wrong(&broken);
    assert!(said.len() >= 3 && said.iter().all(|line| line.contains(": is not TOML: ")), "{said:#?}");
    assert!(said[0].starts_with("2: "), "{said:#?}");
    let said = said.concat();
    assert!(!said.contains("hunter2") && !said.contains(&DIGEST[..8]), "{said}");
    let twice = wrong("[[keys]]\nname = 'hunter2'\nname = 'hunter2'\n");
    assert!(twice[0].starts_with("3: is not TOML") && !twice.concat().contains("hunter2"), "{twice:?}");
}

#[test]
fn what_is_no_utf_8_is_said_with_its_line() {
    let BadKeys(said) = parse(b"# fine\n\xFF", Path::new("k")).unwrap_err();
    assert_eq!(said, ["k line 2: is not UTF-8"]);
    let BadKeys(said) = parse(&[0xFF, 0xFE, b'[', 0], Path::new("k")).unwrap_err();
    assert_eq!(said, ["k line 1: is not UTF-8"], "UTF-16");
}

#[test]
fn beyond_a_hundred_faults_the_rest_is_counted() {
    let entries: Vec<String> =
        (0..200).map(|n| format!("[[keys]]\nname = 'k{n}'\nroles = ['read']\n")).collect();
    let content = entries.concat();
    let said = wrong(&content);
    assert_eq!(said.len(), 101);
    assert_eq!(said[100], "100 more faults are not listed");
}

#[test]
fn what_is_too_large_or_no_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let said = |path: &Path| super::read(path).unwrap_err().to_string();
    assert!(said(&path).contains("can't be read"));
    assert!(said(folder.path()).ends_with("is not a file"));
    std::fs::write(&path, vec![b'#'; 1024 * 1024]).unwrap();
    assert!(super::read(&path).is_ok());
    std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(said(&path).ends_with("is larger than 1048576 bytes"));
}
