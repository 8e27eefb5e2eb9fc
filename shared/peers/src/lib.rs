//! What the services ask of each other, each a direct call in one process and HTTP between several: a query worker asks
//! the broker for what is not shipped ([`tail::Tail`]), the broker asks query workers for old records
//! ([`cold::ColdReader`]).

pub mod cold;
pub mod tail;
