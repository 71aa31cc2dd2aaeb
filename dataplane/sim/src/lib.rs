//! A simulated network: [`nm_engine::Engine`]s, one virtual clock, and wires with faults between them.
//!
//! A [`Simulation`] is an experiment over it, with changes and flows at given times. A [`Lab`] never sleeps: it moves packets from engine to engine, advances its clock to the next deadline, and stops
//! when a condition holds or the time is up. Two runs with one seed are equal in every bit.
//!
//! ```
//! use nm_sim::{Lab, Wire};
//!
//! let mut lab = Lab::ring(4, 1, &Wire::default());
//! let group = lab.group(7, 1, &[2, 3, 4]);
//! let data = nm_sim::pattern(1_000_000, 5);
//! let incoming = lab.receive_all(group, 1, &[2, 3, 4], data.len());
//! let outgoing = lab.send(group, 1, &[2, 3, 4], data.clone());
//! assert!(lab.run_until_finished(1, outgoing));
//! assert!(lab.report(1, outgoing).complete());
//! assert_eq!(*lab.data(3, incoming[1]), data);
//! ```

#![forbid(unsafe_code)]

mod lab;
mod random;
mod simulation;
mod topology;
mod wire;

pub use lab::{Lab, NodeOutput};
pub use random::{pattern, Random};
pub use simulation::{Begin, Change, FlowResult, Progress, RunningFlow, Simulation, SimulationError};
pub use wire::Wire;
