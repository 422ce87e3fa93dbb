//! How much one client may have: rates, requests at once, and bans. All in tables of a fixed size that no flood of clients
//! makes larger, by atomics alone.

mod bans;
mod concurrency;
mod debtors;
mod key;
mod limiter;
mod rate;
mod slots;
mod sole_client;

pub use bans::{Ban, Bans};
pub use concurrency::{ConcurrencyPermit, ConcurrencyTable};
pub use debtors::{Debtor, Debtors};
pub use key::{ClientPrefix, KeyHasher, LimitSecret};
pub use limiter::{Limiter, TarpitPermit};
pub use rate::{Rate, RateTable, RateVerdict, seconds_up};
pub use sole_client::SoleClient;
