//! Fuzz the decoder of the control protocol's websocket messages.

use nm_messages::{batches, decode_batch, encode, ToController, ToNode, Wire};

/// Decodes the bytes in either direction; decoded messages must be encodable and decodable again.
pub fn run(data: &[u8]) {
    direction::<ToNode>(data);
    direction::<ToController>(data);
}

fn direction<M: Wire>(data: &[u8]) {
    let items = decode_batch::<M>(data);
    assert!(
        !items.is_empty() && items.len() <= data.len().max(1),
        "an item is a byte at least"
    );
    let good: Vec<_> = items.into_iter().flatten().collect();
    // A message near the size limit may be longer when it is encoded again; then the encoder refuses it with its
    // error id.
    let written: Vec<Vec<u8>> = good.iter().filter_map(|frame| encode(frame).ok()).collect();
    let mut again = Vec::new();
    for message in batches(written.clone()) {
        for item in decode_batch::<M>(&message) {
            let frame = item.unwrap_or_else(|bad| panic!("an encoded message is refused: {bad:?}"));
            again.push(encode(&frame).expect("it was written before"));
        }
    }
    // Compared as bytes and not as values, because NaN differs from itself.
    assert_eq!(again, written);
}
