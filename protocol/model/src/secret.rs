//! Bearer secrets: 256 random bits behind a prefix that says what they open.
//!
//! The prefix lets a secret scanner, and a person, tell a leaked join token from a leaked session. Whoever stores
//! one stores [`Token::hash`] only.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const SECRET_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// Enrols one cluster agent into one teamspace.
    Join,
    /// The one-time setup or recover link of the hub's operator.
    Setup,
    /// A browser's session cookie.
    WebSession,
    /// OAuth access token of the command line.
    Access,
    /// OAuth refresh token of the command line.
    Refresh,
    /// OAuth authorization code.
    Code,
    /// OAuth device code, of a machine without a browser.
    Device,
    /// API token of a service account.
    Api,
}

impl TokenKind {
    const ALL: [Self; 8] = [
        Self::Join,
        Self::Setup,
        Self::WebSession,
        Self::Access,
        Self::Refresh,
        Self::Code,
        Self::Device,
        Self::Api,
    ];

    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "flj_",
            Self::Setup => "fls_",
            Self::WebSession => "flw_",
            Self::Access => "fla_",
            Self::Refresh => "flr_",
            Self::Code => "flc_",
            Self::Device => "fld_",
            Self::Api => "flt_",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("not a Fairlead token (they begin with `flj_`, `fla_`, …)")]
    Malformed,
    #[error("this is a token of another kind: expected one that begins with `{expected}`")]
    OtherKind { expected: &'static str },
}

/// A secret as its bearer holds it. Its text is shown only by [`Token::expose`].
#[derive(Clone)]
pub struct Token {
    kind: TokenKind,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// Makes a token from 256 random bits, which the caller draws.
    #[must_use]
    pub const fn new(kind: TokenKind, secret: [u8; SECRET_BYTES]) -> Self {
        Self { kind, secret }
    }

    #[must_use]
    pub const fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Returns the text a bearer presents. Never log it.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}{}", self.kind.prefix(), URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// Returns what is stored in place of the token: SHA-256 over its random bits.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// Reads a token that must be of `kind`.
    pub fn parse_as(kind: TokenKind, text: &str) -> Result<Self, InvalidToken> {
        let token: Self = text.trim().parse()?;
        if token.kind == kind {
            Ok(token)
        } else {
            Err(InvalidToken::OtherKind { expected: kind.prefix() })
        }
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let kind = TokenKind::ALL
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))
            .ok_or(InvalidToken::Malformed)?;
        let secret = URL_SAFE_NO_PAD
            .decode(&text[kind.prefix().len()..])
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(InvalidToken::Malformed)?;
        Ok(Self { kind, secret })
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && bool::from(self.secret.ct_eq(&other.secret))
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.kind.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_exposed() {
        let token = Token::new(TokenKind::Join, [7; 32]);
        assert_eq!(Token::parse_as(TokenKind::Join, &token.expose()), Ok(token));
    }

    #[test]
    fn a_token_of_another_kind_is_told_apart() {
        let text = Token::new(TokenKind::Access, [7; 32]).expose();
        assert_eq!(
            Token::parse_as(TokenKind::Join, &text),
            Err(InvalidToken::OtherKind { expected: "flj_" })
        );
    }

    #[test]
    fn debug_hides_the_secret() {
        let token = Token::new(TokenKind::Refresh, [7; 32]);
        assert_eq!(format!("{token:?}"), "flr_…");
    }
}
