//! One task for each name: it looks at what is stored, orders when that is due, and reports what is new.

use super::challenge_store::{ChallengeStore, READ_EVERY};
use super::client::AcmeClient;
use super::lock::LEASE;
use super::material::Material;
use super::order::{OrderContext, OrderFailed};
use super::schedule::{self, NextStep, OrderFault, Validity};
use super::storage::{Failures, FileStamp, Storage, StorageError};
use super::{blocking, unix_time};
use crate::config::plan::{self, Name, Plan};
use crate::metrics::{self, AcmeResult};
use crate::tls::ManagedCertificate;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};
use xxhash_rust::xxh3::xxh3_64;

/// How often the storage is looked at: by then at the latest a node has what another ordered.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Orders under way at once.
const AT_ONCE: usize = 4;
/// Looks at the storage under way at once.
const READS_AT_ONCE: usize = 8;
/// Of a failure's reason, more is not kept.
const LONGEST_REASON: usize = 1000;
/// An order that takes longer is given up, so that its lock is never over before it is.
const ORDER_WITHIN: Duration = Duration::from_secs(LEASE as u64 - 30);

/// All names that are kept in certificates.
#[derive(Debug)]
pub(crate) struct CertificateManager {
    store: Arc<ChallengeStore>,
    reports: mpsc::UnboundedSender<ManagedCertificate>,
    /// What keepers were started with; with other settings there are other keepers.
    settings: Option<KeeperSettings>,
    keepers: HashMap<Name, DropGuard>,
    /// Reads challenges.
    reader: Option<DropGuard>,
    permits: Arc<Semaphore>,
    disk: Arc<Semaphore>,
}

#[derive(Debug)]
struct KeeperSettings {
    acme: plan::AcmePlan,
    /// Who is asked where the authority is.
    dns: plan::DnsPlan,
    material: Material,
}

impl KeeperSettings {
    fn are(&self, acme: &plan::AcmePlan, dns: &plan::DnsPlan, material: &Material) -> bool {
        let before = &self.material;
        self.acme == *acme
            && self.dns == *dns
            && before.hmac_key == material.hmac_key
            && before.ca == material.ca
    }
}

impl CertificateManager {
    pub(crate) fn new(
        store: Arc<ChallengeStore>,
        reports: mpsc::UnboundedSender<ManagedCertificate>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let disk = Arc::new(Semaphore::new(READS_AT_ONCE));
        Self { store, reports, settings: None, keepers: HashMap::new(), reader: None, permits, disk }
    }

    /// Keeps the names that a plan has, and no others.
    pub(crate) fn follow(
        &mut self,
        plan: &Plan,
        material: Option<Material>,
        metrics: &Arc<metrics::AcmeMetrics>,
    ) {
        let names: BTreeSet<&Name> = super::names(plan);
        let (Some(acme), Some(material), false) = (&plan.acme, material, names.is_empty()) else {
            self.stop();
            return;
        };
        if !self.settings.as_ref().is_some_and(|settings| settings.are(acme, &plan.dns, &material)) {
            self.stop();
        }
        self.settings =
            Some(KeeperSettings { acme: acme.clone(), dns: plan.dns.clone(), material: material.clone() });
        self.keepers.retain(|name, _| names.contains(name));
        let storage = Arc::new(Storage::new(acme));
        let context = OrderContext {
            acme: Arc::new(acme.clone()),
            storage: Arc::clone(&storage),
            store: Arc::clone(&self.store),
            client: AcmeClient::new(material.tls, plan.dns.clone()),
            hmac_key: material.hmac_key,
            disk: Arc::clone(&self.disk),
        };
        if self.reader.is_none() {
            self.reader = Some(until_dropped(read_challenges(Arc::clone(&self.store), storage)));
        }
        for name in names {
            self.keepers.entry(name.clone()).or_insert_with(|| {
                let keeper = CertificateKeeper {
                    // What one order is told of limits is not for another.
                    context: OrderContext { client: context.client.anew(), ..context.clone() },
                    name: name.clone(),
                    metrics: Arc::clone(metrics),
                    reports: self.reports.clone(),
                    permits: Arc::clone(&self.permits),
                    known: None,
                    reported: None,
                    seen: None,
                    unwritten: None,
                    said: None,
                };
                until_dropped(keeper.keep())
            });
        }
    }

    /// Orders nothing more, and answers nothing more.
    pub(crate) fn stop(&mut self) {
        self.settings = None;
        self.keepers.clear();
        if self.reader.take().is_some() {
            self.store.clear();
        }
    }
}

/// Runs a task until the guard is dropped.
fn until_dropped(task: impl Future<Output = ()> + Send + 'static) -> DropGuard {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    tokio::spawn(async move { token.run_until_cancelled_owned(task).await });
    guard
}

async fn read_challenges(store: Arc<ChallengeStore>, storage: Arc<Storage>) {
    let mut is_read = true;
    loop {
        let (to, from) = (Arc::clone(&store), Arc::clone(&storage));
        match blocking(move || to.read(&from)).await {
            Ok(Ok(())) => is_read = true,
            // Once is enough.
            Ok(Err(error)) if std::mem::take(&mut is_read) => {
                error!(%error, "ACME challenges cannot be read; those that other nodes order cannot be answered");
            }
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        tokio::time::sleep(READ_EVERY).await;
    }
}

/// One name's keeper.
struct CertificateKeeper {
    context: OrderContext,
    name: Name,
    metrics: Arc<metrics::AcmeMetrics>,
    reports: mpsc::UnboundedSender<ManagedCertificate>,
    permits: Arc<Semaphore>,
    /// What control was told of last.
    known: Option<ManagedCertificate>,
    /// The file that it was told of last.
    reported: Option<FileStamp>,
    seen: Option<StoredCertificate>,
    /// Failures that could not be written down.
    unwritten: Option<Failures>,
    /// What was said last of the storage, which is not said again.
    said: Option<String>,
}

/// What is stored of a name.
struct StoredState {
    file: StoredCertificate,
    failures: Option<Failures>,
}

/// A certificate's file as it was read last.
#[derive(Clone)]
struct StoredCertificate {
    stamp: Option<FileStamp>,
    /// As what is broken counts as none, it comes with what to say.
    certificate: Option<ManagedCertificate>,
    broken: Option<String>,
}

impl CertificateKeeper {
    async fn keep(mut self) {
        loop {
            let wait = match self.look().await {
                Ok(stored) => {
                    self.report(&stored);
                    match self.step(&stored) {
                        NextStep::Order => self.order().await,
                        NextStep::WaitUntil(at) => {
                            self.metrics.next_order(&self.name, at);
                            let left = at.saturating_sub(unix_time(SystemTime::now()));
                            Duration::from_secs(u64::try_from(left).unwrap_or(0)).min(LOOK_EVERY)
                        }
                    }
                }
                Err(failed) => {
                    // What cannot be read may be there: ordering now would order again and again.
                    self.say(failed.reason, "the stored certificate cannot be read");
                    LOOK_EVERY
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads what is stored; a certificate's file only if it is another than before.
    async fn look(&mut self) -> Result<StoredState, OrderFailed> {
        let (name, before) = (self.name.clone(), self.seen.clone());
        let look = move |storage: &Storage| {
            let stamp = storage.stamp(&name)?;
            let file = match before {
                Some(before) if before.stamp == stamp => before,
                _ => match storage.certificate(&name) {
                    Ok(certificate) => StoredCertificate { stamp, certificate, broken: None },
                    Err(error @ StorageError::Broken { .. }) => {
                        StoredCertificate { stamp, certificate: None, broken: Some(error.to_string()) }
                    }
                    Err(error) => return Err(error),
                },
            };
            Ok(StoredState { file, failures: storage.failures(&name)? })
        };
        let stored = self.context.with_storage(look).await?;
        self.seen = Some(stored.file.clone());
        Ok(stored)
    }

    /// Tells control of a certificate that it has not, and the log of one that is no use.
    fn report(&mut self, stored: &StoredState) {
        match &stored.file.broken {
            Some(broken) => self.say(broken.clone(), "the stored certificate is no use; ordering another"),
            None => self.said = None,
        }
        let Some(certificate) = &stored.file.certificate else { return };
        // A file that is still the same one must not take the place of a certificate that could not be written.
        if self.reported != stored.file.stamp {
            self.reported = stored.file.stamp;
            self.known = Some(certificate.clone());
            // Nobody listens when the process ends.
            let _ = self.reports.send(certificate.clone());
        }
    }

    fn say(&mut self, reason: String, what: &'static str) {
        if self.said.as_ref() != Some(&reason) {
            error!(name = %self.name, %reason, "{what}");
            self.said = Some(reason);
        }
    }

    fn step(&self, stored: &StoredState) -> NextStep {
        let validity = stored.file.certificate.as_ref().map(validity);
        let retry_at =
            [&stored.failures, &self.unwritten].into_iter().flatten().map(|failures| failures.retry_at);
        let entropy = self.entropy(validity);
        schedule::step(validity, retry_at.max(), entropy, unix_time(SystemTime::now()))
    }

    /// Chance that is the same on every node.
    fn entropy(&self, validity: Option<Validity>) -> u64 {
        xxh3_64(format!("{} {validity:?}", self.name).as_bytes())
    }

    /// Orders, unless another node does; returns after how long to look again.
    async fn order(&mut self) -> Duration {
        let Ok(_permit) = Arc::clone(&self.permits).acquire_owned().await else { return LOOK_EVERY };
        let (name, now) = (self.name.to_string(), unix_time(SystemTime::now()));
        let lock = match self.context.with_storage(move |storage| storage.lock(&name, now)).await {
            Ok(Some(lock)) => lock,
            // Whoever has it says what comes of it, in the storage.
            Ok(None) => return READ_EVERY,
            Err(failed) => {
                self.failed(None, failed).await;
                return READ_EVERY;
            }
        };
        // While we waited another may have been here.
        let stored = match self.look().await {
            Ok(stored) if self.step(&stored) == NextStep::Order => stored,
            _ => {
                let _ = blocking(move || drop(lock)).await;
                return Duration::ZERO;
            }
        };
        let certificate = stored.file.certificate.as_ref();
        info!(name = %self.name, renewal = certificate.is_some(), directory = %self.context.acme.directory,
            "ordering a certificate");
        let ordered = tokio::time::timeout(ORDER_WITHIN, self.context.order(&self.name)).await;
        let ordered = ordered.unwrap_or_else(|_| {
            let reason = format!("the order took longer than {ORDER_WITHIN:?}");
            Err(OrderFailed { fault: OrderFault::Away, reason, retry_at: None })
        });
        match ordered {
            Ok(pem) => self.take(&stored, pem).await,
            Err(failed) => self.failed(Some(&stored), failed).await,
        }
        let _ = blocking(move || drop(lock)).await;
        Duration::ZERO
    }

    /// Looks at what the authority gave, and stores it. An order that gained nothing must not be made again at once.
    async fn take(&mut self, stored: &StoredState, pem: String) {
        let file = self.context.storage.certificate_file(&self.name);
        let managed = match ManagedCertificate::read(&self.name, &file, pem.as_bytes()) {
            Ok(managed) => managed,
            Err(what) => {
                let failed = OrderFailed::refused(format!("what the authority gave is no use: it {what}"));
                return self.failed(Some(stored), failed).await;
            }
        };
        let name = self.name.clone();
        let written = self.context.with_storage(move |storage| storage.put_certificate(&name, &pem)).await;
        if let Err(failed) = written {
            // It serves this node at least; another order costs the authority's patience.
            self.known = Some(managed.clone());
            let _ = self.reports.send(managed);
            let later = unix_time(SystemTime::now()) + 3600;
            return self.failed(Some(stored), OrderFailed { retry_at: Some(later), ..failed }).await;
        }
        let (validity, now) = (validity(&managed), unix_time(SystemTime::now()));
        if schedule::step(Some(validity), None, self.entropy(Some(validity)), now) == NextStep::Order {
            let reason = "the new certificate is due for renewal already; look at this machine's clock";
            return self.failed(Some(stored), OrderFailed::refused(reason)).await;
        }
        let name = self.name.clone();
        let forget = move |storage: &Storage| {
            storage.forget_failures(&name);
            Ok(())
        };
        let _ = self.context.with_storage(forget).await;
        self.succeeded(&managed);
    }

    fn succeeded(&mut self, managed: &ManagedCertificate) {
        self.unwritten = None;
        let now = unix_time(SystemTime::now());
        self.metrics.ordered(&self.name, now);
        info!(name = %self.name, days = (managed.expiry.at - now) / 86_400, file = %managed.expiry.certificate,
            "certificate ordered");
    }

    async fn failed(&mut self, stored: Option<&StoredState>, failed: OrderFailed) {
        let OrderFailed { fault, reason, retry_at } = failed;
        // Some of it is the authority's, and lines of the log are ours.
        let reason: String =
            reason.chars().take(LONGEST_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.metrics.failed(match fault {
            OrderFault::Refused => AcmeResult::Refused,
            OrderFault::Away => AcmeResult::Away,
            OrderFault::Own => AcmeResult::Own,
        });
        let before = stored.and_then(|stored| stored.failures.as_ref()).or(self.unwritten.as_ref());
        // Another fault begins anew: that the authority was away is no refusal.
        let count =
            before.filter(|before| before.fault == fault).map_or(1, |before| before.count.saturating_add(1));
        let (now, entropy) = (unix_time(SystemTime::now()), fastrand::u64(..));
        let retry_at = schedule::retry_at(fault, count, retry_at, entropy, now);
        let serves = match &self.known {
            Some(certificate) => {
                format!("the one at hand, for {} hours more", (certificate.expiry.at - now) / 3600)
            }
            None => "nothing: handshakes for it fail".to_owned(),
        };
        warn!(name = %self.name, fault = fault.as_str(), failures = count, retry_in = retry_at - now, %serves, %reason,
            "certificate not ordered");
        let failures = Failures { count, retry_at, fault, reason };
        let (name, record) = (self.name.clone(), failures.clone());
        let written = self.context.with_storage(move |storage| storage.put_failures(&name, &record)).await;
        self.unwritten = written.is_err().then_some(failures);
    }
}

fn validity(certificate: &ManagedCertificate) -> Validity {
    Validity { since: certificate.since, until: certificate.expiry.at }
}

/// What a plan's names have in the storage, by name; what cannot be read is left to keepers to tell of.
pub(crate) fn stored(plan: &Plan) -> HashMap<Name, ManagedCertificate> {
    let Some(acme) = &plan.acme else { return HashMap::new() };
    let storage = Storage::new(acme);
    let find = |name: &Name| Some((name.clone(), storage.certificate(name).ok().flatten()?));
    super::names(plan).into_iter().filter_map(find).collect()
}
