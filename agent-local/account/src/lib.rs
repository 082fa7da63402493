//! Who this laptop is to a hub: device key, tokens, trust, and the REST calls that need them.
