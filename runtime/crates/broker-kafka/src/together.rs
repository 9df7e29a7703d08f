//! What many ask for at once, done at once: a hundred plugins that start look for a hundred topics.

use parking_lot::Mutex;
use sandbar_core::SourceError;
use tokio::sync::oneshot;

use crate::admin::blocking;

/// Asked at most in one go: a Kafka controller refuses requests for thousands of partitions.
const MOST: usize = 100;

/// Where whoever asked gets its answer.
type Answer<R> = oneshot::Sender<Result<R, SourceError>>;

/// Requests of one kind.
pub(crate) struct Together<T, R> {
    waiting: Mutex<Vec<(T, Answer<R>)>>,
    /// Whoever has it makes the requests of all who wait.
    turn: tokio::sync::Mutex<()>,
}

impl<T, R> Default for Together<T, R> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }
}

impl<T: Send + 'static, R: Send + 'static> Together<T, R> {
    /// The results of `asked`, in their order. `run` gets them on a blocking thread, with what others
    /// have asked meanwhile, and answers each.
    ///
    /// # Errors
    /// The first one.
    pub async fn ask(
        &self,
        asked: impl IntoIterator<Item = T>,
        run: impl Fn(Vec<T>) -> Vec<Result<R, SourceError>> + Clone + Send + 'static,
    ) -> Result<Vec<R>, SourceError> {
        let enter = |item| {
            let (answer, answered) = oneshot::channel();
            self.waiting.lock().push((item, answer));
            answered
        };
        let answers: Vec<_> = asked.into_iter().map(enter).collect();
        let turn = self.turn.lock().await;
        // what is empty is not answered yet: it is among those who wait, since this is our turn
        while answers.iter().any(oneshot::Receiver::is_empty) {
            let (items, senders): (Vec<T>, Vec<_>) = {
                let mut waiting = self.waiting.lock();
                let count = waiting.len().min(MOST);
                waiting.drain(..count).unzip()
            };
            let run = run.clone();
            let results = blocking(move || Ok(run(items))).await?;
            // whoever asked may have stopped waiting
            senders.into_iter().zip(results).for_each(|(sender, result)| drop(sender.send(result)));
        }
        drop(turn);
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            let cut = |_| SourceError::Unavailable("request was cut short".into());
            results.push(answer.await.map_err(cut)??);
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn each_gets_its_own_answer_and_requests_are_few() {
        let together = Arc::new(Together::default());
        let requests = Arc::new(AtomicUsize::new(0));
        let ask = |n: usize| {
            let (together, requests) = (together.clone(), requests.clone());
            tokio::spawn(async move {
                let run = move |items: Vec<usize>| {
                    requests.fetch_add(1, Ordering::Relaxed);
                    assert!(items.len() <= MOST);
                    let odd = |n| SourceError::Unavailable(format!("{n} is odd"));
                    items
                        .into_iter()
                        .map(|n| if n % 2 == 0 { Ok(n) } else { Err(odd(n)) })
                        .collect()
                };
                together.ask([n, n + 2], run).await
            })
        };
        let asked: Vec<_> = (0..500).map(ask).collect();
        for (n, answer) in asked.into_iter().enumerate() {
            match answer.await.unwrap() {
                Ok(two) => assert_eq!(two, [n, n + 2]),
                Err(e) => assert!(n % 2 == 1 && e.to_string().contains(&format!("{n} is odd"))),
            }
        }
        assert!(requests.load(Ordering::Relaxed) < 100);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_keeps_nobody_waiting() {
        let together: Together<u8, u8> = Together::default();
        let run = |items: Vec<u8>| items.into_iter().map(Ok).collect();
        let turn = together.turn.lock().await;
        let gone = together.ask([1], run);
        tokio::select! {
            biased;
            _ = gone => panic!("it was not its turn"),
            () = std::future::ready(()) => {}
        }
        drop(turn);
        assert_eq!(together.ask([2], run).await.unwrap(), [2]);
    }
}
