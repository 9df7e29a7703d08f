//! A TCP proxy between the runtimes and the broker, with bad weather on demand.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;

/// Bytes that are passed on at once.
const CHUNK: usize = 64 << 10;

/// What happens to connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    #[default]
    Clear,
    /// Every chunk is held back for so long.
    Delayed(Duration),
    /// Those that stand are cut.
    Cut,
    /// Half of those that stand lose one direction, until the weather changes.
    HalfClosed,
}

#[derive(Debug, Clone, Copy, Default)]
struct Forecast {
    weather: Weather,
    /// Counts changes, so that one order may follow another of the same kind.
    change: u64,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToBroker,
    ToClient,
}

/// A listener whose connections go to the broker. Dropping it cuts them all.
pub struct Proxy {
    port: u16,
    forecast: watch::Sender<Forecast>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port that the system chooses; `upstream` is asked for each connection.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (forecast, weather) = watch::channel(Forecast::default());
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, upstream, weather)));
        Ok(Self { port, forecast, _task: task })
    }

    /// Where clients come to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.forecast.send_modify(|f| *f = Forecast { weather, change: f.change + 1 });
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, weather: watch::Receiver<Forecast>) {
    let number = Arc::new(AtomicU64::new(0));
    loop {
        // one that was reset before it was accepted is no reason to stop
        let Ok((client, _)) = listener.accept().await else { continue };
        let (weather, number) = (weather.clone(), number.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            // a broker that is away refuses, and so do we, by closing
            if let Ok(broker) = TcpStream::connect(upstream).await {
                serve(client, broker, weather, number).await;
            }
        });
    }
}

/// Passes bytes on until both sides have ended or the connection is cut.
async fn serve(
    client: TcpStream,
    broker: TcpStream,
    weather: watch::Receiver<Forecast>,
    number: u64,
) {
    // small requests must not wait for each other
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let mut cut = weather.clone();
    cut.mark_unchanged();
    let lost = async {
        loop {
            // the proxy is gone: cut
            if cut.changed().await.is_err() || cut.borrow_and_update().weather == Weather::Cut {
                return;
            }
        }
    };
    let there = pump(from_client, to_broker, weather.clone(), Way::ToBroker, number);
    let back = pump(from_broker, to_client, weather, Way::ToClient, number);
    let both = async { tokio::join!(there, back) };
    select! {
        () = lost => {}
        _ = both => {}
    }
}

/// How the chosen direction of a connection is lost: by an orderly end, or in silence.
fn loss(forecast: Forecast, number: u64) -> Option<(Way, bool)> {
    let chance = number.wrapping_add(forecast.change);
    if forecast.weather != Weather::HalfClosed || !chance.is_multiple_of(2) {
        return None;
    }
    let way = if (chance / 2).is_multiple_of(2) { Way::ToBroker } else { Way::ToClient };
    Some((way, (chance / 4).is_multiple_of(2)))
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Forecast>,
    way: Way,
    number: u64,
) {
    let mut chunk = vec![0; CHUNK];
    weather.mark_unchanged();
    loop {
        select! {
            biased;
            changed = weather.changed() => {
                let forecast = *weather.borrow_and_update();
                match loss(forecast, number) {
                    _ if changed.is_err() => return,
                    Some((lost, orderly)) if lost == way => {
                        if orderly {
                            let _ = to.shutdown().await;
                        }
                        // what is sent from now on arrives nowhere; the other side is not told
                        let _ = weather.changed().await;
                        return;
                    }
                    _ => {}
                }
            }
            read = from.read(&mut chunk) => {
                let Ok(read @ 1..) = read else { break };
                let Forecast { weather, .. } = *weather.borrow();
                if let Weather::Delayed(by) = weather {
                    sleep(by).await;
                }
                if to.write_all(&chunk[..read]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// A broker that sends back what it gets, and a client of it through a proxy.
    async fn world() -> (Proxy, TcpStream) {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = broker.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = broker.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!(say(&mut client).await, Some(1), "the connection stands");
        (proxy, client)
    }

    /// Sends a byte; what comes back, `None` where the connection has ended.
    async fn say(client: &mut TcpStream) -> Option<u8> {
        client.write_all(&[1]).await.ok()?;
        client.read_u8().await.ok()
    }

    #[tokio::test]
    async fn a_cut_ends_what_stands_and_new_connections_work() {
        let (proxy, mut client) = world().await;
        proxy.set(Weather::Cut);
        assert_eq!(client.read_u8().await.ok(), None);
        let mut again = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!(say(&mut again).await, Some(1));
        proxy.set(Weather::Cut);
        assert_eq!(again.read_u8().await.ok(), None);
    }

    #[tokio::test]
    async fn a_delay_holds_bytes_back_both_ways() {
        let (proxy, mut client) = world().await;
        proxy.set(Weather::Delayed(Duration::from_millis(30)));
        let began = Instant::now();
        assert_eq!(say(&mut client).await, Some(1));
        assert!(began.elapsed() >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn every_way_to_lose_a_direction_comes_up_and_ends_with_the_weather() {
        let (proxy, first) = world().await;
        let mut clients = vec![first];
        for _ in 1..8 {
            let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
            assert_eq!(say(&mut client).await, Some(1));
            clients.push(client);
        }
        proxy.set(Weather::HalfClosed);
        // silence has no end to wait for: all are given the same time, which an answer never needs
        let limit = Duration::from_secs(3);
        let answers = clients.iter_mut().map(|client| tokio::time::timeout(limit, say(client)));
        let (mut well, mut ended, mut silent) = (0, 0, 0);
        for answer in futures::future::join_all(answers).await {
            match answer {
                Ok(Some(_)) => well += 1,
                Ok(None) => ended += 1,
                Err(_) => silent += 1,
            }
        }
        assert_eq!((well, ended, silent), (4, 2, 2));
        proxy.set(Weather::Clear);
        let mut stand = 0;
        for client in &mut clients {
            let answer = tokio::time::timeout(Duration::from_secs(5), say(client)).await;
            stand += usize::from(answer.is_ok_and(|answer| answer.is_some()));
        }
        assert!(stand >= 4, "what fell silent is cut or closed: {stand}");
    }
}
