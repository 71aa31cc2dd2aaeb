//! Classic BPF programs (McCanne and Jacobson, "The BSD packet filter", 1993), as libpcap compiles them from the filter
//! language of tcpdump.
//!
//! An interpreter of our own: the crate `rbpf` runs extended BPF, to which libpcap does not compile. A program is checked
//! once, as by the kernel (`bpf_check_classic`): jumps go forward and stay inside, and it ends with a return. So it ends
//! for every packet.

/// Words of scratch memory.
const MEMORY: usize = 16;
/// Most instructions: the limit of the kernel.
const MOST: usize = 4096;

// Classes.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
/// The operand is X; else it is the constant of the instruction.
const X: u16 = 0x08;

/// One instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Instruction {
    /// Class, size or operation, and mode.
    pub code: u16,
    /// Instructions to skip when a condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// A program that was checked. The empty one accepts every packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

/// Why a program is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It has too many instructions.
    #[error("the filter has {0} instructions, at most {MOST} are allowed")]
    TooLong(usize),
    /// An instruction cannot be executed.
    #[error("instruction {0} of the filter is invalid")]
    Invalid(usize),
}

impl Filter {
    /// Checks a program.
    ///
    /// # Errors
    ///
    /// [`FilterError`] names the instruction that is not valid.
    pub fn new(program: Vec<Instruction>) -> Result<Self, FilterError> {
        if program.len() > MOST {
            return Err(FilterError::TooLong(program.len()));
        }
        let invalid = |(at, op): &(usize, &Instruction)| !is_valid(op, program.len() - at - 1);
        if let Some((at, _)) = program.iter().enumerate().find(invalid) {
            return Err(FilterError::Invalid(at));
        }
        match program.last() {
            Some(last) if last.code & 7 != RET => Err(FilterError::Invalid(program.len() - 1)),
            _ => Ok(Self(program)),
        }
    }

    /// Whether the program accepts a packet.
    pub fn accepts(&self, packet: &[u8]) -> bool {
        self.0.is_empty() || self.run(packet).is_some_and(|kept| kept > 0)
    }

    /// The value that the program returns; `None` when it reads behind the packet, which refuses it.
    fn run(&self, packet: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut memory, mut at) = (0_u32, 0_u32, [0_u32; MEMORY], 0);
        loop {
            let op = self.0.get(at)?;
            at += 1;
            let operand = if op.code & X != 0 { x } else { op.k };
            match op.code & 7 {
                LD => a = load(op, packet, x, &memory)?,
                LDX if op.code & 0xe0 == 0xa0 => {
                    x = u32::from(*packet.get(op.k as usize)? & 15) * 4;
                }
                LDX => x = load(op, packet, x, &memory)?,
                ST => memory[op.k as usize] = a,
                STX => memory[op.k as usize] = x,
                ALU => a = compute(op.code, a, operand)?,
                JMP if op.code & 0xf0 == 0 => at += op.k as usize,
                JMP => {
                    let holds = compare(op.code, a, operand);
                    at += usize::from(if holds { op.jt } else { op.jf });
                }
                RET => return Some(if op.code & 0x18 == 0x10 { a } else { op.k }),
                _ if op.code & 0x80 == 0 => x = a,
                _ => a = x,
            }
        }
    }
}

/// Whether an instruction can be executed with `behind` ones behind it.
fn is_valid(op: &Instruction, behind: usize) -> bool {
    let memory = (op.k as usize) < MEMORY;
    match op.code & 7 {
        LD => match op.code & 0xf8 {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x00 | 0x80 => true,
            0x60 => memory,
            _ => false,
        },
        LDX => match op.code & 0xf8 {
            0x00 | 0x80 | 0xb0 => true,
            0x60 => memory,
            _ => false,
        },
        ST | STX => memory && op.code & 0xf8 == 0,
        ALU => match op.code & 0xf0 {
            0x30 | 0x90 => op.code & X != 0 || op.k != 0,
            0x60 | 0x70 => op.code & X != 0 || op.k < 32,
            operation => operation <= 0xa0,
        },
        JMP if op.code & 0xf0 == 0 => (op.k as usize) < behind,
        JMP => op.code & 0xf0 <= 0x40 && usize::from(op.jt.max(op.jf)) < behind,
        RET => matches!(op.code & 0xf8, 0x00 | 0x10),
        MISC => matches!(op.code & 0xf8, 0x00 | 0x80),
        _ => false,
    }
}

fn load(op: &Instruction, packet: &[u8], x: u32, memory: &[u32; MEMORY]) -> Option<u32> {
    let at = match op.code & 0xe0 {
        0x20 => op.k as usize,
        0x40 => (op.k as usize).checked_add(x as usize)?,
        0x60 => return Some(memory[op.k as usize]),
        0x80 => return Some(packet.len() as u32),
        _ => return Some(op.k),
    };
    let size = match op.code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    };
    let bytes = packet.get(at..at.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)),
    )
}

fn compute(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand).unwrap_or(0),
        0x70 => a.checked_shr(operand).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(operand)?,
        _ => a ^ operand,
    })
}

fn compare(code: u16, a: u32, operand: u32) -> bool {
    match code & 0xf0 {
        0x10 => a == operand,
        0x20 => a > operand,
        0x30 => a >= operand,
        _ => a & operand != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(code: &[(u16, u8, u8, u32)]) -> Result<Filter, FilterError> {
        let op = |&(code, jt, jf, k): &_| Instruction { code, jt, jf, k };
        Filter::new(code.iter().map(op).collect())
    }

    /// `udp port 53` for raw IPv4, as libpcap 1.10 compiles it.
    fn udp_53() -> Filter {
        program(&[
            (0x30, 0, 0, 0),
            (0x54, 0, 0, 0xf0),
            (0x15, 0, 10, 0x40),
            (0x30, 0, 0, 9),
            (0x15, 0, 8, 17),
            (0x28, 0, 0, 6),
            (0x45, 6, 0, 0x1fff),
            (0xb1, 0, 0, 0),
            (0x48, 0, 0, 0),
            (0x15, 2, 0, 53),
            (0x48, 0, 0, 2),
            (0x15, 0, 1, 53),
            (0x06, 0, 0, 262_144),
            (0x06, 0, 0, 0),
        ])
        .expect("valid")
    }

    fn datagram(ports: [u16; 2], fragment: u8) -> Vec<u8> {
        let mut bytes = vec![0; 24];
        bytes[0] = 0x46; // one word of options
        bytes[7] = fragment;
        bytes[9] = 17;
        for port in ports {
            bytes.extend_from_slice(&port.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn a_compiled_expression_accepts_what_it_means_and_nothing_else() {
        let filter = udp_53();
        assert!(filter.accepts(&datagram([53, 9], 0)));
        assert!(filter.accepts(&datagram([9, 53], 0)));
        assert!(!filter.accepts(&datagram([9, 54], 0)));
        assert!(!filter.accepts(&datagram([53, 9], 1)));
        assert!(!filter.accepts(&[0x45; 3]), "shorter than it reads");
        assert!(Filter::default().accepts(&[]));
    }

    #[test]
    fn every_operation_computes_what_it_is_named_after() {
        let results = [
            (0x04, 7),
            (0x14, 3),
            (0x24, 10),
            (0x34, 2),
            (0x44, 7),
            (0x54, 0),
            (0x64, 20),
            (0x74, 1),
            (0x84, 5_u32.wrapping_neg()),
            (0x94, 1),
            (0xa4, 7),
        ];
        for (code, wanted) in results {
            let filter = program(&[(0, 0, 0, 5), (code, 0, 0, 2), (0x16, 0, 0, 0)]);
            assert_eq!(filter.expect("valid").run(&[]), Some(wanted), "{code:#x}");
        }
        let scratch = [
            (0x00, 0, 0, 8), // A = 8
            (0x02, 0, 0, 3), // M[3] = A
            (0x01, 0, 0, 2), // X = 2
            (0x1c, 0, 0, 0), // A -= X
            (0x07, 0, 0, 0), // X = A
            (0x60, 0, 0, 3), // A = M[3]
            (0x0c, 0, 0, 0), // A += X
            (0x16, 0, 0, 0), // return A
        ];
        assert_eq!(program(&scratch).expect("valid").run(&[]), Some(14));
    }

    #[test]
    fn programs_that_might_not_end_or_leave_their_memory_are_refused() {
        for (bad, at) in [
            (vec![(0x00, 0, 0, 1)], 0),                   // no return
            (vec![(0x15, 1, 0, 0), (0x06, 0, 0, 0)], 0),  // jumps behind the end
            (vec![(0x05, 0, 0, 9), (0x06, 0, 0, 0)], 0),  // likewise
            (vec![(0x02, 0, 0, 16), (0x06, 0, 0, 0)], 0), // no such memory
            (vec![(0x34, 0, 0, 0), (0x06, 0, 0, 0)], 0),  // division by zero
            (vec![(0x00, 0, 0, 0), (0xff, 0, 0, 0), (0x06, 0, 0, 0)], 1),
        ] {
            assert_eq!(program(&bad), Err(FilterError::Invalid(at)), "{bad:?}");
        }
        let long = vec![(0x06, 0, 0, 0); MOST + 1];
        assert_eq!(program(&long), Err(FilterError::TooLong(MOST + 1)));
    }
}
