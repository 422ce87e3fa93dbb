//! Does on a thread of its own what may wait for a disk, or for a network behind it: probes, signals and the admin
//! endpoint do not wait with it.

use std::io;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long files may take to be read or opened.
pub(crate) const FILES_WITHIN: Duration = Duration::from_secs(20);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AsideError {
    #[error("the files did not answer within {0:?}; is a file system away?")]
    Late(Duration),
    #[error("a fault of our own: it ended without a result")]
    Panicked,
    #[error("no thread can be had: {0}")]
    Thread(#[from] io::Error),
}

/// What `act` gives, if it does so in time. If not, its thread goes on by itself, and ends with the process at last.
pub(crate) async fn aside<T: Send + 'static>(
    within: Duration,
    act: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AsideError> {
    let (result, wait) = oneshot::channel();
    std::thread::Builder::new().name("files".into()).spawn(move || {
        // Nobody may wait any more.
        let _ = result.send(act());
    })?;
    match tokio::time::timeout(within, wait).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(AsideError::Panicked),
        Err(_) => Err(AsideError::Late(within)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_come_in_time_is_not_waited_for() {
        assert_eq!(aside(FILES_WITHIN, || 7).await.unwrap(), 7);
        let (open, hangs) = std::sync::mpsc::channel::<()>();
        let late = aside(Duration::from_millis(1), move || hangs.recv().is_ok()).await;
        assert!(matches!(late, Err(AsideError::Late(_))), "{late:?}");
        drop(open);
        assert!(matches!(
            aside(FILES_WITHIN, || panic!("a fault")).await,
            Err::<(), _>(AsideError::Panicked)
        ));
    }
}
