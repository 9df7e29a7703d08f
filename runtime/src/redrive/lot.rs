//! Letters that are sent and settled together.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use sandbar_core::{AckToken, Disposition, Partition, PublishError, Settlement, SourceError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Progress, RedriveError,
    judge::{Errand, Judgement},
};

/// Pauses before a broker that is away is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One letter.
pub(super) struct Line {
    pub token: AckToken,
    pub position: u64,
    pub judgement: Judgement,
}

/// Letters of one partition in their order.
#[derive(Default)]
pub(super) struct Lot {
    lines: Vec<Line>,
    errands: usize,
}

/// How long to wait next.
pub(super) struct Patience(Duration);

/// Delivers lots.
pub(super) struct Postman<'a> {
    /// Connection of the letters.
    home: &'a str,
    /// Whether a settlement can carry parcels for that connection.
    atomic: bool,
    skip_refused: bool,
    /// Inboxes that exist for certain, with their connections.
    inboxes: Mutex<HashSet<(String, String)>>,
}

impl Lot {
    pub(super) fn push(&mut self, line: Line) {
        self.errands += usize::from(line.errand().is_some());
        self.lines.push(line);
    }

    /// Letters that are to be sent.
    pub(super) fn errands(&self) -> usize {
        self.errands
    }

    pub(super) fn last_position(&self) -> Option<u64> {
        self.lines.last().map(|line| line.position)
    }
}

impl Line {
    fn errand(&self) -> Option<&Errand> {
        match &self.judgement {
            Judgement::Send(errand) => Some(errand),
            _ => None,
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Patience {
    /// `false`: stopped meanwhile.
    pub(super) async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        tokio::time::timeout(pause, stop.cancelled()).await.is_err()
    }
}

impl<'a> Postman<'a> {
    pub(super) fn new(home: &'a str, atomic: bool, skip_refused: bool) -> Self {
        Self { home, atomic, skip_refused, inboxes: Mutex::default() }
    }

    /// Sends the parcels of `lot`, then settles the letters: with their parcels in one step
    /// where the source can, else when the parcels are durable. Empties the lot. `false`:
    /// it ended before the end of it; what was not settled is there the next time.
    pub(super) async fn deliver(
        &self,
        partition: &mut dyn Partition,
        lot: &mut Lot,
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let lines = std::mem::take(lot).lines;
        let Some(mut fates) = self.ensure_inboxes(&lines, progress, stop).await else {
            return Ok(false);
        };
        self.publish(&lines, &mut fates, progress, stop).await;
        if !self.settle(partition, &lines, &mut fates, progress, stop).await? {
            return Ok(false);
        }
        progress.send_modify(|p| {
            p.waiting = None;
            for (line, fate) in lines.iter().zip(&fates) {
                self.count(p, line, fate);
            }
        });
        let refused = lines.iter().zip(&fates).find_map(|(line, fate)| match fate {
            Fate::Refused(reason) if !self.skip_refused => Some((line.errand()?, reason)),
            _ => None,
        });
        match refused {
            Some((errand, reason)) => Err(RedriveError::Refused {
                letter: errand.place.clone(),
                inbox: errand.target.inbox.clone(),
                reason: reason.clone(),
            }),
            None => Ok(!fates.contains(&Fate::Held)),
        }
    }

    fn count(&self, progress: &mut Progress, line: &Line, fate: &Fate) {
        if !self.settles(fate) {
            return;
        }
        progress.read += 1;
        match (line.errand(), fate) {
            (None, _) => line.judgement.count(progress),
            (Some(_), Fate::Refused(_)) => {
                progress.matched += 1;
                progress.refused += 1;
            }
            (Some(errand), _) => {
                progress.matched += 1;
                progress.sent += 1;
                progress.sent_to(&errand.target);
            }
        }
    }

    /// Whether a parcel can travel inside the settlement.
    fn travels_along(&self, errand: &Errand) -> bool {
        self.atomic && errand.connection.name() == self.home
    }

    /// Whether a letter of this fate is done with.
    fn settles(&self, fate: &Fate) -> bool {
        match fate {
            Fate::Done => true,
            Fate::Refused(_) => self.skip_refused,
            Fate::Held => false,
        }
    }

    /// Makes the inboxes that are not there yet, and says of each line whether it can go
    /// on. `None`: stopped.
    async fn ensure_inboxes(
        &self,
        lines: &[Line],
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Option<Vec<Fate>> {
        let mut fates = Vec::with_capacity(lines.len());
        for line in lines {
            let mut fate = Fate::Done;
            if let Some(errand) = line.errand() {
                let inbox = (errand.target.connection.clone(), errand.target.inbox.clone());
                let mut patience = Patience::default();
                while fate == Fate::Done && !self.inboxes.lock().contains(&inbox) {
                    match errand.connection.ensure_topics(std::slice::from_ref(&inbox.1)).await {
                        Ok(()) => {
                            self.inboxes.lock().insert(inbox.clone());
                        }
                        Err(SourceError::Unavailable(why)) => {
                            progress.send_modify(|p| p.waiting = Some(why));
                            if !patience.pause(stop).await {
                                return None;
                            }
                        }
                        Err(error) => fate = Fate::Refused(error.to_string()),
                    }
                }
            }
            fates.push(fate);
        }
        Some(fates)
    }

    /// Publishes what cannot travel along, until it is durable, refused, or `stop`.
    async fn publish(
        &self,
        lines: &[Line],
        fates: &mut [Fate],
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) {
        let mut by_connection: BTreeMap<&str, Vec<(usize, &Errand)>> = BTreeMap::new();
        for (at, line) in lines.iter().enumerate() {
            if fates[at] == Fate::Done
                && let Some(errand) = line.errand().filter(|e| !self.travels_along(e))
            {
                fates[at] = Fate::Held;
                by_connection.entry(errand.connection.name()).or_default().push((at, errand));
            }
        }
        for mut pending in by_connection.into_values() {
            let mut patience = Patience::default();
            while let Some((_, first)) = pending.first() {
                let sink = first.connection.sink();
                let records: Vec<_> = pending.iter().map(|(_, e)| e.record.clone()).collect();
                let results = sink.publish(&records).await;
                let mut away = None;
                let mut behind = HashSet::new();
                let mut again = Vec::new();
                for ((at, errand), result) in pending.into_iter().zip(results) {
                    let lane = (&errand.record.topic, &errand.record.key);
                    match result {
                        Ok(()) if !behind.contains(&lane) => fates[at] = Fate::Done,
                        // one before it with the same key goes again, and so must this
                        Ok(()) => again.push((at, errand)),
                        Err(PublishError::Rejected(why)) => fates[at] = Fate::Refused(why),
                        Err(PublishError::Unavailable(why)) => {
                            behind.insert(lane);
                            again.push((at, errand));
                            away = Some(why);
                        }
                    }
                }
                pending = again;
                if away.is_some() {
                    progress.send_modify(|p| p.waiting = away);
                    if !patience.pause(stop).await {
                        return;
                    }
                }
            }
        }
    }

    /// Settles what is done with. `false`: stopped, or the partition is gone; nothing is
    /// settled.
    async fn settle(
        &self,
        partition: &mut dyn Partition,
        lines: &[Line],
        fates: &mut [Fate],
        progress: &watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<bool, RedriveError> {
        let mut patience = Patience::default();
        loop {
            let done = lines.iter().zip(&*fates).filter(|(_, fate)| self.settles(fate));
            let settlements: Vec<_> =
                done.map(|(line, fate)| self.settlement(line, fate)).collect();
            match partition.settle(&settlements).await {
                Ok(()) => return Ok(true),
                Err(SourceError::Unavailable(why)) => {
                    progress.send_modify(|p| p.waiting = Some(why));
                    if !patience.pause(stop).await {
                        return Ok(false);
                    }
                }
                Err(SourceError::Rejected { token, reason }) => {
                    let at = lines.iter().position(|line| line.token == token);
                    let Some(at) = at.filter(|at| fates[*at] == Fate::Done) else {
                        return Err(SourceError::Fatal(reason).into());
                    };
                    fates[at] = Fate::Refused(reason);
                    if !self.skip_refused {
                        // it ends the redrive: those after it wait for the next one
                        fates[at + 1..].fill(Fate::Held);
                    }
                }
                // it is another's: who has it now begins where this one was
                Err(SourceError::Fenced(_)) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn settlement(&self, line: &Line, fate: &Fate) -> Settlement {
        match line.errand() {
            Some(errand) if *fate == Fate::Done && self.travels_along(errand) => Settlement {
                token: line.token,
                disposition: Disposition::done(vec![errand.record.clone()]),
            },
            _ => Settlement::done(line.token),
        }
    }
}

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Nothing more is to be done than to settle it.
    Done,
    /// The broker never takes its parcel, and why.
    Refused(String),
    /// Not sent yet.
    Held,
}
