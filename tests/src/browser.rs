//! A person's browser, as far as signing in and the console's writes need one: cookies, redirects, the Origin header.
//!
//! It is curl on a host of the lab, so that what it reaches is what that host reaches.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab};
use serde_json::Value;

use crate::{
    command::{Running, begin, say},
    hub,
};

/// The page of the lab's identity provider that asks who one is.
const WHO_ARE_YOU: &str = "http://idp.fairlead.test:9090/login/";

/// The hub's host, as cookies name it.
const HUB: &str = "hub.fairlead.test";

/// What was answered, after all redirects.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub url: String,
    pub body: String,
}

impl Answer {
    /// Reads the body of a success as JSON; anything else is an error that shows it.
    pub fn json(&self) -> anyhow::Result<Value> {
        ensure!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }
}

#[derive(Debug)]
pub struct Browser<'w> {
    lab: &'w Lab,
    host: Host,
    uid: u32,
    person: String,
    jar: PathBuf,
    hub_ca: PathBuf,
}

impl<'w> Browser<'w> {
    /// Sits somebody down at a browser on a host; its cookies lie in the folder `home`.
    pub fn new(
        lab: &'w Lab,
        host: Host,
        person: &str,
        uid: u32,
        home: &Path,
        hub_ca: &Path,
    ) -> Self {
        let jar = home.join("cookies.txt");
        Self { lab, host, uid, person: person.to_owned(), jar, hub_ca: hub_ca.to_owned() }
    }

    /// Opens an address, follows redirects, signs in at the issuer on the way when it asks, and presses the hub's button
    /// when a command line wants to sign in.
    pub fn open(&self, url: &str) -> anyhow::Result<Answer> {
        let mut page = self.follow(&[url])?;
        // A hub of several organizations asks for the address first.
        if let Some(query) = page.url.strip_prefix(&format!("{}/sign-in", hub::URL)) {
            let rest = query.trim_start_matches('?');
            let named = format!("{}/login?email={}%40example.test&{rest}", hub::URL, self.person);
            page = self.follow(&[&named])?;
        }
        if page.url.starts_with(WHO_ARE_YOU) {
            page = self.follow(&["--data", &format!("user={}", self.person), &page.url])?;
        }
        if page.status == 200 && page.url.starts_with(&format!("{}/oauth/authorize?", hub::URL)) {
            let origin = format!("Origin: {}", hub::URL);
            page = self.follow(&["--header", &origin, "--data", "", &page.url])?;
        }
        Ok(page)
    }

    /// Sends a form of one of the hub's own pages, and follows where it leads.
    pub fn submit(&self, path: &str, form: &str) -> anyhow::Result<Answer> {
        let (url, origin) = (format!("{}{path}", hub::URL), format!("Origin: {}", hub::URL));
        self.follow(&["--header", &origin, "--data", form, &url])
    }

    fn follow(&self, arguments: &[&str]) -> anyhow::Result<Answer> {
        self.curl(&[&["--location", "--max-redirs", "20"], arguments].concat())
    }

    /// Calls an operation of the hub with the session's cookie.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let url = format!("{}{path}", hub::URL);
        let origin = format!("Origin: {}", hub::URL);
        let body = body.map(Value::to_string);
        let mut arguments = vec!["--request", method, "--header", &origin];
        if let Some(body) = &body {
            arguments.extend(["--header", "Content-Type: application/json", "--data-raw", body]);
        }
        arguments.push(&url);
        self.curl(&arguments)
    }

    /// Returns the cookies for the hub, as a header has them: for another program that goes on in this one's name.
    pub fn cookies(&self) -> anyhow::Result<String> {
        let jar = fs::read_to_string(&self.jar).context("nobody has signed in here")?;
        let lines = jar.lines().filter_map(|line| {
            // What scripts may not see is marked by this word, and looks like a comment.
            let fields: Vec<_> = line.trim_start_matches("#HttpOnly_").split('\t').collect();
            let [HUB, _, _, _, _, name, value] = fields[..] else { return None };
            Some(format!("{name}={value}"))
        });
        Ok(lines.collect::<Vec<_>>().join("; "))
    }

    /// Begins to read what does not end, as events; interrupt it when enough was heard.
    pub fn listens(&self, path: &str) -> anyhow::Result<Running> {
        let mut curl = self.lab.exec_as(self.host, self.uid, "curl");
        curl.args(["--silent", "--show-error", "--no-buffer", "--max-time", "90", "--cacert"]);
        curl.arg(&self.hub_ca).arg("--cookie").arg(&self.jar).arg(format!("{}{path}", hub::URL));
        begin(curl)
    }

    fn curl(&self, arguments: &[&str]) -> anyhow::Result<Answer> {
        let mut curl = self.lab.exec_as(self.host, self.uid, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "30"])
            .arg("--cacert")
            .arg(&self.hub_ca)
            .arg("--cookie")
            .arg(&self.jar)
            .arg("--cookie-jar")
            .arg(&self.jar)
            .args(["--write-out", "\n%{http_code} %{url_effective}"])
            .args(arguments);
        let said = say(curl)?.ok()?;
        let (body, end) = said.stdout.rsplit_once('\n').context("curl prints the status last")?;
        let (status, url) = end.trim().split_once(' ').context("and the address after it")?;
        Ok(Answer { status: status.parse()?, url: url.to_owned(), body: body.to_owned() })
    }
}
