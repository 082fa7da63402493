//! The main job as it is shown to people: each line is a command that really runs, and says whether it held.
//!
//! The demo prints it, the cluster suite asserts it. Nothing here decides what is true: each step looks.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use fairlead_lab::Counters;

use crate::{
    TEAMSPACE, World,
    patience::within,
    person::Person,
    residue::Residue,
    shop::{OwnProcess, answered_by},
    witness::Witness,
};

const LAPTOP_PORT: u16 = 3000;
/// The shop's frontend keeps its connections for five seconds; after that and kube-proxy's second it must be there.
const MOVED_WITHIN: Duration = Duration::from_secs(15);
/// The policy that would have let grace do it, in the words of the refusal.
const ALLOWS_IT: &str = "`developers-intercept` allows it to role developer";
/// Requests until two replicas of two must have answered: the chance of missing one is 2^-19.
const ENOUGH_REQUESTS: usize = 20;

/// Plays the whole show and returns an error at the first line that does not hold.
pub fn show(world: &World, out: &mut impl Write) -> anyhow::Result<()> {
    let before = Residue::of(world.lab())?;
    let passed_before = world.lab().counters()?;
    let witness = Witness::begins(world.lab())?;
    let ada = world.ada();
    let mut stage = Stage { out };

    stage.title("Ada signs in; nobody gives her a kubeconfig")?;
    stage.line("fairlead login https://hub.fairlead.test:8443", || ada.signs_in())?;
    stage.runs(&ada, &["whoami"])?;
    stage.runs(&ada, &["start"])?;
    stage.runs(&ada, &["teamspace", "use", TEAMSPACE])?;

    stage.title("She consumes the shop: its services answer by their in-cluster names")?;
    stage.runs(&ada, &["services", "shop"])?;
    stage.runs(&ada, &["consume", "shop/*"])?;
    stage.answers_from_different_pods(&ada)?;

    stage.title("She intercepts the cart: the shop's own frontend now asks her laptop")?;
    let own = stage.starts_her_own_cart(&ada)?;
    let pooled = stage.the_frontend_holds_a_connection(&ada)?;
    stage.runs(&ada, &["intercept", "shop/cart", "3000"])?;
    stage.the_frontend_asks_the_laptop(&ada, &pooled)?;
    stage.runs(&ada, &["list"])?;

    stage.title("Grace may look, and nothing else")?;
    stage.grace_is_refused(world)?;

    stage.title("Ada leaves, and everything is as it was")?;
    stage.runs(&ada, &["leave", "shop/cart"])?;
    stage.the_pods_answer_again(&ada)?;
    stage.runs(&ada, &["stop"])?;
    drop(own);
    stage.nothing_is_left(world, &before, &witness)?;
    stage.everybody_dialled_out(world, passed_before)
}

/// A connection of the shop's frontend to a cart, seen in two answers: one pod, and its end of the connection.
#[derive(PartialEq, Eq)]
struct Pooled {
    frontend: String,
    over: String,
}

struct Stage<'o, W> {
    out: &'o mut W,
}

impl<W: Write> Stage<'_, W> {
    fn title(&mut self, title: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "\n# {title}")?)
    }

    /// Shows a command, does what it stands for, and says how it went.
    fn line<T>(
        &mut self,
        command: &str,
        does: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        writeln!(self.out, "$ {command}")?;
        does()
    }

    /// Runs `fairlead` and shows what it says.
    fn runs(&mut self, person: &Person<'_>, words: &[&str]) -> anyhow::Result<()> {
        let shown = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let said = self.line(&format!("fairlead {shown}"), || person.fairlead(words))?.ok()?;
        write!(self.out, "{}{}", said.stderr, said.stdout)?;
        Ok(())
    }

    fn answers_from_different_pods(&mut self, ada: &Person<'_>) -> anyhow::Result<()> {
        let url = "http://frontend.shop";
        let pods = self.line(&format!("curl {url}    # {ENOUGH_REQUESTS} times"), || {
            (0..ENOUGH_REQUESTS)
                .map(|_| ada.is_answered_by(url))
                .collect::<anyhow::Result<BTreeSet<_>>>()
        })?;
        for pod in &pods {
            writeln!(self.out, "answered by {pod}")?;
        }
        ensure!(pods.len() >= 2, "one pod alone answered {ENOUGH_REQUESTS} requests");
        Ok(())
    }

    fn starts_her_own_cart(&mut self, ada: &Person<'_>) -> anyhow::Result<OwnProcess> {
        self.line(
            &format!("shop cart --listen 127.0.0.1:{LAPTOP_PORT} --name ada-laptop &"),
            || ada.runs("cart", LAPTOP_PORT),
        )
    }

    /// Waits for a fresh keep-alive connection, so that the intercept begins while it has most of its life ahead.
    fn the_frontend_holds_a_connection(&mut self, ada: &Person<'_>) -> anyhow::Result<Pooled> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let looking = "curl http://frontend.shop    # until its pool to the cart is fresh";
        let (pooled, _) = self.line(looking, || {
            within(MOVED_WITHIN, "the frontend uses a fresh connection to the cart twice", || {
                let CartAsked { frontend, over, .. } = cart_behind_the_frontend(ada)?;
                let known = seen.insert(frontend.clone(), over.clone());
                let is_fresh = known.is_some_and(|known| known != over);
                ensure!(is_fresh, "{frontend} asks over {over}");
                let again = cart_asked_by(ada, &frontend)?;
                ensure!(again.over == over, "{frontend} does not keep its connection");
                Ok(Pooled { frontend, over })
            })
        })?;
        writeln!(
            self.out,
            "{} keeps a connection to a cart open (its port {})",
            pooled.frontend,
            port_of(&pooled.over)
        )?;
        Ok(pooled)
    }

    fn the_frontend_asks_the_laptop(
        &mut self,
        ada: &Person<'_>,
        pooled: &Pooled,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (asked, _) =
            self.line("curl http://frontend.shop    # until its cart is ada-laptop", || {
                within(MOVED_WITHIN, "the frontend's request arrives at the laptop", || {
                    let asked = cart_asked_by(ada, &pooled.frontend)?;
                    ensure!(asked.cart == "ada-laptop", "the cart is {}", asked.cart);
                    Ok(asked)
                })
            })?;
        let moved_s = begun.elapsed().as_secs_f64();
        ensure!(asked.over != pooled.over, "a connection to a pod cannot lead to the laptop");
        writeln!(
            self.out,
            "the frontend's pooled connection moved after {moved_s:.1} s: its cart is ada-laptop"
        )?;
        Ok(())
    }

    fn grace_is_refused(&mut self, world: &World) -> anyhow::Result<()> {
        let grace = world.grace();
        self.line("fairlead login https://hub.fairlead.test:8443    # as grace", || {
            grace.signs_in()
        })?;
        grace.fairlead(&["start"])?.ok()?;
        grace.fairlead(&["teamspace", "use", TEAMSPACE])?.ok()?;
        let words = ["intercept", "shop/cart", "3000"];
        let said = self
            .line("fairlead intercept shop/cart 3000    # as grace", || grace.fairlead(&words))?;
        write!(self.out, "{}", said.stderr)?;
        ensure!(said.code == Some(30), "grace should be denied (exit code 30)\n{said}");
        ensure!(said.stderr.contains(ALLOWS_IT), "the refusal names no policy\n{said}");
        grace.fairlead(&["stop"])?.ok()?;
        Ok(())
    }

    fn the_pods_answer_again(&mut self, ada: &Person<'_>) -> anyhow::Result<()> {
        let (pod, _) =
            self.line("curl http://frontend.shop    # until its cart is a pod", || {
                within(MOVED_WITHIN, "the frontend asks a pod again", || {
                    let CartAsked { cart, .. } = cart_behind_the_frontend(ada)?;
                    ensure!(cart != "ada-laptop", "the cart is {cart}");
                    Ok(cart)
                })
            })?;
        writeln!(self.out, "the cart is {pod} again")?;
        Ok(())
    }

    fn nothing_is_left(
        &mut self,
        world: &World,
        before: &Residue,
        witness: &Witness,
    ) -> anyhow::Result<()> {
        within(MOVED_WITHIN, "cluster and laptop are what they were", || {
            Residue::of(world.lab())?.is_the_same_as(before)
        })?;
        witness.saw_no_change()?;
        let whose = if world.lab().cluster().is_shared() { " of the shop" } else { "" };
        writeln!(
            self.out,
            "Services, EndpointSlices{whose}, nftables, mounts, links and /etc/hosts: the same as before"
        )?;
        writeln!(self.out, "no pod of the shop was restarted or changed")?;
        Ok(())
    }

    /// The fence around the lab's hosts has counted: what it would have dropped, nobody tried.
    fn everybody_dialled_out(&mut self, world: &World, before: Counters) -> anyhow::Result<()> {
        let after = world.lab().counters()?;
        let tried = [
            ("laptop -> anywhere but the hub", after.laptop_elsewhere - before.laptop_elsewhere),
            ("hub -> laptop", after.hub_to_laptop_opened - before.hub_to_laptop_opened),
            ("hub -> cluster", after.hub_to_cluster_opened - before.hub_to_cluster_opened),
            ("cluster -> laptop", after.cluster_to_laptop - before.cluster_to_laptop),
        ];
        ensure!(tried.iter().all(|(_, packets)| *packets == 0), "somebody dialled in: {tried:?}");
        ensure!(after.laptop_to_hub > before.laptop_to_hub, "the fence counts nothing: {after:?}");
        if world.lab().cluster().is_shared() {
            return self.says_what_was_not_looked_at();
        }
        writeln!(
            self.out,
            "no packet tried to reach the laptop or the cluster from outside, or anything but the hub from the laptop"
        )?;
        Ok(())
    }

    /// A cluster that is not the lab's cannot be asked everything; silence about that would be a claim.
    fn says_what_was_not_looked_at(&mut self) -> anyhow::Result<()> {
        writeln!(
            self.out,
            "no packet tried to reach the laptop from outside, or anything but the hub from the laptop
not looked at, because this cluster is not the lab's: its nodes (nftables, mounts, links), packets between its hosts, \
             and namespaces other than shop"
        )?;
        Ok(())
    }
}

/// Which frontend asked which cart, over which connection.
struct CartAsked {
    frontend: String,
    cart: String,
    over: String,
}

/// Returns who stands behind the cart that the shop's frontend asked.
fn cart_behind_the_frontend(ada: &Person<'_>) -> anyhow::Result<CartAsked> {
    let answer = ada.asks("http://frontend.shop")?;
    let calls = answer["calls"].as_array().context("the frontend lists whom it asked")?;
    let cart = calls.iter().find(|call| call["to"] == "cart").context("it asked the cart")?;
    Ok(CartAsked {
        frontend: answered_by(&answer)?,
        cart: answered_by(&cart["answer"])?,
        over: cart["over"].as_str().context("over a connection")?.to_owned(),
    })
}

/// Asks until one particular frontend answers.
fn cart_asked_by(ada: &Person<'_>, frontend: &str) -> anyhow::Result<CartAsked> {
    for _ in 0..ENOUGH_REQUESTS {
        let asked = cart_behind_the_frontend(ada)?;
        if asked.frontend == frontend {
            return Ok(asked);
        }
    }
    bail!("{frontend} answered none of {ENOUGH_REQUESTS} requests")
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or_default()
}

fn quoted(word: &str) -> String {
    if word.contains('*') { format!("'{word}'") } else { word.to_owned() }
}
