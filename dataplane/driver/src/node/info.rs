//! Information about a node: addresses, settings and counters.

use nm_engine::NodeStats;

use super::error::NodeError;
use super::state::KnownLink;
use super::wait::lock;
use super::Node;

/// The engine's counters, together with the node's own facts.
pub struct Statistics {
    /// Counters of the engine.
    pub engine: NodeStats,
    /// The last reported state of each link, by neighbour.
    pub links: Vec<(u32, KnownLink)>,
    /// Events that were dropped because the program did not read them in time.
    pub events_forgotten: u64,
    /// Whether there is a connection to the controller.
    pub controller_connected: bool,
}

impl Node {
    /// The node's addresses and settings as pairs of name and text.
    pub fn network_info(&self) -> Vec<(&'static str, String)> {
        let settings = &self.settings;
        let user = lock(&self.addresses).user_addr(settings.node_id);
        let private = settings.private_network_addr.map_or_else(
            || {
                self.runtime
                    .listen_address()
                    .map_or_else(|| "auto".to_owned(), |at| at.ip().to_string())
            },
            |address| address.to_string(),
        );
        vec![
            ("node_id", settings.node_id.to_string()),
            ("name", settings.name.clone()),
            ("lab", settings.lab.clone()),
            (
                "private_network_name",
                settings.private_network_name.clone(),
            ),
            (
                "private_network_interface",
                settings.private_network_interface.clone(),
            ),
            ("private_network_addr", private),
            (
                "private_network_port",
                self.runtime.listen_port().to_string(),
            ),
            ("public_network_addr", settings.public_network_addr.clone()),
            ("controller_addr", settings.controller_addr.clone()),
            ("local_address", settings.local_address.to_string()),
            (
                "local_address6",
                settings
                    .interface6()
                    .map_or_else(String::new, |(at, _)| at.to_string()),
            ),
            ("user_space_address", user.to_string()),
        ]
    }

    /// A sentence: whether the node's device carries super-packets.
    pub fn offload(&self) -> String {
        self.port.offload().to_string()
    }

    /// The node's current counters.
    pub fn statistics(&self) -> Result<Statistics, NodeError> {
        self.check_open()?;
        let engine = self.port.stats()?;
        Ok(self.state.look(|facts| Statistics {
            engine,
            links: facts
                .links
                .iter()
                .map(|(remote, link)| (*remote, link.clone()))
                .collect(),
            events_forgotten: facts.events.dropped(),
            controller_connected: facts.connected,
        }))
    }
}
