//! What can go wrong between the hub and its database, in the caller's terms.

/// Why a statement did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row is not there, or not in this organization: a caller cannot tell which.
    #[error("there is no such {noun}")]
    NotFound { noun: &'static str },
    /// A rule of the schema forbids it, almost always a name that is taken. Carries the constraint's name.
    #[error("it would break the rule `{constraint}`")]
    Conflict { constraint: String },
    /// A row that our own writes could not have left. Somebody else has written to the database.
    #[error("the stored {noun} is damaged: {what}")]
    Damaged { noun: &'static str, what: String },
    #[error(transparent)]
    Schema(#[from] crate::OtherSchema),
    #[error("the schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database did not answer as expected")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// Says that a stored value of `noun` cannot be read.
    pub(crate) fn damaged(noun: &'static str, what: impl ToString) -> Self {
        Self::Damaged { noun, what: what.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let constraint = error
            .as_database_error()
            .filter(|error| error.is_unique_violation())
            .and_then(|error| error.constraint())
            .map(ToOwned::to_owned);
        match constraint {
            Some(constraint) => Self::Conflict { constraint },
            None => Self::Database(error),
        }
    }
}
