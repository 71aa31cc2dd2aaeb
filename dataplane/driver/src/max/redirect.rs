//! Redirect the TCP flows that programs of a node start to the node's listener, with a packet filter in its namespace.

use std::io::Write;
use std::os::fd::BorrowedFd;
use std::process::{Command, Stdio};

use nm_kernel::{namespace, relay_socket, KernelError};

/// Redirects connections that leave by `interface`, except those that the node makes itself, to `port` of the loopback
/// address, by a rule of the program `nft`. Repeating it replaces the rule.
///
/// # Errors
///
/// A sentence: the program is missing, or the kernel refuses the rule.
pub fn redirect(
    namespace: Option<BorrowedFd<'_>>,
    interface: &str,
    port: u16,
) -> Result<(), String> {
    let mark = relay_socket::MARK;
    // Deleting a table that does not exist is an error, so it is declared first.
    let rules = format!(
        "table ip nm_max\ndelete table ip nm_max\ntable ip nm_max {{\n\
         chain output {{\ntype nat hook output priority -100; policy accept;\n\
         oifname \"{interface}\" meta mark != {mark:#x} meta l4proto tcp redirect to :{port}\n}}\n}}\n"
    );
    let mut outcome = Err(String::new());
    let entered = namespace::run_in(namespace, || {
        outcome = run(&rules);
        Ok::<(), KernelError>(())
    });
    entered.map_err(|error| error.to_string()).and(outcome)
}

fn run(rules: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("nft cannot be run: {error}");
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read its input says why below.
        let _ = input.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().next().unwrap_or("it failed without a message");
    Err(format!("nft: {line}"))
}
