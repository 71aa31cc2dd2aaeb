//! Redirect the TCP flows that programs of a node start to the node's listener, with a packet filter in its namespace.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nm_kernel::{namespace, relay_socket, KernelError};

/// How long `nft` may take. It takes 10 ms; on a machine that is busy it may wait for the lock of the packet filter.
const LIMIT: Duration = Duration::from_secs(10);

/// Redirects connections that leave by `interface`, except those that the node makes itself, to `port` of the loopback
/// address, by a rule of the program `nft`. Repeating it replaces the rule.
///
/// # Errors
///
/// A sentence: the program is missing, does not end in time, or the kernel refuses the rule.
pub fn redirect(
    namespace: Option<BorrowedFd<'_>>,
    interface: &str,
    port: u16,
) -> Result<(), String> {
    let mark = relay_socket::MARK;
    // Deleting a table that does not exist is an error, so it is declared first.
    let rules = format!(
        "table inet nm_max\ndelete table inet nm_max\ntable inet nm_max {{\n\
         chain output {{\ntype nat hook output priority -100; policy accept;\n\
         oifname \"{interface}\" meta mark != {mark:#x} meta l4proto tcp redirect to :{port}\n}}\n}}\n"
    );
    let mut outcome = Err(String::new());
    let entered = namespace::run_in(namespace, || {
        outcome = run("nft".as_ref(), &rules, LIMIT);
        Ok::<(), KernelError>(())
    });
    entered.map_err(|error| error.to_string()).and(outcome)
}

/// Where programs are looked for: `nft` is where only root's PATH leads on some systems.
fn search_path(own: Option<OsString>) -> OsString {
    let mut path = own.unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn run(program: &OsStr, rules: &str, limit: Duration) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("nft cannot be run: {error}");
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .env("PATH", search_path(env::var_os("PATH")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read its input says why below. The rules are shorter than the buffer of a pipe.
        let _ = input.write_all(rules.as_bytes());
    }
    let said = read_within(child.stderr.take(), limit);
    if said.is_none() {
        // It may have ended meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match said {
        None => Err(format!("nft did not end within {} s", limit.as_secs_f64())),
        Some(_) if status.success() => Ok(()),
        Some(text) => {
            let line = text.lines().next().unwrap_or("it failed without a message");
            Err(format!("nft: {line}"))
        }
    }
}

/// What a program writes until it ends; `None` when it does not end in time.
fn read_within(from: Option<impl Read + Send + 'static>, limit: Duration) -> Option<String> {
    let mut from = from?;
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error may still say why the program failed.
        let _ = from.read_to_end(&mut bytes);
        // Nobody waits any more after the limit.
        let _ = send.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receive.recv_timeout(limit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_does_not_end_is_stopped_and_one_that_fails_is_quoted() {
        let folder = env::temp_dir().join(format!("nm-redirect-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let program = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("a mode");
            path
        };
        let short = Duration::from_millis(50);
        let stuck = run(program("stuck", "exec sleep 60").as_ref(), "", short);
        assert_eq!(stuck, Err("nft did not end within 0.05 s".to_owned()));
        let failed = run(program("failed", "echo no >&2; exit 1").as_ref(), "", LIMIT);
        assert_eq!(failed, Err("nft: no".to_owned()));
        assert_eq!(run(program("good", "cat").as_ref(), "rules", LIMIT), Ok(()));
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn the_folders_of_root_are_searched_behind_those_of_the_user() {
        let found = search_path(Some("/home/ada/bin:/usr/bin".into()));
        let folders: Vec<_> = env::split_paths(&found).collect();
        assert_eq!(folders.first(), Some(&"/home/ada/bin".into()));
        assert!(folders.contains(&"/usr/sbin".into()));
    }
}
