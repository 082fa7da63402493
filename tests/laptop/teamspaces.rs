//! Several teamspaces at once: one has the cluster's names, the others names of their own.

use crate::{
    hub::Hub,
    machine::{ADA, Machine, PREVIEW, TEAMSPACE},
};

const CLUSTER: &str = "cart.shop.svc.cluster.local";

#[test]
fn two_teamspaces_are_consumed_side_by_side_and_the_chosen_one_has_the_clusters_names() {
    let machine = Machine::with_supervisor();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    hub.has_preview();
    let both = [(TEAMSPACE, "staging"), (PREVIEW, "preview")];
    machine.has_consumed_of(ADA, &both, &["shop/cart"], false);
    machine.starts(ADA);
    let address_of = |name: &str| {
        let hosts = machine.hosts();
        let line = hosts.lines().find(|line| line.split(' ').any(|word| word == name))?;
        line.split(' ').next().map(str::to_owned)
    };
    let (first, second) = (address_of(CLUSTER), address_of("cart.shop.preview.fairlead"));
    assert!(first.is_some() && second.is_some() && first != second, "{}", machine.hosts());
    let listed = machine.fairlead(ADA, &["list"]).ok().expect("lists").stdout;
    assert!(listed.contains("staging (home)"), "{listed}");

    machine.fairlead(ADA, &["teamspace", "use", "preview"]).ok().expect("chosen");
    assert_eq!(address_of(CLUSTER), second, "the names have moved, the addresses have not");
    assert_eq!(address_of("cart.shop.staging.fairlead"), first);
    machine.is_proven(ADA);
    let listed = machine.fairlead(ADA, &["consume", "list"]).ok().expect("lists").stdout;
    assert!(listed.contains("cart.shop.staging.fairlead"), "{listed}");

    machine.fairlead(ADA, &["consume", "clear", "-t", "staging"]).ok().expect("cleared");
    assert_eq!(address_of("cart.shop.staging.fairlead"), None);
    assert_eq!(address_of(CLUSTER), second, "the other one is left alone");
    machine.fairlead(ADA, &["stop"]).ok().expect("stops");
    machine.leaves_nothing();
}
