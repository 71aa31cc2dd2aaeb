//! Measure max mode against direct loopback: `cargo run --release --example max_relays -p nm-driver [ROUNDS]`.
//!
//! One TCP stream between two threads, directly and through one to three nodes, in turn within each round. Prints each
//! round and the medians, in Gb/s and relative to direct loopback, as lines of JSON.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nm_driver::max::{
    FlowReport, FlowSink, Found, Limits, Membership, NextHop, NodeSetup, Query, Router, Server,
};

/// Duration of a sample, after a tenth of it as warm-up.
const SAMPLE: Duration = Duration::from_secs(2);
/// Bytes per write and read, as iperf3 has by default.
const BLOCK: usize = 128 << 10;

struct Line(u32, u32);

impl Router for Line {
    fn next_hop(&self, _: Query, then: Box<dyn FnOnce(Found) + Send>) {
        let next = (self.0 < self.1).then_some(self.0 + 1);
        then(Ok(NextHop {
            exit: self.1,
            next,
            route: 0,
        }));
    }
}

struct Ignored;

impl FlowSink for Ignored {
    fn flows(&self, _: Vec<FlowReport>) {}
}

fn nodes(server: &Server, count: u32) -> Result<Vec<Membership>, Box<dyn Error>> {
    let add = |node| {
        server.add(NodeSetup {
            lab: Arc::from(format!("line-{count}")),
            node,
            namespace: None,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            credentials: None,
            redirected: false,
            router: Arc::new(Line(node, count)),
            sink: Arc::new(Ignored),
        })
    };
    Ok((1..=count).map(add).collect::<Result<_, _>>()?)
}

/// A connection to `server`, directly or through the SOCKS5 listener of the first node.
fn connect(server: SocketAddr, by: Option<SocketAddr>) -> Result<TcpStream, Box<dyn Error>> {
    let Some(entry) = by else {
        return Ok(TcpStream::connect(server)?);
    };
    let mut stream = TcpStream::connect(entry)?;
    let mut request = b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01".to_vec();
    request.extend(server.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 12];
    stream.read_exact(&mut reply)?;
    if reply[3] != 0 {
        return Err(format!("the flow was refused: {}", reply[3]).into());
    }
    Ok(stream)
}

/// Gigabits per second of one stream.
fn sample(by: Option<SocketAddr>) -> Result<f64, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let reader = thread::spawn(move || -> std::io::Result<f64> {
        let (mut stream, _) = listener.accept()?;
        let mut block = vec![0; BLOCK];
        let (began, mut from, mut bytes) = (Instant::now(), None, 0u64);
        loop {
            let count = stream.read(&mut block)?;
            let since = *from.get_or_insert_with(Instant::now);
            if count == 0 {
                return Ok(bytes as f64 * 8e-9 / since.elapsed().as_secs_f64());
            }
            bytes += count as u64;
            if began.elapsed() < SAMPLE / 10 {
                (from, bytes) = (Some(Instant::now()), 0);
            }
        }
    });
    let mut stream = connect(address, by)?;
    let (block, began) = (vec![7; BLOCK], Instant::now());
    while began.elapsed() < SAMPLE {
        stream.write_all(&block)?;
    }
    drop(stream);
    Ok(reader.join().map_err(|_| "the reader failed")??)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(5), |text| text.parse())?;
    if rounds == 0 {
        return Err("at least one round is needed".into());
    }
    let server = Server::start(Limits::default())?;
    let lines = [nodes(&server, 1)?, nodes(&server, 2)?, nodes(&server, 3)?];
    let entries = lines.iter().map(|line| Some(line[0].addresses()[0]));
    let variants: Vec<Option<SocketAddr>> = std::iter::once(None).chain(entries).collect();
    let mut found = vec![Vec::new(); variants.len()];
    for round in 1..=rounds {
        for (rates, by) in found.iter_mut().zip(&variants) {
            rates.push(sample(*by)?);
        }
        let latest: Vec<String> = found
            .iter()
            .map(|rates| format!("{:.1}", rates[round - 1]))
            .collect();
        println!(
            "{{\"round\": {round}, \"gbit_per_s\": [{}]}}",
            latest.join(", ")
        );
    }
    let direct = median(&found[0]);
    for (relays, rates) in found.iter().enumerate() {
        // The ratio of each round, since a machine may be slower in one than in another.
        let ratios: Vec<f64> = rates
            .iter()
            .zip(&found[0])
            .map(|(rate, direct)| rate / direct)
            .collect();
        let (rate, ratio) = (median(rates), median(&ratios));
        println!(
            "{{\"relays\": {relays}, \"gbit_per_s\": {rate:.1}, \"of_direct\": {ratio:.2}, \"direct\": {direct:.1}}}"
        );
    }
    Ok(())
}
