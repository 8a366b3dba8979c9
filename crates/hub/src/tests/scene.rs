//! A hub alone, what it notes, and what it waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::client::{Client, connect, serve, soon};
use crate::error::HubResult;
use crate::filters::Filters;
use crate::handler::Served;
use crate::hub::Hub;
use crate::options::HubOptions;

/// In which everybody does all there is to do: the paused clock moves on only then.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// What a hub on the scene has.
#[derive(Clone)]
pub(super) struct Props {
    pub(super) noted: mpsc::UnboundedSender<String>,
    pub(super) permits: Arc<Semaphore>,
}

impl Props {
    /// Tells the test something.
    pub(super) fn note(&self, text: impl Into<String>) {
        let _ = self.noted.send(text.into());
    }

    /// Waits until the test gives a permit, which is used up.
    pub(super) async fn permit(&self) -> HubResult {
        self.permits.acquire().await?.forget();
        Ok(())
    }
}

/// A hub and the test's end of what it has.
pub(super) struct Scene<H: Hub> {
    pub(super) served: Arc<Served<H>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) noted: mpsc::UnboundedReceiver<String>,
}

impl<H: Hub> Scene<H> {
    /// Filters may have what the hub has.
    pub(super) fn new(
        options: HubOptions,
        hub: impl FnOnce(Props) -> H,
        filters: impl FnOnce(&Props) -> Filters,
    ) -> Self {
        let (sender, noted) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(0));
        let props = Props {
            noted: sender,
            permits: Arc::clone(&permits),
        };
        let filters = filters(&props);
        Self {
            served: serve(hub(props), options, filters),
            permits,
            noted,
        }
    }

    /// A client that has shaken hands.
    pub(super) async fn client(&self, id: &str) -> Client {
        let mut client = connect(&self.served, id);
        client.shake_hands().await;
        client
    }

    /// What the hub notes next.
    pub(super) async fn noted(&mut self) -> String {
        soon(self.noted.recv()).await.unwrap()
    }

    /// The hub notes these next.
    pub(super) async fn expect(&mut self, notes: &[&str]) {
        for note in notes {
            assert_eq!(self.noted().await, *note);
        }
    }

    /// Everything that has been noted when nobody has anything to do any more.
    pub(super) async fn settled(&mut self) -> Vec<String> {
        tokio::time::sleep(MOMENT).await;
        std::iter::from_fn(|| self.noted.try_recv().ok()).collect()
    }
}
