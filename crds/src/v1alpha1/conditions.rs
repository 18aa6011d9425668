//! Conditions, which are API: listed in `docs/conditions.md`, never renamed.
//!
//! Each word stands once, with its meaning: the enum, its documentation and the tables of the
//! docs come from that one line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The standard condition of the Kubernetes API conventions.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// One of the types listed in the documentation of the kind.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// One CamelCase word for the cause.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// A sentence for people: the root cause and what to do.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed, as RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// Generation of the spec that this condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// An enum of words, each with its meaning, which is its documentation, too.
macro_rules! words {
    ($(#[$attribute:meta])* $name:ident { $($word:ident = $meaning:literal,)+ }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $(#[doc = $meaning] $word,)+
        }

        impl $name {
            /// Every one, in the order in which they are documented.
            pub const ALL: &'static [Self] = &[$(Self::$word),+];

            /// The word itself.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$word => stringify!($word),)+
                }
            }

            /// Its meaning, in sentences.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$word => $meaning,)+
                }
            }

            /// The one with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(self.name())
            }
        }
    };
}

pub(super) use words;

words! {
    /// Types of conditions.
    ConditionType {
        Ready = "The observed generation works: a worker answers, and a session with the host pings both ways. Sums up the others.",
        Reconciling = "The operator is bringing about the observed generation.",
        Stalled = "Nothing more happens until a person acts.",
        ArtifactReady = "The artifact is in the store under the digest in status.",
        Verified = "Signatures were checked.",
        ConfigValid = "Config and secrets of the observed generation were accepted by the plugin manifest's schema and by the worker, which has them.",
        Granted = "Every capability that the package requests is granted.",
        WorkerAvailable = "The worker of the applied pod template is initialised and answers `health`.",
        HostAttached = "A session with the host pings both ways.",
        EgressEnforced = "A pod tried to leave where no policy allows it, and could not.",
    }
}

impl ConditionType {
    /// What the statuses other than True say, and when the condition is absent.
    #[must_use]
    pub const fn statuses(self) -> &'static str {
        match self {
            Self::Ready => {
                "Always present. Unknown before the first reconcile, else False with the root cause."
            }
            Self::Reconciling => {
                "Abnormal when True: it says what is waited for. Absent when there is nothing to do."
            }
            Self::Stalled => "Abnormal when True: it says what a person must do. Absent otherwise.",
            Self::ArtifactReady => {
                "False while it is packed, or when that failed. Absent before the first reconcile."
            }
            Self::Verified => {
                "False with the cause where a policy is not met: the revision does not roll out, and what runs goes on. Unknown with reason `Skipped` while no policy requires it, which does not hold `Ready` back, and with `Verifying` while it is checked. Absent before the first reconcile."
            }
            Self::ConfigValid => {
                "False when one of them refuses or a source is missing, and with reason `Pending` where no worker came to serve that could be asked. Absent while no artifact is known."
            }
            Self::Granted => {
                "False when the package requests more than was granted. Absent while no artifact is known."
            }
            Self::WorkerAvailable => {
                "False with reason `Pending` while there is no pod, else with what the pod or the worker says. Absent before the first reconcile."
            }
            Self::HostAttached => {
                "False without such a session. Absent before the first reconcile."
            }
            Self::EgressEnforced => {
                "False where the network let it through, which does not hold `Ready` back: many cluster networks enforce no policy. Unknown until it was tried. Absent before the first reconcile."
            }
        }
    }
}
