//! Asks for what lies behind the host: this machine, its networks, the metadata of clouds, in
//! every notation that a resolver or a URL may fall for. Says what came of each.

mod requests;

use requests::{get, status};

requests::program!(attempt);

const INSIDE: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "localhost.",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "metadata.internal",
    "100.100.100.200",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "[fe80::1]",
    "api.test@127.0.0.1",
    "api.test:80@127.0.0.1",
];

fn attempt(url: String) -> String {
    let port = url.rsplit(':').next().unwrap_or_default();
    let ask = |host: &&str| format!("{host} {}", status(&get(&format!("http://{host}:{port}/"))));
    INSIDE.iter().map(ask).collect::<Vec<_>>().join("\n")
}
