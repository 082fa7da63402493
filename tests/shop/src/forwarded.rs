//! The headers that belong to the journey and not to the hop: passed on with every call, unread.

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;

/// W3C baggage and trace context.
const NAMES: [HeaderName; 3] = [
    HeaderName::from_static("baggage"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// The journey's headers of one request. A header may come several times, and keeps its order.
#[derive(Debug, Clone, Default)]
pub struct Forwarded(Vec<(HeaderName, HeaderValue)>);

impl Forwarded {
    /// Picks them out of a request's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut picked = Vec::new();
        for name in NAMES {
            let values = headers.get_all(&name).iter();
            picked.extend(values.map(|value| (name.clone(), value.clone())));
        }
        Forwarded(picked)
    }

    /// Adds them to the headers of a call.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        headers.extend(self.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// Returns them as the metadata of a gRPC call.
    pub fn metadata(&self) -> MetadataMap {
        let mut headers = HeaderMap::new();
        self.add_to(&mut headers);
        MetadataMap::from_headers(headers)
    }

    /// Returns the baggage as it is shown in an answer: all its headers as one list.
    pub fn baggage(&self) -> Option<String> {
        let values: Vec<_> = self
            .0
            .iter()
            .filter(|(name, _)| name == "baggage")
            .map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journey_is_passed_on_and_the_hop_is_not() {
        let mut arrived = HeaderMap::new();
        arrived.append("baggage", HeaderValue::from_static("user=ada"));
        arrived.append("baggage", HeaderValue::from_static("plan=pro"));
        arrived.insert("traceparent", HeaderValue::from_static("00-1-2-01"));
        arrived.insert("authorization", HeaderValue::from_static("Bearer x"));
        let forwarded = Forwarded::of(&arrived);

        let mut sent = HeaderMap::new();
        forwarded.add_to(&mut sent);
        assert_eq!(sent.len(), 3);
        assert!(!sent.contains_key("authorization"));
        assert_eq!(forwarded.baggage().as_deref(), Some("user=ada,plan=pro"));
    }
}
