//! The services nearest to what somebody wrote, for "did you mean".

use crate::{Namespace, ServiceName, ServiceRef};

/// More of them would be a list to read.
const MOST: usize = 3;

/// Returns the services nearest to what was wanted, the nearest first. A namespace that is not said fits each.
#[must_use]
pub fn similar<'s>(
    namespace: Option<&Namespace>,
    name: &ServiceName,
    services: impl IntoIterator<Item = &'s ServiceRef>,
) -> Vec<ServiceRef> {
    let distance = |known: &ServiceRef| {
        let of_name = near(name.as_str(), known.name.as_str())?;
        let Some(namespace) = namespace else { return Some(of_name) };
        match near(namespace.as_str(), known.namespace.as_str()) {
            Some(of_namespace) => Some(of_name + of_namespace),
            // In quite another namespace only the very same name can have been meant.
            None => (of_name == 0).then(|| name.as_str().len()),
        }
    };
    let mut near: Vec<_> =
        services.into_iter().filter_map(|known| Some((distance(known)?, known))).collect();
    near.sort();
    near.truncate(MOST);
    near.into_iter().map(|(_, service)| service.clone()).collect()
}

/// Returns by how many slips two names differ, if it is at most one in three letters of the shorter: of short names
/// everything would be near.
fn near(wanted: &str, known: &str) -> Option<usize> {
    let slips = strsim::osa_distance(wanted, known);
    (slips <= wanted.len().min(known.len()) / 3).then_some(slips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(names: &[&str]) -> Vec<ServiceRef> {
        names.iter().map(|name| name.parse().expect("a service")).collect()
    }

    fn near(wanted: &str, names: &[&str]) -> Vec<String> {
        let ServiceRef { namespace, name } = wanted.parse().expect("a service");
        let near = similar(Some(&namespace), &name, &services(names));
        near.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["shop/cart", "shop/catalog", "pay/ledger"];
        assert_eq!(near("shop/crat", &names), ["shop/cart"]);
        assert_eq!(near("shop/catalogue", &names), ["shop/catalog"]);
        assert_eq!(near("shpo/cart", &names), ["shop/cart"]);
        let anywhere = similar(None, &"leger".parse().expect("a name"), &services(&names));
        assert_eq!(anywhere, services(&["pay/ledger"]));
    }

    #[test]
    fn a_wrong_namespace_finds_the_same_name_and_the_nearest_namespace_first() {
        assert_eq!(near("prod/cart", &["shop/cart", "pay/ledger"]), ["shop/cart"]);
        let two = near("shpo/cart", &["pay/cart", "shop/cart"]);
        assert_eq!(two, ["shop/cart", "pay/cart"]);
    }

    #[test]
    fn nothing_similar_is_nothing() {
        let names = ["shop/cart", "shop/catalog", "db/pg"];
        for wanted in ["other/thing", "nowhere/nothing", "shop/db", "db/pa"] {
            assert_eq!(near(wanted, &names), [""; 0], "{wanted}");
        }
    }
}
