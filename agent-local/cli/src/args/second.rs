//! The second word of the verbs that have one: `fairlead teamspace use`, `fairlead consume list`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum TeamspaceVerb {
    /// List the teamspaces you may see
    List,
    /// Choose the teamspace that commands mean, and whose services have the cluster's names
    Use {
        /// Name of the teamspace
        name: String,
    },
    /// Accept another key of a teamspace, after comparing it with the one in the agent's log
    Trust {
        /// Name of the teamspace
        name: String,
        /// The key's thumbprint, `SHA256:…`
        thumbprint: fairlead_model::Thumbprint,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceAccountVerb {
    /// List the service accounts and their tokens
    List,
    /// Make a service account
    Create {
        /// Lower-case letters, digits and `-`
        name: String,
        /// What it may do: developer consumes and intercepts, viewer looks
        #[arg(long = "role", value_name = "ROLE", default_value = "developer")]
        roles: Vec<String>,
        /// Only in this teamspace (several times: in each of them); everywhere when none is named
        #[arg(short, long = "teamspace", value_name = "NAME")]
        teamspaces: Vec<String>,
    },
    /// Delete a service account; its tokens and everything that lives by them end
    Delete {
        /// Name of the service account
        name: String,
    },
    /// Make a token and print it
    Token {
        /// Name of the service account
        name: String,
        /// What it is for, which the list shows
        #[arg(long = "for", value_name = "PURPOSE")]
        purpose: String,
        /// How long it lives: 30 when it is not said, and at most 90
        #[arg(long, value_name = "DAYS")]
        days: Option<u16>,
    },
    /// Revoke a token; whatever signed in with it is out
    Revoke {
        /// Its id, as listed
        token: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ConsumeVerb {
    /// List what is reached, and where
    List,
    /// Reach nothing any more, or nothing of one teamspace
    Clear {
        /// Only this teamspace
        #[arg(short, long, value_name = "NAME")]
        teamspace: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum InterceptVerb {
    /// List the intercepts of this laptop
    List,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum DaemonVerb {
    /// Run it until Ctrl-C, and log to this terminal
    Run {
        /// What it does in any case
        #[arg(long)]
        foreground: bool,
    },
}
