//! Whatever arrives over the wire decodes or is an error; what decodes survives another round.
#![no_main]

use hilt_protocol::wire;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    // Compared as bytes: a NaN in a frame's numbers is no reason to complain here.
    macro_rules! rounds {
        ($decode:path, $encode:path) => {
            if let Ok(first) = $decode(bytes) {
                let again = $encode(&first);
                match $decode(&again) {
                    Ok(second) => assert_eq!($encode(&second), again),
                    Err(error) => panic!("what was encoded does not decode: {error}"),
                }
            }
        };
    }
    match kind % 6 {
        0 => rounds!(wire::decode_entry, wire::encode_entry),
        1 => rounds!(wire::decode_snapshot, wire::encode_snapshot),
        2 => rounds!(wire::decode_graph, wire::encode_graph),
        3 => rounds!(wire::decode_rig_spec, wire::encode_rig_spec),
        4 => rounds!(wire::decode_ack, wire::encode_ack),
        _ => rounds!(wire::decode_progress, wire::encode_progress),
    }
});
