//! The settings of one node, parsed strictly from its TOML file.
//!
//! A mistyped key must not silently become a default: an unknown key, a missing one and a value of the wrong type or
//! outside its range are all refused with file, line, column and key. The result is one immutable structure; the file
//! is not read again.

mod error;
mod forms;
mod nearest;
mod network;
mod reader;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nm_engine::{Prefix, Prefixes};
use nm_max::socks::Credentials;
use toml::de::DeTable;

pub use error::{ConfigError, Problem};
use forms::{
    one_of, parse_controller, parse_interface, parse_mask, parse_network6, parse_prefix,
    public_address, unless,
};
pub use nearest::nearest;
use reader::{position, Reader};

/// A secret text that must not appear in logs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() {
            "Secret(none)"
        } else {
            "Secret(…)"
        })
    }
}

/// The transports allowed for links between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkProtocol {
    /// Shared memory where both processes can reach each other's unix socket, else TCP.
    Auto,
    /// A unix socket where it can be reached, else TCP.
    Unix,
    /// TCP always.
    Tcp,
}

/// Whether TUN may carry super-packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffloadMode {
    /// Use super-packets if they work, else plain packets.
    Auto,
    /// Plain packets always.
    Off,
}

/// How a node carries TCP flows of its programs and of SOCKS5 clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatingMode {
    /// As packets.
    Normal,
    /// Spliced at each node; see [`crate::max`].
    Max,
}

/// Where packets to addresses outside of the lab go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkSetting {
    /// Nowhere: the lab has no uplink.
    None,
    /// This node is an uplink: its kernel forwards them.
    Here,
    /// To the nearest node with an uplink.
    Elsewhere,
}

/// How relays treat the TTL of packets that they forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlSetting {
    /// Decrement it, as a router does.
    Uniform,
    /// Leave it unchanged, because the network has longer paths than a TTL allows.
    Pipe,
}

/// Time limits and window of lossless sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LosslessSettings {
    /// How long the sender waits for every receiver to become ready.
    pub ready_grace: Duration,
    /// How long a sender waits for a receiver that sends nothing.
    pub peer_report_timeout: Duration,
    /// How long a receive call waits for its sender to start.
    pub start_timeout: Duration,
    /// The most bytes in flight of one session.
    pub window_bytes: u64,
}

/// All settings of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// The file's path, as given by the caller.
    pub path: PathBuf,
    /// The node's number.
    pub node_id: u32,
    /// The node's name in the topology.
    pub name: String,
    /// The lab it belongs to.
    pub lab: String,
    /// The lab's seed.
    pub seed: u64,
    /// Whether it is an external node.
    pub external: bool,
    /// Websocket address of the controller, complete with scheme and path.
    pub controller_addr: String,
    /// The certificate authority of the controller, PEM text; empty for an address of `ws`.
    pub controller_ca: String,
    /// The token that authenticates the control connection.
    pub controller_token: Secret,
    /// Time limit of the first connection.
    pub controller_connect_timeout: Duration,
    /// Nodes with the same name here reach each other at their private addresses.
    pub private_network_name: String,
    /// The interface on that network.
    pub private_network_interface: String,
    /// The node's address on it; `None` determines it automatically.
    pub private_network_addr: Option<IpAddr>,
    /// The port of the link listener; 0 lets the kernel choose.
    pub private_network_port: u16,
    /// `host:port` at which other networks reach the node, or empty.
    pub public_network_addr: String,
    /// Name of the TUN interface.
    pub tun_interface_name: String,
    /// Largest packet on the emulated network.
    pub mtu: u16,
    /// Whether to create a TUN interface.
    pub enable_local_interface: bool,
    /// Queues of the TUN interface.
    pub num_tun_queues: u16,
    /// Whether TUN carries super-packets.
    pub offload: OffloadMode,
    /// The TUN clone device.
    pub tun_device: PathBuf,
    /// The network namespace of the TUN interface; `None` is the process's own.
    pub network_namespace: Option<PathBuf>,
    /// Capacity of a Python receiver's queue, in messages.
    pub channel_capacity: usize,
    /// Whether a receiver's queue grows when it is full, or drops messages.
    pub channel_backpressure: bool,
    /// The transports allowed for links between processes.
    pub protocol: LinkProtocol,
    /// The folder for the unix sockets of a lab's processes; `None` disables them.
    pub link_directory: Option<PathBuf>,
    /// How TCP flows are carried.
    pub operating_mode: OperatingMode,
    /// The port of the SOCKS5 listener of a node in max mode.
    pub max_server_port: u16,
    /// What SOCKS5 clients must know; `None` admits every program of the node, and no others.
    pub socks5_credentials: Option<Credentials>,
    /// How relays treat the TTL.
    pub ttl_mode: TtlSetting,
    /// Source port where a caller gives none.
    pub user_space_client_port: u16,
    /// Destination port where a caller gives none.
    pub user_space_server_port: u16,
    /// The node's address on the emulated network.
    pub local_address: Ipv4Addr,
    /// The mask of the emulated network.
    pub net_mask: Ipv4Addr,
    /// The base address: node n has this address plus n.
    pub base_addr: Ipv4Addr,
    /// The IPv6 network, in which node n has the first address plus n, and the length of its prefix.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// The networks behind the nodes of the lab, this one's included.
    pub prefixes: Vec<Prefix>,
    /// Where packets to addresses outside of the lab go.
    pub uplink: UplinkSetting,
    /// Whether to reconnect after the connection to the controller was lost.
    pub restart_on_disconnect: bool,
    /// Lossless sessions.
    pub lossless: LosslessSettings,
}

impl NodeSettings {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: path.to_owned(),
            problems: vec![whole_file(
                "config.unreadable",
                format!("cannot read the settings: {error}"),
            )],
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`; `path` names it in error messages.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem of the text.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let fail = |problems| ConfigError {
            file: path.to_owned(),
            problems,
        };
        let document = DeTable::parse(text).map_err(|error| {
            let mut problem = whole_file("config.syntax", error.message().to_owned());
            if let Some(span) = error.span() {
                let (line, column) = position(text, span.start);
                (problem.line, problem.column) = (Some(line), Some(column));
            }
            fail(vec![problem])
        })?;
        let mut root = Reader::new(text, Some(document.get_ref()), "");
        let mut lossless = root.table("lossless_runtime_config");
        let lossless_settings = read_lossless(&mut lossless);
        let settings = read_root(&mut root, path, lossless_settings);
        let mut problems = root.finish();
        problems.extend(lossless.finish());
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => {
                problems.sort_by_key(|problem| (problem.line.unwrap_or(u32::MAX), problem.column));
                Err(fail(problems))
            }
        }
    }
}

/// Reads every key of the root table; `None` means that a problem was recorded.
///
/// Every key is read before the first `?`, so that the problems of all of them are recorded.
fn read_root(
    root: &mut Reader<'_>,
    path: &Path,
    lossless: LosslessSettings,
) -> Option<NodeSettings> {
    let node_id = root.integer("node_id", None, 1..=u32::MAX);
    let base_addr = root.form("base_addr", Some("10.0.0.0"), IPV4);
    let net_mask = root.parsed("net_mask", Some("255.255.0.0"), parse_mask);
    let local_address = root.parsed("local_address", Some(""), unless(&[""], IPV4));
    let ipv6 = root.parsed("ipv6", Some(""), parse_network6);
    let controller_addr = root.parsed("controller_addr", None, parse_controller);
    let controller_ca = read_authority(root, controller_addr.as_deref());
    let private_network_addr = network::read_private_address(root);
    let public_network_addr = read_public_address(root);
    let tun_interface_name = root.parsed("tun_interface_name", Some("utun"), parse_interface);
    let offload = root.parsed("offload", Some("auto"), one_of(OFFLOAD_MODES));
    let protocol = root.parsed("protocol", Some("auto"), one_of(LINK_PROTOCOLS));
    let operating_mode = root.parsed("operating_mode", Some("normal"), one_of(OPERATING_MODES));
    let socks5_credentials = read_credentials(root);
    let prefixes = read_prefixes(root);
    let uplink = root.parsed("uplink", Some("none"), one_of(UPLINKS));
    let ttl_mode = root.parsed("ttl_mode", Some("uniform"), one_of(TTL_MODES));
    Some(NodeSettings {
        path: path.to_owned(),
        node_id,
        name: root.string("name", Some("")),
        lab: root.string("lab", Some("")),
        seed: root.integer("seed", Some(0u64), 0..=i64::MAX as u64),
        external: root.boolean("external", false),
        controller_token: Secret(root.string("controller_token", Some(""))),
        controller_connect_timeout: millis(root, "controller_connect_timeout_ms", 5_000),
        private_network_name: root.string("private_network_name", Some("")),
        private_network_interface: root.string("private_network_interface", Some("")),
        private_network_port: root.integer("private_network_port", Some(0u16), 0..=u16::MAX),
        mtu: root.integer("mtu", Some(1500u16), MIN_MTU..=u16::MAX),
        enable_local_interface: root.boolean("enable_local_interface", true),
        num_tun_queues: root.integer("num_tun_queues", Some(1u16), 1..=256),
        tun_device: PathBuf::from(root.string("tun_device", Some("/dev/net/tun"))),
        network_namespace: optional_path(root, "network_namespace"),
        channel_capacity: root.integer("channel_capacity", Some(1_000u32), 1..=16_777_216) as usize,
        channel_backpressure: root.boolean("channel_backpressure", false),
        link_directory: optional_path(root, "link_directory"),
        max_server_port: root.integer("max_server_port", Some(8_081u16), PORTS),
        user_space_client_port: root.integer("user_space_client_port", Some(45_535u16), PORTS),
        user_space_server_port: root.integer("user_space_server_port", Some(8_888u16), PORTS),
        restart_on_disconnect: root.boolean("restart_on_disconnect", true),
        local_address: network::own_address(root, node_id, base_addr?, net_mask?, local_address?)?,
        base_addr: base_addr?,
        ipv6: ipv6?,
        prefixes: prefixes?,
        uplink: uplink?,
        net_mask: net_mask?,
        controller_addr: controller_addr?,
        controller_ca: controller_ca?,
        private_network_addr: private_network_addr?,
        public_network_addr: public_network_addr?,
        tun_interface_name: tun_interface_name?,
        offload: offload?,
        protocol: protocol?,
        operating_mode: operating_mode?,
        socks5_credentials: socks5_credentials?,
        ttl_mode: ttl_mode?,
        lossless,
    })
}

const OFFLOAD_MODES: &[(&str, OffloadMode)] =
    &[("auto", OffloadMode::Auto), ("off", OffloadMode::Off)];
const LINK_PROTOCOLS: &[(&str, LinkProtocol)] = &[
    ("auto", LinkProtocol::Auto),
    ("unix", LinkProtocol::Unix),
    ("tcp", LinkProtocol::Tcp),
];
const OPERATING_MODES: &[(&str, OperatingMode)] = &[
    ("normal", OperatingMode::Normal),
    ("max", OperatingMode::Max),
];
const UPLINKS: &[(&str, UplinkSetting)] = &[
    ("none", UplinkSetting::None),
    ("here", UplinkSetting::Here),
    ("elsewhere", UplinkSetting::Elsewhere),
];
const TTL_MODES: &[(&str, TtlSetting)] =
    &[("uniform", TtlSetting::Uniform), ("pipe", TtlSetting::Pipe)];
/// The ports that a service can listen on.
const PORTS: RangeInclusive<u16> = 1..=u16::MAX;

const IPV4: &str = "an IPv4 address";

/// RFC 791: every host must accept a datagram of 576 bytes; smaller MTUs are not supported.
const MIN_MTU: u16 = 576;

fn read_lossless(table: &mut Reader<'_>) -> LosslessSettings {
    LosslessSettings {
        ready_grace: millis(table, "ready_grace_ms", 10_000),
        peer_report_timeout: millis(table, "peer_report_timeout_ms", 15_000),
        start_timeout: millis(table, "start_timeout_ms", 600_000),
        window_bytes: table.integer("window_bytes", Some(8_388_608u64), 65_536..=1 << 32),
    }
}

fn read_public_address(root: &mut Reader<'_>) -> Option<String> {
    let address = root.string("public_network_addr", Some(""));
    let port = root.integer("public_network_port", Some(0u16), 0..=u16::MAX);
    public_address(&address, port)
        .map_err(|message| root.refuse_value("public_network_addr", message))
        .ok()
}

/// The certificate authority of a controller at an address of `wss`, which needs one.
fn read_authority(root: &mut Reader<'_>, controller_addr: Option<&str>) -> Option<String> {
    let authority = root.string("controller_ca", Some(""));
    let needed = controller_addr.is_some_and(|addr| addr.starts_with("wss://"));
    if authority.is_empty() && !needed {
        return Some(authority);
    }
    if !needed {
        // The node's token would be sent in the clear.
        let message = "`controller_ca` is for a controller at an address of `wss`".to_owned();
        root.refuse_value("controller_ca", message);
        return None;
    }
    match crate::tls::client_config(&authority) {
        Ok(_) => Some(authority),
        Err(reason) => {
            let message = format!("`controller_ca` is not a certificate authority: {reason}");
            root.refuse_value("controller_ca", message);
            None
        }
    }
}

/// The user name and the password of SOCKS5, of 1 to 255 bytes each (RFC 1929); both or neither.
fn read_credentials(root: &mut Reader<'_>) -> Option<Option<Credentials>> {
    let username = root.string("socks5_username", Some(""));
    let password = root.string("socks5_password", Some(""));
    let fits = |text: &str| (1..=255).contains(&text.len());
    if username.is_empty() && password.is_empty() {
        return Some(None);
    }
    if fits(&username) && fits(&password) {
        return Some(Some(Credentials { username, password }));
    }
    let message = "`socks5_username` and `socks5_password` need 1 to 255 bytes each".to_owned();
    root.refuse_value("socks5_password", message);
    None
}

/// The networks behind nodes, which may not overlap.
fn read_prefixes(root: &mut Reader<'_>) -> Option<Vec<Prefix>> {
    let prefixes = root.list("prefixes", parse_prefix)?;
    match Prefixes::new(&prefixes) {
        Ok(_) => Some(prefixes),
        Err(message) => {
            root.refuse_value("prefixes", message);
            None
        }
    }
}

fn optional_path(root: &mut Reader<'_>, key: &'static str) -> Option<PathBuf> {
    let text = root.string(key, Some(""));
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// A duration in milliseconds, from 1 ms to a day.
fn millis(table: &mut Reader<'_>, key: &'static str, default: u64) -> Duration {
    Duration::from_millis(table.integer(key, Some(default), 1..=86_400_000))
}

fn whole_file(id: &'static str, message: String) -> Problem {
    Problem {
        id,
        line: None,
        column: None,
        key: None,
        message,
        hint: None,
        nearest: None,
    }
}

#[cfg(test)]
mod tests;
