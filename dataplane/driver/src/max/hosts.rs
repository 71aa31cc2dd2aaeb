//! Look up names of nodes.

use std::fs;
use std::net::IpAddr;

/// The nodes' names and addresses (hosts(5)).
const HOSTS: &str = "/etc/hosts";

/// The address of a name, IPv4 before IPv6. Only the file is read: no query leaves the machine for a client.
pub fn look_up(name: &str) -> Option<IpAddr> {
    find(&fs::read_to_string(HOSTS).ok()?, name)
}

fn find(table: &str, name: &str) -> Option<IpAddr> {
    let lines = table.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    });
    lines.min_by_key(IpAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_any_column_and_not_in_a_comment() {
        let table = "::1 localhost\n127.0.0.1\tlocalhost\nbroken line\n\
                     fd00::3 db node-3\n10.0.0.3  db Node-3 # spare\n10.0.0.4 node-4\n";
        assert_eq!(find(table, "node-3"), Some([10, 0, 0, 3].into()));
        assert_eq!(find(table, "DB"), Some([10, 0, 0, 3].into()));
        assert_eq!(find(table, "localhost"), Some([127, 0, 0, 1].into()));
        for missing in ["spare", "line", "node-5", "10.0.0.3"] {
            assert_eq!(find(table, missing), None, "{missing}");
        }
    }
}
