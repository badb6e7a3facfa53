//! When a running process looks at its files again: when it is asked to (SIGHUP), and from time to time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Why it is time to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Somebody asked by the signal.
    Asked,
    /// The time is over.
    Time,
}

/// The SIGHUPs that come, also those before anybody waits. Made before anything is loaded, which can take
/// minutes, because without it the signal ends the process.
#[derive(Debug)]
pub(crate) struct Hangups {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Listens for the signal.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        })
    }

    /// Waits until it is time to look: at the signal, or after so many seconds unless those are 0. None
    /// when the process stops.
    pub(crate) async fn due(&mut self, seconds: u64, shutdown: &CancellationToken) -> Option<Due> {
        let time = async {
            match seconds {
                0 => std::future::pending().await,
                seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => None,
            () = self.next() => Some(Due::Asked),
            () = time => Some(Due::Time),
        }
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_that_comes_before_anybody_waits_is_not_lost() {
        let mut hangups = Hangups::listen().unwrap();
        let own = std::process::id().to_string();
        let told = std::process::Command::new("kill").args(["-HUP", &own]).status().unwrap();
        assert!(told.success());
        assert_eq!(hangups.due(0, &CancellationToken::new()).await, Some(Due::Asked));
    }
}
