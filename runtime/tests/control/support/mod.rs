//! A runtime over a temporary folder, as an operator sees it: files are dropped
//! into the plugins folder, and what happens is read from the status.

pub mod guest;
mod spy;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use sandbar::{
    app::{App, Summary},
    config::{Config, Overrides},
    connections::Connections,
    supervisor::{PluginHandle, Status, Supervisor},
};
use sandbar_core::{Connection, Event, Outgoing, ReadFrom};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

pub use self::spy::Spy;

/// Nothing here takes long; a machine under load may.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Waits until `what` gives a value.
pub async fn until<T>(description: &str, mut what: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = what().await {
            return value;
        }
        assert!(begun.elapsed() < LIMIT, "not in {LIMIT:?}: {description}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn load(folder: &tempfile::TempDir, config: &str) -> Config {
    let file = folder.path().join("sandbar.toml");
    std::fs::write(&file, format!("admin.listen = \"127.0.0.1:0\"\n{config}")).unwrap();
    Config::load(Some(&file), &Overrides::default()).unwrap()
}

/// A runtime that is started and not run yet, and its folder.
pub async fn app(config: &str) -> (App, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (App::start(load(&folder, config)).await.unwrap(), folder)
}

/// A running runtime.
pub struct Runtime {
    folder: Arc<tempfile::TempDir>,
    pub supervisor: Arc<Supervisor>,
    pub connections: Arc<Connections>,
    pub admin: SocketAddr,
    shutdown: oneshot::Sender<()>,
    run: JoinHandle<anyhow::Result<Summary>>,
}

impl Runtime {
    /// With `config` as the rest of its `sandbar.toml`.
    pub async fn start(config: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), config).await
    }

    /// In the folder of an earlier one.
    pub async fn start_in(folder: Arc<tempfile::TempDir>, config: &str) -> Self {
        let app = App::start(load(&folder, config)).await.unwrap();
        Self::run(folder, app)
    }

    fn run(folder: Arc<tempfile::TempDir>, app: App) -> Self {
        let (shutdown, stopped) = oneshot::channel();
        let supervisor = app.supervisor().clone();
        let connections = app.connections().clone();
        let admin = app.admin_address().unwrap();
        let run = tokio::spawn(app.run(async {
            stopped.await.unwrap();
        }));
        Self { folder, supervisor, connections, admin, shutdown, run }
    }

    /// Stops it as SIGTERM does; its folder and what became of events.
    pub async fn stop(self) -> (Arc<tempfile::TempDir>, Summary) {
        self.shutdown.send(()).unwrap();
        let summary = tokio::time::timeout(LIMIT, self.run).await.unwrap().unwrap().unwrap();
        (self.folder, summary)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("plugins").join(file)
    }

    /// Puts a file into the plugins folder as `cp` does.
    pub fn copy(&self, file: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), content).unwrap();
    }

    /// Puts a file into the plugins folder as `mv` does.
    pub fn rename(&self, file: &str, content: impl AsRef<[u8]>) {
        let temporary = self.path(&format!(".{file}.tmp"));
        std::fs::write(&temporary, content).unwrap();
        std::fs::rename(temporary, self.path(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.path(file)).unwrap();
    }

    pub fn plugin(&self, name: &str) -> Option<PluginHandle> {
        self.supervisor.plugin(name)
    }

    /// Waits for a status of the plugin, and says how long that took.
    pub async fn status(
        &self,
        name: &str,
        description: &str,
        fits: impl Fn(&Status) -> bool,
    ) -> (Status, Duration) {
        let begun = Instant::now();
        let mut last = None;
        loop {
            let status = self.plugin(name).map(|p| p.status());
            if let Some(status) = status.as_ref().filter(|s| fits(s)) {
                return (status.clone(), begun.elapsed());
            }
            last = status.or(last);
            assert!(begun.elapsed() < LIMIT, "{name} is not {description}: {last:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn log(&self) -> &Arc<dyn Connection> {
        self.connections.get(self.connections.default_name()).unwrap()
    }

    pub async fn publish(&self, records: &[Outgoing]) {
        for result in self.log().sink().publish(records).await {
            result.unwrap();
        }
    }

    /// All events of a topic; none where it does not exist.
    pub async fn events(&self, topic: &str) -> Vec<Event> {
        let Ok(mut reader) = self.log().read(topic, ReadFrom::Start).await else { return vec![] };
        let mut all = Vec::new();
        loop {
            let some = reader.next(1000).await.unwrap();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    /// Waits until a topic holds at least `count` events.
    pub async fn events_of(&self, topic: &str, count: usize) -> Vec<Event> {
        until(&format!("{count} events in {topic}"), async || {
            let events = self.events(topic).await;
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// The answer of the admin listener to `GET path`: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        Request::get(self.admin, path).await.read_to_end().await
    }

    /// The answer of the admin listener to a request with a JSON body.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
        );
        let (status, answer) = Request::send(self.admin, head, &body).await.read_to_end().await;
        (status, serde_json::from_str(&answer).unwrap_or(Value::String(answer)))
    }

    pub async fn post(&self, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\ncontent-length: {length}\r\n");
        Request::send(self.admin, head, body).await.read_to_end().await
    }
}

/// A request under way.
pub struct Request {
    stream: TcpStream,
    answer: String,
}

impl Request {
    pub async fn get(address: SocketAddr, path: &str) -> Self {
        Self::send(address, format!("GET {path} HTTP/1.1\r\n"), "").await
    }

    async fn send(address: SocketAddr, head: String, body: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{head}host: localhost\r\nconnection: close\r\n\r\n{body}");
        // who is told off early does not take the rest
        let _ = stream.write_all(request.as_bytes()).await;
        Self { stream, answer: String::new() }
    }

    /// Reads until the answer holds `text`.
    pub async fn read_until(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.answer.contains(text) {
            let length = self.stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "it ended without {text}: {}", self.answer);
            self.answer.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
    }

    /// Status and body.
    pub async fn read_to_end(mut self) -> (u16, String) {
        self.stream.read_to_string(&mut self.answer).await.unwrap();
        let (head, body) = self.answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunked(body) } else { body.to_owned() })
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

/// An event for the topic that guests listen to.
pub fn record(key: &str, payload: impl Into<String>) -> Outgoing {
    Outgoing::new("in", payload.into()).with_key(key.to_owned())
}

/// Bytes that are text.
pub fn text(bytes: &Option<bytes::Bytes>) -> &str {
    std::str::from_utf8(bytes.as_deref().unwrap()).unwrap()
}

/// The version of the guest that published the event.
pub fn version(event: &Event) -> &str {
    text(&event.header("version").unwrap().value)
}
