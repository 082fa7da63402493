//! The demo as people run it: what it prints can be pasted, and Ctrl-C at any moment leaves the machine as it was.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::sibling;
use fairlead_tests::{Said, proxy_mode, say};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::machine::{Home, Machine};

const LAB: &str = "demo";
/// A lab, a hub, an agent and the show, on a slow machine.
const UP_WITHIN: Duration = Duration::from_secs(300);
pub(crate) const LAST_LINE: &str = "Everything stays up until Ctrl-C.";

#[test]
fn what_the_demo_prints_can_be_pasted_and_ctrl_c_leaves_the_machine_as_it_was() {
    let before = Machine::seen_by(LAB).expect("a look at the machine");
    let mut demo = Demo::begins();
    let shown = demo.shows(LAST_LINE).expect("the show holds");
    let pasted = paste(&shown);
    let console = sign_in_from_this_machine(&shown);
    demo.gets_ctrl_c();
    assert_eq!(Machine::seen_by(LAB).expect("a look at the machine"), before);

    let pasted = pasted.expect("every line works");
    for expected in ["frontend.shop", "\"ada-laptop\"", "shop/cart:80 comes to localhost:3000"] {
        assert!(pasted.contains(expected), "no `{expected}` in:\n{pasted}");
    }
    console.expect("the console opens on this machine");
}

#[test]
fn ctrl_c_while_the_demo_comes_up_leaves_the_machine_as_it_was() {
    let before = Machine::seen_by(LAB).expect("a look at the machine");
    for moment in ["control plane answers", "the identity provider starts"] {
        let mut demo = Demo::begins();
        demo.says(moment).expect("it comes that far");
        demo.gets_ctrl_c();
        assert_eq!(Machine::seen_by(LAB).expect("a look at the machine"), before, "{moment}");
    }
}

/// The demo in a process group of its own, as a shell starts it.
pub(crate) struct Demo {
    child: Child,
    home: Home,
    shown: Receiver<String>,
    said: Receiver<String>,
}

impl Demo {
    fn begins() -> Self {
        let mut demo = Command::new(sibling("demo").expect("built"));
        demo.arg(format!("--proxy-mode={}", proxy_mode().expect("a mode").name()));
        Self::begun_by(demo)
    }

    pub(crate) fn begun_by(mut command: Command) -> Self {
        let home = Home::new().expect("a home");
        let mut child = home
            .of(&mut command)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let shown = lines_of(child.stdout.take().expect("piped"));
        let said = lines_of(child.stderr.take().expect("piped"));
        Self { child, home, shown, said }
    }

    /// Returns what it shows, up to a line.
    pub(crate) fn shows(&mut self, last: &str) -> anyhow::Result<String> {
        let mut shown = String::new();
        loop {
            let line = self.shown.recv_timeout(UP_WITHIN).with_context(|| {
                let said: Vec<_> = self.said.try_iter().collect();
                format!("no `{last}` in:\n{shown}\n{}", said.join("\n"))
            })?;
            shown.push_str(&line);
            shown.push('\n');
            if line == last {
                return Ok(shown);
            }
        }
    }

    /// Waits until it says on standard error that a step is done.
    fn says(&mut self, wanted: &str) -> anyhow::Result<()> {
        let mut said = String::new();
        while !said.contains(wanted) {
            let line = self.said.recv_timeout(UP_WITHIN);
            said.push_str(&line.with_context(|| format!("no `{wanted}` in:\n{said}"))?);
            said.push('\n');
        }
        Ok(())
    }

    /// Presses Ctrl-C, and returns when the prompt is back: then the home is as it was, too.
    pub(crate) fn gets_ctrl_c(mut self) {
        let group = i32::try_from(self.child.id()).expect("small");
        killpg(Pid::from_raw(group), Signal::SIGINT).expect("it runs");
        // Waiting closes the child's input, and the end of the input is another way to end the demo.
        let _terminal = self.child.stdin.take();
        let status = self.child.wait().expect("it ends");
        let said: Vec<_> = self.said.iter().collect();
        assert_eq!(status.code(), Some(130), "as programs do that Ctrl-C ends: {said:#?}");
        assert!(!said.iter().any(|line| line.starts_with("error: ")), "{said:#?}");
        self.home.has_only_what_it_had();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (line_tx, line_rx) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| line_tx.send(line.clone()).is_ok()).for_each(drop);
    });
    line_rx
}

/// Runs the lines about ada in a shell, one after the other, as they stand, and returns what they said.
fn paste(shown: &str) -> anyhow::Result<String> {
    let lines: Vec<_> = shown.lines().filter(|line| line.starts_with("  ada")).collect();
    ensure!(lines.len() >= 8, "the demo prints commands to try:\n{shown}");
    let xtask = sibling("xtask")?;
    let script = lines.join("\n").replace("cargo xtask", &xtask.display().to_string());
    // A file, because what a line leaves in the background would keep a pipe open.
    let said = tempfile::NamedTempFile::new()?;
    let mut shell = Command::new("bash");
    // What is under test has just been built; cargo would wait for whoever runs this test.
    shell.args(["-e", "-c", &script]).env("FAIRLEAD_LAB_IS_BUILT", "1").stdin(Stdio::null());
    // One place to write at for both, as in a terminal.
    let stdout = said.reopen()?;
    let stderr = stdout.try_clone()?;
    let status = shell.stdout(stdout).stderr(stderr).status()?;
    let said = std::fs::read_to_string(said.path())?;
    ensure!(status.success(), "not every line works ({status}):\n{said}");
    Ok(said)
}

/// Goes through the doors that are printed for a browser: the console, the identity provider, and back.
fn sign_in_from_this_machine(shown: &str) -> anyhow::Result<()> {
    let rules = shown.lines().find_map(|line| line.split_once("--host-resolver-rules='"));
    let rules = rules.and_then(|(_, rest)| rest.split_once('\'')).context("rules for a browser")?.0;
    let jar = tempfile::NamedTempFile::new()?;
    let curl = |words: &[&str]| -> anyhow::Result<Said> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--insecure", "--location", "--max-time", "20"]);
        for rule in rules.split(", ") {
            let [_, from, to] = rule.split(' ').collect::<Vec<_>>()[..] else { continue };
            curl.args(["--connect-to", &format!("{from}:{to}")]);
        }
        curl.arg("--cookie").arg(jar.path()).arg("--cookie-jar").arg(jar.path());
        curl.args(["--write-out", "\n%{url_effective}"]).args(words);
        say(curl)?.ok()
    };
    let who_are_you = curl(&["https://hub.fairlead.test:8443/login"])?;
    let form = who_are_you.stdout.lines().last().context("the address")?;
    ensure!(form.starts_with("http://idp.fairlead.test:9090/login/"), "{who_are_you}");
    curl(&["--data", "user=ada", form])?;
    let me = curl(&["https://hub.fairlead.test:8443/api/v1/me"])?;
    ensure!(me.stdout.contains("ada@example.test"), "{me}");
    Ok(())
}
