//! Opening a zenoh session that talks to the named endpoints and to nobody else.

use zenoh::{Config, Session, Wait};

/// Why a link cannot be opened or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The session's name cannot stand in a key.
    #[error("session name `{0}`: use letters, digits, `-` and `_` only")]
    SessionName(String),
    /// An endpoint cannot be understood, listened on, or the like.
    #[error("zenoh with endpoints {endpoints:?}: {reason}; write them as tcp/<host>:<port>")]
    Open {
        /// The endpoints as given.
        endpoints: Vec<String>,
        /// Zenoh's words.
        reason: String,
    },
    /// Zenoh refused a declaration or a message.
    #[error("zenoh key `{key}`: {reason}")]
    Zenoh {
        /// The key.
        key: String,
        /// Zenoh's words.
        reason: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start the link's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Nobody answered in time.
    #[error("no answer for `{key}` within {waited_s} s; is the learner running and reachable?")]
    NoAnswer {
        /// The key that was asked for.
        key: String,
        /// How long.
        waited_s: f64,
    },
    /// An answer was not a message.
    #[error("answer for `{key}`: {reason}")]
    Malformed {
        /// The key that was asked for.
        key: String,
        /// What is wrong.
        reason: hilt_protocol::wire::WireError,
    },
}

impl LinkError {
    pub(crate) fn zenoh(key: &str) -> impl FnOnce(zenoh::Error) -> Self {
        move |e| Self::Zenoh {
            key: key.to_owned(),
            reason: e.to_string(),
        }
    }
}

/// Which end of the link a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Connects, and goes on trying in the background for as long as it lives.
    Actor,
    /// Listens.
    Learner,
}

/// Opens a session; for an actor this does not wait for the learner.
pub(crate) fn open(end: End, name: &str, endpoints: &[String]) -> Result<Session, LinkError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(LinkError::SessionName(name.to_owned()));
    }
    let failed = |e: zenoh::Error| LinkError::Open {
        endpoints: endpoints.to_vec(),
        reason: e.to_string(),
    };
    let list = format!("{endpoints:?}");
    let (connect, listen) = match end {
        End::Actor => (list.as_str(), "[]"),
        End::Learner => ("[]", list.as_str()),
    };
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "\"peer\""),
        ("connect/endpoints", connect),
        ("listen/endpoints", listen),
        // Neither looking around nor being found: the endpoints say it all.
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        // For ever, and in the background (0 would mean: once).
        ("connect/timeout_ms", "-1"),
        ("connect/exit_on_failure", "false"),
        ("connect/retry", RETRY),
        // A pulled cable is noticed after this long; a killed process at once.
        ("transport/link/tx/lease", "5000"),
        // An entry with two images is several fragments: room for more than two of them.
        ("transport/link/tx/queue/size/data", "16"),
        ("transport/shared_memory/enabled", "false"),
    ] {
        config.insert_json5(key, value).map_err(failed)?;
    }
    zenoh::open(config).wait().map_err(failed)
}

const RETRY: &str = "{ period_init_ms: 100, period_max_ms: 1000, period_increase_factor: 2 }";
