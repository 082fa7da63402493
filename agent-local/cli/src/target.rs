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
        if !text.contains('/') {
            return Err(format!(
                "`{text}` has no namespace: write `namespace/service`, for example `shop/cart`"
            ));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_service_says_how_one_is_written() {
        let target: Target = "shop/cart:80".parse().expect("valid");
        assert_eq!(
            (target.service.to_string().as_str(), target.port.map(Port::get)),
            ("shop/cart", Some(80))
        );
        for (text, said) in [
            ("cart", "has no namespace: write `namespace/service`"),
            ("shop/Cart", "`Cart` is not a service"),
            ("shop/cart:http", "`http` is not a port"),
        ] {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(said), "{error}");
        }
    }
}
