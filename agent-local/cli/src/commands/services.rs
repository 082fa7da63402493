//! `fairlead services`: the catalogue, and what the caller may do with each service.

use fairlead_model::Namespace;
use laptop_account::ServiceView;
use serde::Serialize;

use super::{Context, teamspace};
use crate::{args::OfTeamspace, errors::CliError, output::Shown, table::table};

#[derive(Serialize)]
#[serde(transparent)]
struct Services(Vec<ServiceView>);

impl Shown for Services {
    fn to_text(&self) -> String {
        let rows = self.0.iter().map(|service| {
            [
                format!("{}/{}", service.namespace, service.name),
                service.kind.clone(),
                ports(service),
                service.ready_endpoints.to_string(),
                service.workload.clone().unwrap_or_default(),
                if service.may.consume { "yes" } else { "no" }.to_owned(),
                intercept(service),
            ]
        });
        let headings = ["SERVICE", "TYPE", "PORTS", "READY", "WORKLOAD", "CONSUME", "INTERCEPT"];
        let mut text = table(headings, rows, "No services here, or none that you may see.");
        for why in self.0.iter().filter_map(|service| service.intercept_refusal.as_ref()) {
            text.push_str(&format!("\n{why}\n"));
        }
        text
    }
}

fn ports(service: &ServiceView) -> String {
    let port = |p: &laptop_account::ServicePortView| match p.protocol.as_deref() {
        Some("TCP") | None => p.port.to_string(),
        // As `fairlead consume` writes it.
        Some(protocol) => format!("{}/{}", p.port, protocol.to_lowercase()),
    };
    service.ports.iter().map(port).collect::<Vec<_>>().join(",")
}

fn intercept(service: &ServiceView) -> String {
    match service.intercepts.first() {
        Some(held) => format!("{} ({})", held.email, held.phase),
        None if service.may.intercept && service.intercept_refusal.is_none() => "yes".to_owned(),
        None => "no".to_owned(),
    }
}

pub(super) async fn run(
    context: &Context<'_>,
    namespace: Option<Namespace>,
    of: OfTeamspace,
) -> Result<(), CliError> {
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let mut services = hub.services(teamspace.id).await?;
    services.retain(|service| namespace.as_ref().is_none_or(|only| *only == service.namespace));
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    context.output.show(&Services(services))
}
