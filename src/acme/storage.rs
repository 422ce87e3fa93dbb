//! What is kept on disk, in a directory that several nodes may share: the account, certificates with their keys,
//! challenges being answered, failures and locks.
//!
//! A file is written under another name and then renamed, so that every reader finds all of it or nothing. Only the
//! user evenkeel runs as may read it: there are private keys.

use super::lock::Lock;
use super::schedule::OrderFault;
use crate::config::plan::{self, Name};
use crate::tls::ManagedCertificate;
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// After so many seconds a challenge is over, whatever became of who wrote it.
const CHALLENGE_LASTS: i64 = 3600;

/// What is wrong with the storage.
#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    #[error("{}: cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}: cannot be written: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("{} {what}", path.display())]
    Broken { path: PathBuf, what: String },
}

/// What tells a file from one that was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileStamp {
    inode: u64,
    length: u64,
    changed: i64,
    changed_nanoseconds: i64,
}

/// The failures in a row of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failures {
    pub(super) count: u32,
    pub(super) retry_at: i64,
    pub(super) fault: OrderFault,
    pub(super) reason: String,
}

/// A challenge that some node has the authority ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) name: String,
    pub(super) token: String,
    /// What a request for the token is answered with (RFC 8555 section 8.1).
    pub(super) key_authorization: String,
    /// Its SHA-256, for a handshake; `None` where requests are asked for.
    pub(super) digest: Option<[u8; 32]>,
}

/// One authority's part of the storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    root: PathBuf,
}

impl Storage {
    pub(super) fn new(acme: &plan::AcmePlan) -> Self {
        let url = acme.directory.strip_prefix("https://").unwrap_or(&acme.directory);
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let name: String = url.chars().map(|c| if fits(c) { c } else { '-' }).collect();
        Self { root: acme.storage.join(name.trim_matches(['-', '.'])) }
    }

    fn path(&self, part: &str, file: &str) -> PathBuf {
        self.root.join(part).join(file)
    }

    pub(super) fn certificate_file(&self, name: &Name) -> PathBuf {
        self.path("certificates", &format!("{name}.pem"))
    }

    /// What tells a name's file from the one that was there before; `None` if there is none.
    pub(super) fn stamp(&self, name: &Name) -> Result<Option<FileStamp>, StorageError> {
        let path = self.certificate_file(name);
        match fs::metadata(&path) {
            Ok(file) => Ok(Some(FileStamp {
                inode: file.ino(),
                length: file.len(),
                changed: file.mtime(),
                changed_nanoseconds: file.mtime_nsec(),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::Read { path, error }),
        }
    }

    /// The certificate for a name. One that is broken is an error.
    pub(super) fn certificate(&self, name: &Name) -> Result<Option<ManagedCertificate>, StorageError> {
        let path = self.certificate_file(name);
        let Some(contents) = read(&path)? else { return Ok(None) };
        match ManagedCertificate::read(name, &path, &contents) {
            Ok(managed) => Ok(Some(managed)),
            Err(what) => Err(StorageError::Broken { path, what }),
        }
    }

    pub(super) fn put_certificate(&self, name: &Name, pem: &str) -> Result<(), StorageError> {
        self.write("certificates", &format!("{name}.pem"), pem.as_bytes())
    }

    /// The account's contacts and credentials.
    pub(super) fn account(&self) -> Result<Option<Value>, StorageError> {
        let path = self.root.join("account.json");
        let Some(contents) = read(&path)? else { return Ok(None) };
        serde_json::from_slice(&contents).map(Some).map_err(|error| StorageError::Broken {
            path,
            what: format!("is not JSON: {error}; put back a copy, or remove it for a new account"),
        })
    }

    pub(super) fn put_account(&self, account: &Value) -> Result<(), StorageError> {
        self.write("", "account.json", format!("{account:#}\n").as_bytes())
    }

    /// Makes room for another account, unless another node has done so already: the one with this id is no use.
    pub(super) fn set_account_aside(&self, id: &str) -> Result<(), StorageError> {
        if self.account()?.is_none_or(|account| account["credentials"]["id"] != id) {
            return Ok(());
        }
        let path = self.root.join("account.json");
        fs::rename(&path, self.root.join("account.json.unknown"))
            .map_err(|error| StorageError::Write { path, error })
    }

    /// What failed for a name; a record that cannot be understood is as good as none.
    pub(super) fn failures(&self, name: &Name) -> Result<Option<Failures>, StorageError> {
        let Some(contents) = read(&self.path("failures", &format!("{name}.json")))? else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Value>(&contents) else { return Ok(None) };
        let known = |record: &Value| {
            Some(Failures {
                count: u32::try_from(record["failures"].as_u64()?).ok()?,
                retry_at: record["retry_at"].as_i64()?,
                fault: [OrderFault::Refused, OrderFault::Away, OrderFault::Own]
                    .into_iter()
                    .find(|fault| record["fault"].as_str() == Some(fault.as_str()))?,
                reason: record["reason"].as_str()?.to_owned(),
            })
        };
        Ok(known(&record))
    }

    pub(super) fn put_failures(&self, name: &Name, failures: &Failures) -> Result<(), StorageError> {
        let record = json!({
            "failures": failures.count,
            "retry_at": failures.retry_at,
            "fault": failures.fault.as_str(),
            "reason": failures.reason,
        });
        self.write("failures", &format!("{name}.json"), format!("{record:#}\n").as_bytes())
    }

    pub(super) fn forget_failures(&self, name: &Name) {
        let _ = fs::remove_file(self.path("failures", &format!("{name}.json")));
    }

    /// All challenges of all nodes.
    pub(super) fn challenges(&self, now: i64) -> Result<Vec<Challenge>, StorageError> {
        let directory = self.root.join("challenges");
        let files = match fs::read_dir(&directory) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StorageError::Read { path: directory, error }),
        };
        let mut found = Vec::new();
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Ok(Some(contents)) = read(&path) else { continue };
            match serde_json::from_slice(&contents).ok().and_then(|record| challenge(&record)) {
                Some((challenge, since)) if now.saturating_sub(since) < CHALLENGE_LASTS => {
                    found.push(challenge)
                }
                // What its node left behind when it ended.
                _ => _ = fs::remove_file(&path),
            }
        }
        Ok(found)
    }

    pub(super) fn put_challenge(&self, challenge: &Challenge, now: i64) -> Result<(), StorageError> {
        let record = json!({
            "name": challenge.name,
            "token": challenge.token,
            "key_authorization": challenge.key_authorization,
            "digest": challenge.digest,
            "since": now,
        });
        self.write("challenges", &format!("{}.json", challenge.name), record.to_string().as_bytes())
    }

    pub(super) fn remove_challenge(&self, name: &str) {
        let _ = fs::remove_file(self.path("challenges", &format!("{name}.json")));
    }

    /// Takes the lock of this name; `None` if another has it.
    pub(super) fn lock(&self, name: &str, now: i64) -> Result<Option<Lock>, StorageError> {
        let path = self.root.join("locks");
        let taken = make_directory(&path).and_then(|()| Lock::take(&path, name, now));
        taken.map_err(|error| StorageError::Write { path, error })
    }

    /// Writes a file as a whole.
    fn write(&self, part: &str, file: &str, contents: &[u8]) -> Result<(), StorageError> {
        let directory = self.root.join(part);
        let path = directory.join(file);
        // A name that no other node and no other thread takes, and that nobody reads.
        let other = directory.join(format!(".{file}.{:016x}", fastrand::u64(..)));
        let write = || {
            make_directory(&directory)?;
            let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&other)?;
            to.write_all(contents)?;
            // Before the rename, or a crash could leave a name with nothing behind it.
            to.sync_all()?;
            fs::rename(&other, &path)?;
            File::open(&directory)?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&other);
            StorageError::Write { path, error }
        })
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What a file holds; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match crate::files::read(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::Read { path: path.to_owned(), error }),
    }
}

/// A challenge, and since when there is it.
fn challenge(record: &Value) -> Option<(Challenge, i64)> {
    let text = |key| record.get(key)?.as_str().map(str::to_owned);
    let digest = match record.get("digest")? {
        Value::Null => None,
        bytes => {
            let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Option<Vec<u8>> = bytes.as_array()?.iter().map(byte).collect();
            Some(bytes?.try_into().ok()?)
        }
    };
    let challenge = Challenge {
        name: text("name")?,
        token: text("token")?,
        key_authorization: text("key_authorization")?,
        digest,
    };
    Some((challenge, record.get("since")?.as_i64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::{AcmeChallenge, AcmePlan};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("evenkeel-acme-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
            Self(std::env::temp_dir().join(name))
        }

        fn storage(&self, directory: &str) -> Storage {
            Storage::new(&AcmePlan {
                directory: directory.to_owned(),
                contact: Vec::new(),
                challenge: AcmeChallenge::Http01,
                storage: self.0.clone(),
                ca: None,
                external_account: None,
            })
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A key and a certificate for a name.
    fn pem(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        key.serialize_pem() + &certificate.pem()
    }

    #[test]
    fn each_authority_has_a_place_of_its_own() {
        let place = Place::new();
        for (directory, expected) in [
            ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org-directory"),
            ("https://[::1]:14000/dir", "1--14000-dir"),
            ("https://a.example/../../etc", "a.example-..-..-etc"),
        ] {
            assert_eq!(place.storage(directory).root, place.0.join(expected));
        }
    }

    #[test]
    fn what_was_put_is_found_and_what_is_broken_is_named() {
        let place = Place::new();
        let storage = place.storage("https://acme.example/dir");
        let name = Name::from("shop.example");
        assert!(storage.certificate(&name).unwrap().is_none() && storage.stamp(&name).unwrap().is_none());
        let whole = pem("shop.example");
        storage.put_certificate(&name, &whole).unwrap();
        let (first, stamp) = (storage.certificate(&name).unwrap().unwrap(), storage.stamp(&name).unwrap());
        storage.put_certificate(&name, &pem("shop.example")).unwrap();
        assert!(!storage.certificate(&name).unwrap().unwrap().is(&first));
        assert_ne!(storage.stamp(&name).unwrap(), stamp);
        let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (_, certificate) = whole.split_once("-----END PRIVATE KEY-----\n").unwrap();
        for (contents, what) in [
            (String::new(), "holds no private key"),
            (whole[..100].to_owned(), "is not good PEM: the line `-----END PRIVATE KEY-----` is missing"),
            (other_key.clone(), "holds no certificate"),
            (other_key + certificate, "has another's key"),
            (whole[..whole.len() - 100].to_owned(), "is not good PEM"),
            (pem("other.example"), "is not for shop.example"),
        ] {
            storage.put_certificate(&name, &contents).unwrap();
            let said = storage.certificate(&name).unwrap_err().to_string();
            assert!(said.contains("certificates/shop.example.pem ") && said.contains(what), "{said}");
        }
        assert_eq!(
            fs::read_dir(storage.root.join("certificates")).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn failures_are_kept_and_forgotten() {
        let place = Place::new();
        let storage = place.storage("https://acme.example/dir");
        let name = Name::from("shop.example");
        assert_eq!(storage.failures(&name).unwrap(), None);
        for fault in [OrderFault::Refused, OrderFault::Away, OrderFault::Own] {
            let failures = Failures { count: 3, retry_at: 1234, fault, reason: "\"no\"\n".to_owned() };
            storage.put_failures(&name, &failures).unwrap();
            assert_eq!(storage.failures(&name).unwrap(), Some(failures));
        }
        for odd in ["", "{}", r#"{"failures":-1,"retry_at":1,"fault":"own","reason":""}"#] {
            storage.write("failures", "shop.example.json", odd.as_bytes()).unwrap();
            assert_eq!(storage.failures(&name).unwrap(), None, "{odd}");
        }
        storage.forget_failures(&name);
        storage.forget_failures(&name);
    }

    #[test]
    fn challenges_are_for_all_nodes_and_for_an_hour() {
        let place = Place::new();
        let (one, other) =
            (place.storage("https://acme.example/dir"), place.storage("https://acme.example/dir"));
        assert_eq!(one.challenges(0).unwrap(), []);
        let challenge = |name: &str, digest| Challenge {
            name: name.to_owned(),
            token: "abc".to_owned(),
            key_authorization: "abc.def".to_owned(),
            digest,
        };
        let (by_request, by_handshake) =
            (challenge("a.example", None), challenge("b.example", Some([7; 32])));
        one.put_challenge(&by_request, 1000).unwrap();
        one.put_challenge(&by_handshake, 2000).unwrap();
        one.write("challenges", "c.example.json", b"{").unwrap();
        let mut found = other.challenges(2000).unwrap();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(found, [by_request, by_handshake.clone()]);
        assert_eq!(other.challenges(1000 + CHALLENGE_LASTS).unwrap(), [by_handshake]);
        one.remove_challenge("b.example");
        assert_eq!(
            fs::read_dir(one.root.join("challenges")).unwrap().count(),
            0,
            "what is over is cleared away"
        );
    }

    #[test]
    fn an_account_is_set_aside_only_if_it_is_the_one_that_is_no_use() {
        let place = Place::new();
        let storage = place.storage("https://acme.example/dir");
        storage.set_account_aside("first").unwrap();
        storage.put_account(&json!({ "credentials": { "id": "second" } })).unwrap();
        storage.set_account_aside("first").unwrap();
        assert!(storage.account().unwrap().is_some());
        storage.set_account_aside("second").unwrap();
        assert!(storage.account().unwrap().is_none() && storage.root.join("account.json.unknown").exists());
    }
}
