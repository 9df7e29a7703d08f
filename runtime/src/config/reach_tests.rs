use std::{path::Path, time::Duration};

use sandbar_wasm::SecretValue;

use super::{HttpConfig, SecretSource, layers::Declared, tests::parse};

fn declared() -> Declared {
    Declared { topics: vec!["in".into()], ..Declared::default() }
}

/// What a plugin with this `NAME.toml` gets, or why it gets nothing.
fn plugin(text: &str) -> Result<super::PluginConfig, String> {
    let config = parse("[defaults.secrets]\nshared = { env = \"SHARED\" }").unwrap();
    let sidecar = config.sidecar(Path::new("plugins/p.toml"), text).map_err(|e| e.to_string())?;
    config.plugin("p", &declared(), Some(&sidecar)).map_err(|e| e.to_string())
}

fn mistake(text: &str) -> String {
    plugin(text).expect_err("it is wrong")
}

#[test]
fn secrets_of_all_layers_come_together_and_paths_begin_at_their_file() {
    let found = plugin("secrets = { a = { env = \"A\" }, b = { file = \"b.txt\" } }").unwrap();
    let expected = [
        ("a", SecretSource::Env("A".into())),
        ("b", SecretSource::File("plugins/b.txt".into())),
        ("shared", SecretSource::Env("SHARED".into())),
    ];
    assert_eq!(found.secrets, expected.map(|(n, s)| (n.to_owned(), s)).into());
    assert_eq!(found.http, None);
}

#[test]
fn http_has_its_defaults_and_every_key_is_read() {
    let http = |text: &str| plugin(text).unwrap().http.unwrap();
    let HttpConfig { allow, max_response, max_requests, timeout, .. } =
        http("http.allow = [\"a.org\", { host = \"http://b:1\", addresses = [\"10.0.0.0/8\"] }]");
    assert_eq!(allow[1].addresses[0].to_string(), "10.0.0.0/8");
    assert_eq!((allow.len(), max_response, max_requests), (2, 4 << 20, 16));
    assert_eq!(timeout, Duration::from_secs(30));
    let all = http(
        "[http]\nallow = [\"a.org\"]\nmax-response = \"1KiB\"\nmax-requests = 2\ntimeout = \"1s\"\n\
         tls-ca = \"ca.pem\"\n\
         inject = [{ host = \"a.org\", header = \"x\", prefix = \"y \", secret = { file = \"s\" } }]",
    );
    assert_eq!((all.max_response, all.max_requests), (1024, 2));
    assert_eq!(all.tls_ca.as_deref(), Some(Path::new("plugins/ca.pem")));
    assert_eq!(all.inject[0].secret, SecretSource::File("plugins/s".into()));
}

#[test]
fn mistakes_are_told_and_never_with_a_value() {
    for (text, why) in [
        ("secrets.a = {}", "secret `a` must say where it is, once"),
        ("secrets.a = { env = \"A\", file = \"f\" }", "secret `a` must say where it is, once"),
        ("secrets.a = { env = \"\" }", "secret `a` must say where it is, once"),
        ("secrets.a = { vault = \"x\" }", "unknown key `vault`"),
        ("http.allow = [\"a/b\"]", "\"a/b\" is no host"),
        ("http.allow = [{ host = \"a\", addresses = [\"10/8\"] }]", "\"10/8\" is no address"),
        (
            "http.allow = [\"a\"]\nhttp.inject = [{ host = \"b\", header = \"x\", secret.env = \"E\" }]",
            "which is not in `http.allow`",
        ),
        (
            "http.allow = [\"a\"]\nhttp.inject = [{ host = \"a\", header = \"host\", secret.env = \"E\" }]",
            "\"host\" is no header that can be added",
        ),
        ("grants = [\"http\"]", "it is granted by a setting of its own"),
        ("grants = [\"metric\"]", "unknown capability `metric`"),
    ] {
        let said = mistake(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    // someone writes the secret itself
    for text in ["secrets.a = \"hunter2\"", "secrets.a = { env = \"A\", value = \"hunter2\" }"] {
        let said = mistake(text);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn s3_a_plugin_cannot_suggest_what_it_may_reach() {
    let config = parse("").unwrap();
    for key in ["secrets.a.env", "http.allow", "http.max-requests"] {
        let declared = Declared { options: vec![(key.into(), "x".into())], ..declared() };
        let error = config.plugin("p", &declared, None).unwrap_err().to_string();
        assert!(error.contains("which only the operator may set"), "{error}");
    }
}

#[test]
fn what_is_read_goes_to_the_host_and_into_no_debug_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.txt");
    std::fs::write(&path, "open-sesame-42\n").unwrap();
    let path = path.display();
    let found = plugin(&format!(
        "secrets.token = {{ file = \"{path}\" }}\nhttp.allow = [\"a.org\"]\n\
         http.inject = [{{ host = \"a.org\", header = \"x\", secret = {{ file = \"{path}\" }} }}]"
    ))
    .map(|mut found| {
        found.secrets.remove("shared");
        found
    })
    .unwrap();
    let spec = found.load_spec().unwrap();
    assert_eq!(spec.secrets["token"], SecretValue::new("open-sesame-42"));
    let shown = format!("{spec:?} {found:?} {}", found.http.as_ref().unwrap().shown());
    assert!(!shown.contains("open-sesame"), "{shown}");
}
