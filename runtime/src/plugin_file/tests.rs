use super::*;

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn file(dir: &Path, name: &str) -> PluginFile {
    PluginFile {
        wasm: dir.join(format!("{name}.wasm")),
        settings: dir.join(format!("{name}.toml")),
        stamps: list(dir).unwrap().plugins[name],
        revision: 0,
    }
}

#[test]
fn only_wasm_files_make_plugins() {
    let dir = folder_with(&[
        ("a.wasm", ""),
        ("a.toml", ""),
        ("b.toml", ""),
        (".hidden.wasm", ""),
        ("c.wasm.tmp", ""),
        ("d.wat", ""),
        (".wasm", ""),
        ("e.wasm", ""),
    ]);
    std::fs::create_dir(dir.path().join("folder.wasm")).unwrap();
    let listing = list(dir.path()).unwrap();
    assert_eq!(listing.plugins.keys().collect::<Vec<_>>(), ["a", "e"]);
    assert!(listing.plugins["a"].settings.is_some());
    assert!(listing.plugins["e"].settings.is_none());
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_dangling_ones_are_absent() {
    let target = folder_with(&[("v1", "one")]);
    let dir = folder_with(&[]);
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(target.path().join(to), dir.path().join(name)).unwrap();
    };
    link("v1", "a.wasm");
    link("missing", "b.wasm");
    let listing = list(dir.path()).unwrap();
    assert_eq!(listing.plugins.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(listing.plugins["a"].wasm.len, 3);
}

#[test]
fn content_that_changed_since_it_settled_is_not_taken() {
    let dir = folder_with(&[("a.wasm", "one"), ("a.toml", "x = 1")]);
    let settled = file(dir.path(), "a");
    let contents = read(&settled).unwrap();
    assert_eq!((&contents.wasm[..], contents.settings.as_deref()), (&b"one"[..], Some("x = 1")));
    std::fs::write(dir.path().join("a.wasm"), "longer").unwrap();
    assert!(matches!(read(&settled), Err(ReadError::Changed(_))));
    std::fs::remove_file(dir.path().join("a.wasm")).unwrap();
    assert!(matches!(read(&settled), Err(ReadError::Changed(_))));
}

#[test]
fn oversized_and_non_text_files_are_named() {
    let dir = folder_with(&[("big.wasm", ""), ("bin.wasm", "")]);
    // sparse: takes no space
    let big = File::options().write(true).open(dir.path().join("big.wasm")).unwrap();
    big.set_len(MAX_PLUGIN_BYTES + 1).unwrap();
    let error = read(&file(dir.path(), "big")).unwrap_err().to_string();
    assert!(error.contains("big.wasm has 134217729 bytes, more than"), "{error}");

    std::fs::write(dir.path().join("bin.toml"), [0xff, 0xfe]).unwrap();
    let error = read(&file(dir.path(), "bin")).unwrap_err().to_string();
    assert!(error.contains("bin.toml is not valid UTF-8"), "{error}");
}

#[test]
fn names_must_fit_into_groups_and_topics() {
    for good in ["a", "github-router", "a.b_c-1"] {
        assert!(is_valid_name(good), "{good}");
    }
    for bad in ["", "a b", "a/b", "ä", &"x".repeat(129)] {
        assert!(!is_valid_name(bad), "{bad}");
    }
}
