//! What this node answers an authority with: the challenges of all nodes that share the storage, read from it so often
//! that every node knows one before the authority is told to ask.

use super::storage::{Challenge, Storage, StorageError};
use super::unix_time;
use crate::tls::ChallengeCertificates;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use tracing::warn;

/// How often challenges are read.
pub(super) const READ_EVERY: Duration = Duration::from_secs(1);
/// How long a challenge is in the storage before the authority is told: every node has read it twice by then.
pub(super) const SPREADS_WITHIN: Duration = Duration::from_millis(2500);

/// Where an authority asks (RFC 8555 section 8.3).
const PLACE: &str = "/.well-known/acme-challenge/";

/// The challenges in force.
#[derive(Debug, Default)]
pub(crate) struct ChallengeStore {
    /// What a request is answered with, by its token.
    answers: ArcSwap<HashMap<String, Arc<str>>>,
    /// What a handshake is.
    pub(crate) certificates: Arc<ChallengeCertificates>,
    shown: Mutex<Shown>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Shown {
    challenges: Vec<Challenge>,
    /// By the names they are for, with the digests that they hold.
    certificates: HashMap<String, ([u8; 32], Arc<CertifiedKey>)>,
}

impl ChallengeStore {
    /// The answer to a request for this path, if it is for a challenge that we know.
    pub(crate) fn answer(&self, path: &str) -> Option<Arc<str>> {
        let token = path.strip_prefix(PLACE)?;
        self.answers.load().get(token).cloned()
    }

    /// Reads the challenges and puts them in force.
    pub(super) fn read(&self, storage: &Storage) -> Result<(), StorageError> {
        // Held while reading, so that what is put in force last was read last.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let challenges = storage.challenges(unix_time(SystemTime::now()))?;
        if challenges != shown.challenges {
            self.show(&mut shown, challenges);
        }
        Ok(())
    }

    /// Nothing is answered any more.
    pub(super) fn clear(&self) {
        self.show(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner), Vec::new());
    }

    fn show(&self, shown: &mut Shown, challenges: Vec<Challenge>) {
        let mut answers = HashMap::new();
        let mut certificates = HashMap::new();
        for Challenge { name, token, key_authorization, digest } in &challenges {
            let Some(digest) = digest else {
                answers.insert(token.clone(), Arc::from(key_authorization.as_str()));
                continue;
            };
            let made = shown.certificates.get(name).filter(|(of, _)| of == digest);
            let made = made.map_or_else(
                || ChallengeCertificates::certificate(name, digest),
                |(_, made)| Ok(Arc::clone(made)),
            );
            match made {
                Ok(made) => _ = certificates.insert(name.clone(), (*digest, made)),
                Err(error) => warn!(%name, %error, "cannot answer an authority's challenge"),
            }
        }
        self.answers.store(Arc::new(answers));
        let keys = certificates.iter().map(|(name, (_, key))| (name.clone(), Arc::clone(key)));
        self.certificates.set(keys.collect());
        *shown = Shown { challenges, certificates };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_of_our_orders_are_answered() {
        let store = ChallengeStore::default();
        let challenge = |name: &str, digest| Challenge {
            name: name.to_owned(),
            token: format!("{name}-token"),
            key_authorization: format!("{name}-answer"),
            digest,
        };
        let show = |challenges| store.show(&mut store.shown.lock().unwrap(), challenges);
        show(vec![challenge("a", None), challenge("b", Some([1; 32]))]);
        let answer = |path: &str| store.answer(path).map(|answer| answer.to_string());
        assert_eq!(answer("/.well-known/acme-challenge/a-token").as_deref(), Some("a-answer"));
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/b-token",
            "/.well-known/acme-challenge/a-token/",
            "/.well-known/acme-challenge/A-token",
            "/.well-known/acme-challenge",
            "a-token",
            "/",
        ] {
            assert_eq!(answer(path), None, "{path}");
        }
        let made =
            |name: &str| store.shown.lock().unwrap().certificates.get(name).map(|(_, key)| Arc::clone(key));
        let first = made("b").expect("there is one");
        show(vec![challenge("b", Some([1; 32]))]);
        assert!(Arc::ptr_eq(&made("b").expect("there is one"), &first), "it is not made again");
        show(vec![challenge("b", Some([2; 32]))]);
        assert!(!Arc::ptr_eq(&made("b").expect("there is one"), &first), "another challenge has another");
        assert_eq!(answer("/.well-known/acme-challenge/a-token"), None);
        store.clear();
        assert!(made("b").is_none());
    }
}
