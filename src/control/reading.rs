//! Everything that a configuration needs of the file system: read and opened before anything depends on it, and never
//! by the task that decides, because a disk may hang.

use super::aside::{AsideError, FILES_WITHIN, aside};
use super::event_log::{Journal, Recalled};
use super::{Control, ControlMessage, ReloadRequest};
use crate::access_log::Output;
use crate::acme::{self, Material as AcmeMaterial};
use crate::config::plan::{Name, Plan};
use crate::config::{self, Problems, Severity};
use crate::disk;
use crate::edge::Bound;
use crate::files;
use crate::tls::{self, ManagedCertificate};
use crate::token::{Token, TokenError};
use crate::units::Address;
use crate::{geo_files, network_files, page_files, sticky_files};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tracing::{error, info};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(PathBuf),
    /// The demo has no file.
    Text(String),
    /// Somebody else has read it.
    Given {
        name: String,
        text: String,
    },
}

impl Source {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "built-in configuration".to_owned(),
            Self::Given { name, .. } => name.clone(),
        }
    }

    fn read(&self) -> io::Result<String> {
        match self {
            Self::File(path) => files::read_text(path),
            Self::Text(text) | Self::Given { text, .. } => Ok(text.clone()),
        }
    }
}

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadRefused {
    #[error("{name}: cannot be read: {error}")]
    Unreadable { name: String, error: io::Error },
    #[error("{errors}")]
    Problems {
        errors: String,
        /// What else there is to say of the file.
        warnings: Vec<String>,
    },
    #[error("listeners.{listener}: cannot listen on {address}: {error}")]
    Listen { listener: Name, address: Address, error: io::Error },
    #[error("listeners.{listener}.tls: cannot be set up: {error}")]
    Tls { listener: Name, error: tokio_rustls::rustls::Error },
    #[error("pools.{pool}.tls: cannot be set up: {error}")]
    ServerTls { pool: Name, error: rustls::Error },
    #[error(
        "no key for sticky cookies can be made: the machine has no randomness; name a file with one: `key_file`"
    )]
    NoRandomness,
    #[error("access_log.path: {path}: cannot be opened: {error}")]
    AccessLog { path: String, error: io::Error },
    #[error("events.path: {path}: cannot be used: {error}")]
    Events { path: String, error: io::Error },
    #[error("{name}: cannot be read: {why}")]
    NotRead { name: String, why: AsideError },
    #[error(
        "{0}: cannot be read: the files of an earlier reload are still waited for; is a file system away?"
    )]
    StillReading(String),
    #[error("{key}: {path}: {error}")]
    Token { key: String, path: String, error: TokenError },
}

/// A configuration that was read, with the files that it names.
#[derive(Clone, Debug)]
pub(crate) struct LoadedConfiguration {
    pub(crate) plan: Plan,
    pub(super) files: tls::Files,
    /// What authorities gave, as far as it is stored.
    pub(super) managed: HashMap<Name, ManagedCertificate>,
    pub(super) acme: Option<AcmeMaterial>,
    /// For the log, once there is one.
    pub(super) warnings: Vec<String>,
    /// The text's SHA-256.
    pub(crate) fingerprint: String,
}

/// Reads and checks a configuration and the files that it names.
pub(crate) fn load(source: &Source) -> Result<LoadedConfiguration, ReloadRefused> {
    let name = source.name();
    let text = match source.read() {
        Ok(text) => text,
        Err(error) => return Err(ReloadRefused::Unreadable { name, error }),
    };
    let lines = |problems: &Problems, severity: Severity| {
        let line = |problem: &config::Problem| {
            let spot = problem.spot;
            format!("{name}:{}:{}: {}", spot.line, spot.column, problem.sentence())
        };
        problems.iter().filter(|problem| problem.severity == severity).map(line).collect::<Vec<_>>()
    };
    let refused = |problems: &Problems| ReloadRefused::Problems {
        errors: lines(problems, Severity::Error).join("\n"),
        warnings: lines(problems, Severity::Warning),
    };
    let (mut plan, mut problems) = config::parse(&text).map_err(|problems| refused(&problems))?;
    let (files, faults) = tls::read(&plan, &text, SystemTime::now());
    faults.into_iter().for_each(|fault| problems.push(fault));
    sticky_files::read(&mut plan, &text).into_iter().for_each(|fault| problems.push(fault));
    network_files::read(&plan, &text).into_iter().for_each(|fault| problems.push(fault));
    geo_files::read(&plan, &text).into_iter().for_each(|fault| problems.push(fault));
    page_files::read(&mut plan, &text).into_iter().for_each(|fault| problems.push(fault));
    disk::check(&plan, &text).into_iter().for_each(|warning| problems.push(warning));
    let acme = acme::read(&plan, &text).unwrap_or_else(|faults| {
        faults.into_iter().for_each(|fault| problems.push(fault));
        None
    });
    if problems.has_errors() {
        return Err(refused(&problems));
    }
    let managed = acme::stored(&plan);
    let fingerprint = fingerprint(&text);
    Ok(LoadedConfiguration {
        plan,
        files,
        managed,
        acme,
        warnings: lines(&problems, Severity::Warning),
        fingerprint,
    })
}

/// What a plan writes to, and what requests must show, opened and read. What stays as it is in force is not opened anew.
#[derive(Debug, Default)]
pub(crate) struct OpenedFiles {
    pub(super) token: Option<Token>,
    /// What other nodes want to be shown, as far as that is another one; in their order.
    pub(super) purge_tokens: Vec<Option<Token>>,
    pub(super) access_log: Option<AccessLogOutput>,
    pub(super) journal: Option<Option<Journal>>,
    /// What an earlier process has written into the ledger's file.
    pub(super) recalled: Vec<Recalled>,
    /// Those of listeners that were not open yet.
    pub(super) unix_sockets: HashMap<PathBuf, Bound>,
}

/// A configuration with everything that it needs.
pub(crate) type ReadConfiguration = (LoadedConfiguration, OpenedFiles);

/// Reads the configuration that the process begins with.
///
/// # Errors
/// As a reload would refuse it.
pub(crate) async fn read_first(source: Source) -> Result<ReadConfiguration, ReloadRefused> {
    let name = source.name();
    let read = move || {
        let loaded = load(&source)?;
        let recalled = match &loaded.plan.events.path {
            Some(path) => {
                super::event_log::recall(path).map_err(|error| ReloadRefused::events(path, error))?
            }
            None => Vec::new(),
        };
        let opened = open(&loaded.plan, &crate::snapshot::Snapshot::empty().plan)?;
        Ok((loaded, OpenedFiles { recalled, ..opened }))
    };
    aside(FILES_WITHIN, read).await.unwrap_or_else(|why| Err(ReloadRefused::NotRead { name, why }))
}

/// Opens what `next` needs and has not with `current`.
fn open(next: &Plan, current: &Plan) -> Result<OpenedFiles, ReloadRefused> {
    let access_log = (next.access_log != current.access_log).then(|| open_access_log(next)).transpose()?;
    let journal = || {
        let open = |path: &PathBuf| Journal::open(path).map_err(|error| ReloadRefused::events(path, error));
        next.events.path.as_ref().map(open).transpose()
    };
    let journal = (next.events.path != current.events.path).then(journal).transpose()?;
    let token = read_token("admin.token_file", next.admin.token_file.as_deref())?;
    let nodes = next.cache.purge_nodes.iter().enumerate();
    let purge_tokens = nodes.map(|(place, node)| {
        read_token(&format!("cache.purge_nodes[{place}].token_file"), node.token_file.as_deref())
    });
    let purge_tokens = purge_tokens.collect::<Result<_, _>>()?;
    Ok(OpenedFiles { token, purge_tokens, access_log, journal, ..OpenedFiles::default() })
}

/// Files that are being read.
#[derive(Debug)]
pub(super) struct ReadInProgress {
    pub(super) purpose: ReadPurpose,
    pub(super) since: Instant,
}

/// What is to be done with what is read.
#[derive(Debug)]
pub(super) enum ReadPurpose {
    Reload(Vec<ReloadRequest>),
    /// What was in force before is put back, for this reason.
    RollBack(String),
}

impl Control {
    /// Whether files are being read that will be in force.
    pub(super) fn is_reloading(&self) -> bool {
        self.reading.is_some()
    }

    /// Begins to read the file; what comes of it comes as [`ControlMessage::Read`].
    pub(super) fn read(&mut self, purpose: ReadPurpose) {
        let (source, current) = (self.source.clone(), Arc::clone(&self.live.snapshot().plan));
        self.read_by(purpose, move || {
            let loaded = load(&source)?;
            let opened = open(&loaded.plan, &current)?;
            Ok((loaded, opened))
        });
    }

    /// Opens again what an earlier configuration needs.
    pub(super) fn reopen(&mut self, purpose: ReadPurpose, before: LoadedConfiguration) {
        let current = Arc::clone(&self.live.snapshot().plan);
        self.read_by(purpose, move || {
            let opened = open(&before.plan, &current)?;
            Ok((before, opened))
        });
    }

    fn read_by(
        &mut self,
        purpose: ReadPurpose,
        read: impl FnOnce() -> Result<ReadConfiguration, ReloadRefused> + Send + 'static,
    ) {
        self.reading = Some(ReadInProgress { purpose, since: Instant::now() });
        let name = self.source.name();
        // A thread that hangs holds it.
        if Arc::strong_count(&self.readers) > MOST_READERS {
            let refused = Err(ReloadRefused::StillReading(name));
            let _ = self.changes.send(ControlMessage::Read(Box::new(refused)));
            return;
        }
        let (changes, reader) = (self.changes.clone(), Arc::clone(&self.readers));
        let unix_sockets = self.unix_sockets(None);
        tokio::spawn(async move {
            let held = Arc::clone(&reader);
            let read = aside(FILES_WITHIN, move || {
                let read = read();
                drop(reader);
                read
            });
            let read = match read.await.unwrap_or_else(|why| Err(ReloadRefused::NotRead { name, why })) {
                Ok((loaded, opened)) => {
                    let sockets = unix_sockets.open(&loaded.plan, &held).await;
                    sockets.map(|unix_sockets| (loaded, OpenedFiles { unix_sockets, ..opened }))
                }
                Err(refused) => Err(refused),
            };
            let _ = changes.send(ControlMessage::Read(Box::new(read)));
        });
    }

    /// Opens log files anew, after they were rotated away.
    pub(super) fn reopen_logs(&mut self) {
        if let Some(coming) = &mut self.coming {
            // It may have opened them before they were rotated away.
            coming.reopen_logs = true;
        }
        self.live.event_log.reopen();
        let (live, plan) = (Arc::clone(&self.live), Arc::clone(&self.live.snapshot().plan));
        if plan.access_log.is_none() {
            return info!("log files reopened");
        }
        tokio::spawn(async move {
            let opening = Arc::clone(&plan);
            match aside(FILES_WITHIN, move || open_access_log(&opening)).await {
                // A reload may have opened another one meanwhile.
                Ok(Ok(_)) if live.snapshot().plan.access_log != plan.access_log => {}
                Ok(Ok(output)) => {
                    live.access_log.configure(output);
                    info!("log files reopened");
                }
                Ok(Err(refused)) => error!("{refused}; still writing to the old file"),
                Err(why) => error!("access_log.path: cannot be opened: {why}; still writing to the old file"),
            }
        });
    }
}

/// Reading that hangs beside the one that is asked for.
const MOST_READERS: usize = 3;

impl ReloadRefused {
    fn events(path: &Path, error: io::Error) -> Self {
        Self::Events { path: path.display().to_string(), error }
    }
}

type AccessLogOutput = Option<(Output, config::plan::AccessLogFormat)>;

fn open_access_log(plan: &Plan) -> Result<AccessLogOutput, ReloadRefused> {
    let Some(settings) = &plan.access_log else { return Ok(None) };
    match Output::open(&settings.path) {
        Ok(output) => Ok(Some((output, settings.format))),
        Err(error) => Err(ReloadRefused::AccessLog { path: settings.path.to_string(), error }),
    }
}

/// What changes over TCP must show, here or elsewhere.
fn read_token(key: &str, path: Option<&Path>) -> Result<Option<Token>, ReloadRefused> {
    let refused = |path: &Path, error| {
        let (key, path) = (key.to_owned(), path.display().to_string());
        ReloadRefused::Token { key, path, error }
    };
    path.map(|path| Token::read(path).map_err(|error| refused(path, error))).transpose()
}

/// As `sha256sum` prints it.
fn fingerprint(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    data_encoding::HEXLOWER.encode(digest.as_ref())
}
