//! `init`, `validate` and `schema`.

use std::fs;

use serde_json::{Value, json};

use crate::{fails, folder, ok, sandbar, stdout};

#[test]
fn init_makes_a_project_that_is_valid_and_never_overwrites_one() {
    let dir = folder();
    let said = ok(dir.path(), &["init", "project"]);
    assert!(said.contains("sandbar.toml"), "{said}");
    let project = dir.path().join("project");
    assert!(project.join("plugins").is_dir());
    assert_eq!(fs::read_to_string(project.join(".gitignore")).unwrap(), "/data/\n");
    ok(&project, &["validate"]);
    assert!(!project.join("data").exists(), "looking must not make anything");

    fs::write(project.join("sandbar.toml"), "# mine").unwrap();
    let said = fails(sandbar(dir.path(), &["init", "project"]));
    assert!(said.contains("exists already"), "{said}");
    assert_eq!(fs::read_to_string(project.join("sandbar.toml")).unwrap(), "# mine");
}

#[test]
fn init_keeps_a_gitignore_that_is_there() {
    let dir = folder();
    fs::write(dir.path().join(".gitignore"), "mine\n").unwrap();
    ok(dir.path(), &["init"]);
    assert_eq!(fs::read_to_string(dir.path().join(".gitignore")).unwrap(), "mine\n");
}

/// The file of `init` with its commented keys and tables switched on.
fn with_examples(text: &str) -> String {
    let is_key = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        line.contains(" = ") && !name.contains(' ')
    };
    let switched_on = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || is_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(switched_on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_schema_fits_the_file_that_init_writes() {
    let dir = folder();
    ok(dir.path(), &["init"]);
    let schema: Value = serde_json::from_str(&ok(dir.path(), &["schema", "config"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let json =
        |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();

    let file = dir.path().join("sandbar.toml");
    let written = fs::read_to_string(&file).unwrap();
    validator.validate(&json(&written)).unwrap();

    let examples = with_examples(&written);
    assert!(examples.lines().any(|l| l == "[plugin.my-plugin]"), "{examples}");
    validator.validate(&json(&examples)).unwrap();
    fs::write(&file, &examples).unwrap();
    let mut validate = sandbar(dir.path(), &["validate", "-o", "json"]);
    validate.env("KAFKA_PASSWORD", "x").env("RABBITMQ_PASSWORD", "x");
    let report: Value = serde_json::from_str(&stdout(validate)).unwrap();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1, "my-plugin is not there: {report}");

    for wrong in ["plugin = 1", "[admin]\nlistne = \"x\"", "[connections.k]\ntype = \"kafka\""] {
        assert!(!validator.is_valid(&json(wrong)), "the schema accepts {wrong:?}");
    }
}

#[test]
fn the_schema_of_plugin_settings_knows_what_they_are() {
    let dir = folder();
    let schema: Value = serde_json::from_str(&ok(dir.path(), &["schema", "plugin"])).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&json!({
        "topics": ["a.*"], "ordering": "key", "limits": { "memory": "32MiB" }, "retry": { "jitter": 0.1 },
    })));
    assert!(!validator.is_valid(&json!({ "topcis": ["a"] })));
    assert!(!validator.is_valid(&json!({ "retry": { "jitter": 2 } })));
    assert!(!validator.is_valid(&json!({ "ordering": "keys" })));
}

#[test]
fn validate_shows_the_line_and_what_to_do() {
    let dir = folder();
    fs::write(dir.path().join("sandbar.toml"), "[defaults]\nconcurency = 4\n").unwrap();
    let said = fails(sandbar(dir.path(), &["validate"]));
    for part in [
        "unknown key `concurency`",
        "sandbar.toml:2:1",
        "concurency = 4",
        "did you mean `concurrency`?",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours where there is no terminal:\n{said}");

    let said = fails(sandbar(dir.path(), &["validate", "-o", "json"]));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said,
        json!({
            "error": "unknown key `concurency`", "help": "did you mean `concurrency`?",
            "file": "sandbar.toml", "line": 2, "column": 1,
        })
    );
}

#[test]
fn a_configuration_that_is_asked_for_must_be_there() {
    let dir = folder();
    let said = fails(sandbar(dir.path(), &["-c", "other.toml", "validate"]));
    assert!(said.contains("other.toml cannot be read"), "{said}");
}

#[test]
fn validate_names_every_plugin_that_does_not_load() {
    let dir = folder();
    let plugins = dir.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    fs::write(plugins.join("text.wasm"), "no wasm").unwrap();
    fs::write(plugins.join("settings.wasm"), "no wasm").unwrap();
    fs::write(plugins.join("settings.toml"), "topcis = []\n").unwrap();
    fs::write(plugins.join("off.wasm"), "no wasm").unwrap();
    fs::write(plugins.join("off.toml"), "enabled = false\n").unwrap();
    let mut validate = sandbar(dir.path(), &["validate", "-o", "json"]);
    let done = validate.assert().code(1);
    let report: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let status = |name: &str| {
        let plugins = report["plugins"].as_array().unwrap();
        plugins.iter().find(|p| p["name"] == name).unwrap().clone()
    };
    assert_eq!(report["problems"], 2, "{report}");
    assert_eq!(status("off")["status"], "disabled");
    assert_eq!(status("text")["status"], "failed");
    assert_eq!(status("settings")["problem"]["help"], "did you mean `topics`?");

    let said = fails(sandbar(dir.path(), &["validate"]));
    assert!(said.contains("plugin text:") && said.contains("topcis = []"), "{said}");
}
