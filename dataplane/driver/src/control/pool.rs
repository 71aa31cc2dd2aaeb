//! The control thread of the process and the connections on it.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};

use super::connection::Connection;
use super::resolve::Resolver;
use super::{ControlError, Endpoint, Input};
use crate::node::wait::lock;

struct Pool {
    handle: Handle,
    connections: Mutex<BTreeMap<Endpoint, UnboundedSender<Input>>>,
    resolver: Resolver,
}

/// Sends `input` to the connection for `endpoint`; starts the connection if there is none.
pub(crate) fn send(
    endpoint: Endpoint,
    input: Input,
) -> Result<UnboundedSender<Input>, ControlError> {
    let pool = pool()?;
    let mut connections = lock(&pool.connections);
    let mut input = input;
    if let Some(sender) = connections.get(&endpoint) {
        match sender.send(input) {
            Ok(()) => return Ok(sender.clone()),
            Err(lost) => input = lost.0, // its last node has left meanwhile
        }
    }
    let (sender, inputs) = unbounded_channel();
    // The receiver of the channel still exists, so this cannot fail.
    let _ = sender.send(input);
    let resolver = pool.resolver.clone();
    let connection = Connection::new(endpoint.clone(), sender.clone(), inputs, resolver, retire);
    pool.handle.spawn(connection.run());
    connections.insert(endpoint, sender.clone());
    Ok(sender)
}

/// Removes a connection that has no nodes, unless its channel holds an input; true when it was removed.
pub(crate) fn retire(endpoint: &Endpoint, inputs: &UnboundedReceiver<Input>) -> bool {
    let Ok(pool) = pool() else { return true };
    let mut connections = lock(&pool.connections);
    // Inputs of new nodes are sent under this lock, so an empty channel stays empty of them.
    if !inputs.is_empty() {
        return false;
    }
    connections.remove(endpoint);
    true
}

fn pool() -> Result<&'static Pool, ControlError> {
    static POOL: OnceLock<Result<Pool, ControlError>> = OnceLock::new();
    POOL.get_or_init(start).as_ref().map_err(Clone::clone)
}

fn start() -> Result<Pool, ControlError> {
    let failed = |error: std::io::Error| ControlError::Start(error.to_string());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name("nm-control".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .map_err(failed)?;
    Ok(Pool {
        handle,
        connections: Mutex::default(),
        resolver: Resolver::system(),
    })
}

/// Runs a future on the control thread, for tests that observe that thread.
#[cfg(test)]
pub(super) fn spawn(future: std::pin::Pin<Box<dyn std::future::Future<Output = ()> + Send>>) {
    pool().expect("a control thread").handle.spawn(future);
}
