//! The service that an intercept is about, as it is written on the command line.

use std::str::FromStr;

use fairlead_model::{InvalidName, InvalidPort, Port, ServiceRef};

/// `shop/cart` or `shop/cart:80`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) service: ServiceRef,
    pub(crate) port: Option<Port>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (service, port) = match text.split_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (text, None),
        };
        Ok(Self {
            service: service.parse().map_err(|error: InvalidName| error.to_string())?,
            port: port
                .map(str::parse)
                .transpose()
                .map_err(|error: InvalidPort| error.to_string())?,
        })
    }
}
