//! Who this laptop is to a hub: device key, tokens, trust, and the REST calls that need them.
//!
//! The command and the daemon share one folder per hub and take turns by a file lock; neither keeps a token in
//! memory that the other may have replaced.

mod account;
mod api;
mod device;
mod device_login;
mod error;
mod files;
mod http;
mod hub_url;
mod login;
#[cfg(test)]
mod scripted;
mod token_login;
mod tokens;
mod trust;
mod views;

pub use account::{Account, Accounts, PinChanged, Pins, Profile, SelectedTeamspace};
pub use api::{Greeting, Hub};
pub use device::Device;
pub use device_login::DeviceLogin;
pub use error::{AccountError, Refusal, Untrusted};
pub use hub_url::{HubUrl, InvalidHubUrl};
pub use login::{LoginAttempt, SignedIn};
pub use token_login::sign_in_with_token;
pub use views::{
    ApiTokenMade, ApiTokenView, GrantedService, InterceptView, Me, Organization, RefusedService,
    ServiceAccountView, ServicePortView, ServiceView, SessionBegun, SessionView, TeamspaceView,
    UnmatchedPattern, UserView,
};
