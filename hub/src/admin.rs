//! What only the operator can do, on the hub's host: migrate, make one-time links, look who is there.
//!
//! Whoever can run this can read the database anyway. It needs no master key, because it opens no sealed value.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use fairlead_model::{Token, TokenKind, UserId};
use hub_store::{
    Bearer, LinkPurpose, Member, Organization, OtherSchema, Store, StoreError, audit::Chain,
};
use secrecy::ExposeSecret;
use url::Url;

use crate::{
    clock::{Clock, SystemClock},
    config::{DatabaseConfig, DatabaseFlags},
    login, output, tasks,
};

const REASON: &str = "admin: the operator on the hub's host";

#[derive(Args, Debug)]
pub struct AdminFlags {
    #[command(flatten)]
    database: DatabaseFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print a one-time link that founds an organization
    SetupUrl,
    /// Print a one-time link that signs in an owner, without any sign-in provider
    Recover {
        /// Address of the owner; who is none yet becomes one
        #[arg(long)]
        email: String,
        /// Short name of the organization, when there are several
        #[arg(long, visible_alias = "org", value_name = "SLUG")]
        organization: Option<String>,
    },
    /// Organizations of this hub
    #[command(subcommand)]
    Organizations(Organizations),
    /// People of an organization
    #[command(subcommand)]
    Users(Users),
    /// Policies of an organization
    #[command(subcommand)]
    Policies(Policies),
    /// Check that nobody has changed the audit log
    VerifyAudit {
        /// Short name of the organization, when there are several
        #[arg(long, visible_alias = "org", value_name = "SLUG")]
        organization: Option<String>,
    },
}

#[derive(Subcommand, Debug)]
enum Organizations {
    /// List them
    List,
}

#[derive(Subcommand, Debug)]
enum Policies {
    /// Take the organization's own policies out of force; the built-in roles keep theirs
    Reset(OfOrganization),
}

#[derive(Subcommand, Debug)]
enum Users {
    /// List them with their roles
    List(OfOrganization),
    /// Shut somebody out at once
    Disable(OneUser),
    /// Let somebody in again
    Enable(OneUser),
}

#[derive(Args, Debug)]
struct OfOrganization {
    /// Short name of the organization, when there are several
    #[arg(long, visible_alias = "org", value_name = "SLUG")]
    organization: Option<String>,
}

#[derive(Args, Debug)]
struct OneUser {
    /// Address of the user, or the id where several have the same address
    user: String,
    #[command(flatten)]
    of: OfOrganization,
}

/// Brings the schema up to date. A migration may change what a hub that serves needs, so whoever migrates claims the
/// database as a hub does.
pub async fn migrate(flags: DatabaseFlags) -> anyhow::Result<()> {
    let store = connect(&DatabaseConfig::load(flags)?).await?;
    match store.must_have_our_schema().await {
        Err(StoreError::Schema(OtherSchema::None | OtherSchema::Older { .. })) => {
            let claim = tasks::claim(&store, "fairlead-hub migrate").await;
            let _claim = claim.context("the schema stays as it is")?;
            store.migrate().await?;
        }
        compared => compared?,
    }
    output::say("The schema is up to date.\n")
}

pub async fn run(flags: AdminFlags) -> anyhow::Result<()> {
    let config = DatabaseConfig::load(flags.database)?;
    let store = connect(&config).await?;
    store.must_have_our_schema().await?;
    match flags.command {
        Command::SetupUrl => setup_url(&config, &store).await,
        Command::Recover { email, organization } => {
            let url = config.public_url()?;
            let link = recover_link(&store, &url, &email, organization.as_deref()).await?;
            output::say(&format!("{link}\n"))
        }
        Command::Organizations(Organizations::List) => list_organizations(&store).await,
        Command::Users(Users::List(of)) => list_users(&store, of.organization.as_deref()).await,
        Command::Users(Users::Disable(user)) => set_disabled(&store, user, true).await,
        Command::Users(Users::Enable(user)) => set_disabled(&store, user, false).await,
        Command::Policies(Policies::Reset(of)) => {
            reset_policies(&store, of.organization.as_deref()).await
        }
        Command::VerifyAudit { organization } => {
            verify_audit(&store, organization.as_deref()).await
        }
    }
}

async fn setup_url(config: &DatabaseConfig, store: &Store) -> anyhow::Result<()> {
    output::say(&format!("{}\n", setup_link(store, &config.public_url()?).await?))
}

/// Returns a one-time link that founds an organization.
pub async fn setup_link(store: &Store, public_url: &Url) -> anyhow::Result<String> {
    link(public_url, store, "/setup", LinkPurpose::Setup).await
}

/// Makes somebody an owner and returns the one-time link that signs them in.
pub async fn recover_link(
    store: &Store,
    public_url: &Url,
    email: &str,
    organization: Option<&str>,
) -> anyhow::Result<String> {
    let email = email.trim().to_lowercase();
    if login::claims::domain(&email).is_none() {
        bail!("`{email}` is not an e-mail address");
    }
    let organization = choose(store, organization).await?;
    let now = SystemClock.now();
    let owner = store.unscoped(REASON).ensure_owner(organization.id, &email, now).await?;
    link(public_url, store, "/login/recover", LinkPurpose::Recover(owner)).await
}

async fn list_organizations(store: &Store) -> anyhow::Result<()> {
    let mut table = format!("{:<20} {:<30} {}\n", "SLUG", "NAME", "ID");
    for organization in store.unscoped(REASON).organizations().await? {
        let Organization { slug, name, id, .. } = organization;
        table.push_str(&format!("{slug:<20} {name:<30} {id}\n"));
    }
    output::say(&table)
}

async fn list_users(store: &Store, organization: Option<&str>) -> anyhow::Result<()> {
    let organization = choose(store, organization).await?;
    let mut table = format!("{:<32} {:<24} {:<20} {}\n", "EMAIL", "NAME", "ROLES", "STATE");
    for member in store.scoped(organization.id).members().await? {
        let roles: Vec<_> = member.effective_roles.iter().map(ToString::to_string).collect();
        let state = if member.disabled { "disabled" } else { "active" };
        let roles = if roles.is_empty() { "-".to_owned() } else { roles.join(",") };
        table.push_str(&format!("{:<32} {:<24} {roles:<20} {state}\n", member.email, member.name));
    }
    output::say(&table)
}

async fn set_disabled(store: &Store, asked: OneUser, disabled: bool) -> anyhow::Result<()> {
    let organization = choose(store, asked.of.organization.as_deref()).await?;
    let members = store.scoped(organization.id).members().await?;
    let user = the_one(&members, &asked.user)?;
    let bearer = Bearer { org: organization.id, user: user.id };
    store.unscoped(REASON).set_user_disabled(bearer, disabled, SystemClock.now()).await?;
    let state = if disabled { "shut out" } else { "let in again" };
    output::say(&format!("{} is {state}.\n", user.email))
}

async fn reset_policies(store: &Store, organization: Option<&str>) -> anyhow::Result<()> {
    let organization = choose(store, organization).await?;
    let now = SystemClock.now();
    let version = store.unscoped(REASON).reset_policies(organization.id, now).await?;
    output::say(&format!(
        "Version {version} of the policies of {} is in force: the built-in ones alone. Its owners and admins \
         can publish others.\n",
        organization.slug
    ))
}

async fn verify_audit(store: &Store, organization: Option<&str>) -> anyhow::Result<()> {
    let organization = choose(store, organization).await?;
    match store.scoped(organization.id).verify_audit().await? {
        Chain::Intact { rows, .. } => output::say(&format!(
            "The audit log of {} is intact: {rows} rows.\n",
            organization.slug
        )),
        Chain::Broken { at } => {
            bail!(
                "the audit log of {} was changed: row {at} does not follow from those before it",
                organization.slug
            )
        }
    }
}

async fn connect(config: &DatabaseConfig) -> anyhow::Result<Store> {
    Store::connect(config.database_url.expose_secret())
        .await
        .context("could not reach the database; is it running, and is the URL right?")
}

async fn link(
    public_url: &Url,
    store: &Store,
    path: &str,
    purpose: LinkPurpose,
) -> anyhow::Result<String> {
    let mut url = public_url.join(path)?;
    let token = Token::new(TokenKind::Setup, rand::random());
    store.unscoped(REASON).keep_setup_link(&token.hash(), purpose, SystemClock.now()).await?;
    url.query_pairs_mut().append_pair("token", &token.expose());
    Ok(url.into())
}

async fn choose(store: &Store, slug: Option<&str>) -> anyhow::Result<Organization> {
    let mut all = store.unscoped(REASON).organizations().await?;
    match slug {
        Some(slug) => {
            all.into_iter().find(|organization| organization.slug == slug).with_context(|| {
                format!("there is no organization `{slug}` (fairlead-hub admin organizations list)")
            })
        }
        None if all.len() == 1 => Ok(all.remove(0)),
        None if all.is_empty() => {
            bail!("there is no organization yet: fairlead-hub admin setup-url")
        }
        None => bail!("there are several organizations: choose one with --organization"),
    }
}

/// Finds a member by their id, or by an address that only one of them has.
fn the_one<'m>(members: &'m [Member], asked: &str) -> anyhow::Result<&'m Member> {
    let asked = asked.trim().to_lowercase();
    if let Ok(id) = asked.parse::<UserId>() {
        let found = members.iter().find(|member| member.id == id);
        return found.with_context(|| format!("nobody here has the id {id}"));
    }
    let found: Vec<_> = members.iter().filter(|member| member.email == asked).collect();
    match found[..] {
        [] => bail!("nobody here has the address {asked}"),
        [one] => Ok(one),
        _ => {
            let lines = found.iter().map(|member| {
                let seen = member.last_signed_in_at.map_or_else(
                    || "never signed in".to_owned(),
                    |at| format!("signed in last {at}"),
                );
                let state = if member.disabled { "disabled" } else { "active" };
                format!("\n  {}  {} ({state}, {seen})", member.id, member.name)
            });
            bail!(
                "several people have the address {asked}; say which by their id:{}",
                lines.collect::<String>()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(email: &str) -> Member {
        Member {
            id: UserId::generate(),
            email: email.to_owned(),
            name: "Ada".to_owned(),
            roles: vec![],
            effective_roles: vec![],
            groups: vec![],
            last_signed_in_at: None,
            disabled: false,
        }
    }

    #[test]
    fn an_address_that_several_have_names_nobody() {
        let members = ["ada@a.test", "ada@a.test", "bob@a.test"].map(member);
        assert_eq!(the_one(&members, "Bob@a.test").expect("one").id, members[2].id);
        let error = the_one(&members, "ada@a.test").expect_err("two").to_string();
        assert!(members[..2].iter().all(|m| error.contains(&m.id.to_string())), "{error}");
        let by_id = the_one(&members, &members[1].id.to_string()).expect("one");
        assert_eq!(by_id.id, members[1].id);
        assert!(the_one(&members, "eve@a.test").is_err());
    }
}
