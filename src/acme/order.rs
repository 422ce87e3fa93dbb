//! One order, from the account to the certificate (RFC 8555 section 7).

use super::challenge_store::{ChallengeStore, SPREADS_WITHIN};
use super::client::AcmeClient;
use super::schedule::OrderFault;
use super::storage::{Challenge, Storage, StorageError};
use super::{blocking, unix_time};
use crate::config::plan::{self, AcmeChallenge, Name};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier,
    NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tracing::{info, warn};

/// How long the authority may take to ask, and again to sign.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct OrderFailed {
    pub(super) fault: OrderFault,
    pub(super) reason: String,
    /// When the authority wants to be asked again.
    pub(super) retry_at: Option<i64>,
}

impl OrderFailed {
    pub(super) fn own(reason: impl ToString) -> Self {
        Self { fault: OrderFault::Own, reason: reason.to_string(), retry_at: None }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { fault: OrderFault::Refused, reason: reason.into(), retry_at: None }
    }
}

impl From<StorageError> for OrderFailed {
    fn from(error: StorageError) -> Self {
        Self::own(error)
    }
}

impl From<Error> for OrderFailed {
    fn from(error: Error) -> Self {
        let fault = match &error {
            Error::Api(problem) if is_refusal(problem) => OrderFault::Refused,
            Error::Crypto | Error::KeyRejected => OrderFault::Own,
            _ => OrderFault::Away,
        };
        let reason = match error {
            Error::Json(error) => format!("an answer that is not ACME: {error}"),
            error => error.to_string(),
        };
        Self { fault, reason, retry_at: None }
    }
}

/// What every order needs.
#[derive(Clone, Debug)]
pub(super) struct OrderContext {
    pub(super) acme: Arc<plan::AcmePlan>,
    pub(super) storage: Arc<Storage>,
    pub(super) store: Arc<ChallengeStore>,
    pub(super) client: AcmeClient,
    /// Of an external account.
    pub(super) hmac_key: Option<Arc<[u8]>>,
    /// Few look at the storage at once: each takes a thread, and there may be a thousand names.
    pub(super) disk: Arc<Semaphore>,
}

impl OrderContext {
    /// Gets a certificate for a name: its key, itself and what leads to its authority, as PEM.
    pub(super) async fn order(&self, name: &Name) -> Result<String, OrderFailed> {
        let ordered = self.order_by_account(name).await;
        ordered.map_err(|failed| OrderFailed { retry_at: self.client.retry_at(), ..failed })
    }

    async fn order_by_account(&self, name: &Name) -> Result<String, OrderFailed> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(name.to_string())];
        let new = NewOrder::new(&identifiers);
        let mut order = match account.new_order(&new).await {
            Err(Error::Api(problem)) if is(&problem, "accountDoesNotExist") => {
                let id = account.id().to_owned();
                warn!(account = id, "the authority does not know this account any more; making another");
                self.with_storage(move |storage| storage.set_account_aside(&id)).await?;
                self.account().await?.new_order(&new).await?
            }
            order => order?,
        };
        let result = self.authorize_and_finish(name, &mut order).await;
        let (challenge, store) = (name.to_string(), Arc::clone(&self.store));
        self.with_storage(move |storage| {
            storage.remove_challenge(&challenge);
            store.read(storage)
        })
        .await?;
        result
    }

    async fn authorize_and_finish(&self, name: &Name, order: &mut Order) -> Result<String, OrderFailed> {
        let patience = RetryPolicy::new().timeout(PATIENCE);
        self.prepare(name, order).await?;
        if order.state().status != OrderStatus::Ready {
            let polled = order.poll_ready(&patience).await;
            if is_refused(&polled) {
                return Err(self.reason(order).await);
            }
            polled?;
        }
        let (key, request) = key_and_request(name).map_err(OrderFailed::own)?;
        order.finalize_csr(&request).await?;
        let chain = order.poll_certificate(&patience).await?;
        Ok(format!("{key}{chain}"))
    }

    /// Has the challenges answered that the order needs, and tells the authority to ask.
    async fn prepare(&self, name: &Name, order: &mut Order) -> Result<(), OrderFailed> {
        let (kind, word) = match self.acme.challenge {
            AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
            AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                // From an order of before.
                AuthorizationStatus::Valid => continue,
                status => {
                    return Err(OrderFailed::refused(format!(
                        "the authorization is {status:?} from the start"
                    )));
                }
            }
            // It becomes a file's name, so it must be ours and no other.
            let asked = authorization.identifier().identifier;
            if !matches!(asked, Identifier::Dns(asked) if asked.eq_ignore_ascii_case(name)) {
                return Err(OrderFailed::refused(format!("asks for something else than {name}: {asked:?}")));
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                return Err(OrderFailed::refused(format!("does not offer {word} challenges")));
            };
            let answer = challenge.key_authorization();
            let digest = answer
                .digest()
                .as_ref()
                .try_into()
                .map_err(|_| OrderFailed::own("a digest of odd length"))?;
            let shown = Challenge {
                name: name.to_string(),
                token: challenge.token.clone(),
                key_authorization: answer.as_str().to_owned(),
                digest: (self.acme.challenge == AcmeChallenge::TlsAlpn01).then_some(digest),
            };
            let store = Arc::clone(&self.store);
            self.with_storage(move |storage| {
                storage.put_challenge(&shown, unix_time(SystemTime::now()))?;
                store.read(storage)
            })
            .await?;
            tokio::time::sleep(SPREADS_WITHIN).await;
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// What the authority has seen when it asked.
    async fn reason(&self, order: &mut Order) -> OrderFailed {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else { continue };
            if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return OrderFailed::refused(problem.to_string());
            }
        }
        OrderFailed::refused("the authority does not say why")
    }

    /// The account in the storage, or a new one.
    async fn account(&self) -> Result<Account, OrderFailed> {
        if let Some(account) = self.known_account().await? {
            return Ok(account);
        }
        // One node makes it; the others wait and read it.
        let _lock = loop {
            let now = unix_time(SystemTime::now());
            if let Some(lock) = self.with_storage(move |storage| storage.lock("account", now)).await? {
                break lock;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        if let Some(account) = self.known_account().await? {
            return Ok(account);
        }
        let contact: Vec<_> = self.acme.contact.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = self.acme.external_account.as_ref().zip(self.hmac_key.as_ref());
        let external = external.map(|(account, key)| ExternalAccountKey::new(account.key_id.clone(), key));
        let (account, credentials) = Account::builder_with_http(Box::new(self.client.clone()))
            .create(&new, self.acme.directory.clone(), external.as_ref())
            .await?;
        let credentials = serde_json::to_value(&credentials).map_err(OrderFailed::own)?;
        self.keep(credentials).await?;
        info!(directory = %self.acme.directory, account = account.id(), "ACME account made");
        Ok(account)
    }

    async fn known_account(&self) -> Result<Option<Account>, OrderFailed> {
        let Some(record) = self.with_storage(|storage| storage.account()).await? else { return Ok(None) };
        let credentials = record["credentials"].clone();
        let known: AccountCredentials = serde_json::from_value(credentials.clone()).map_err(|error| {
            OrderFailed::own(format!(
                "account.json holds no account: {error}; put back a copy, or remove it for a new account"
            ))
        })?;
        let account =
            Account::builder_with_http(Box::new(self.client.clone())).from_credentials(known).await?;
        if record["contact"] != json!(self.acme.contact) {
            let contact: Vec<_> = self.acme.contact.iter().map(String::as_str).collect();
            account.update_contacts(&contact).await?;
            self.keep(credentials).await?;
        }
        Ok(Some(account))
    }

    async fn keep(&self, credentials: Value) -> Result<(), OrderFailed> {
        let record = json!({ "contact": self.acme.contact, "credentials": credentials });
        self.with_storage(move |storage| storage.put_account(&record)).await
    }

    /// Does something with the storage where it holds nobody up.
    pub(super) async fn with_storage<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, OrderFailed> {
        let storage = Arc::clone(&self.storage);
        let _permit = self.disk.acquire().await.map_err(OrderFailed::own)?;
        blocking(move || act(&storage)).await.map_err(OrderFailed::own)?.map_err(OrderFailed::from)
    }
}

/// Whether the authority has decided against an order that was waited for.
fn is_refused(polled: &Result<OrderStatus, Error>) -> bool {
    match polled {
        Ok(status) => *status != OrderStatus::Ready,
        Err(Error::Api(problem)) => is_refusal(problem),
        Err(_) => false,
    }
}

/// Whether the authority means us. A server's own trouble is not for us to mend, and a nonce that it does not take is no
/// answer to what was asked (RFC 8555 section 6.5).
fn is_refusal(problem: &Problem) -> bool {
    problem.status.is_none_or(|status| status < 500) && !is(problem, "badNonce")
}

/// RFC 8555 section 6.7.
fn is(problem: &Problem, kind: &str) -> bool {
    problem.r#type.as_deref().and_then(|urn| urn.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// A new key, as PEM, and the request for a certificate for it. RFC 8555 section 7.4: the request names the host in
/// its extension; a subject is not needed.
fn key_and_request(name: &Name) -> Result<(String, Vec<u8>), rcgen::Error> {
    let mut parameters = CertificateParams::new([name.to_string()])?;
    parameters.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let request = parameters.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_authority_decides_is_a_refusal() {
        for (kind, status, is_refusal) in [
            ("unauthorized", Some(403), true),
            ("rateLimited", Some(429), true),
            ("connection", None, true),
            ("badNonce", Some(400), false),
            ("badNonce", None, false),
            ("serverInternal", Some(500), false),
            ("serverInternal", Some(503), false),
        ] {
            let problem = || Problem {
                r#type: Some(format!("urn:ietf:params:acme:error:{kind}")),
                detail: None,
                status,
                subproblems: Vec::new(),
            };
            assert_eq!(
                is_refused(&Err(Error::Api(problem()))),
                is_refusal,
                "{kind} {status:?}, while waiting"
            );
            let fault = if is_refusal { OrderFault::Refused } else { OrderFault::Away };
            assert_eq!(OrderFailed::from(Error::Api(problem())).fault, fault, "{kind} {status:?}");
        }
        assert!(is_refused(&Ok(OrderStatus::Invalid)) && !is_refused(&Ok(OrderStatus::Ready)));
        assert!(!is_refused(&Err(Error::Timeout(None))));
    }
}
