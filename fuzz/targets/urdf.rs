//! A URDF with any text in it gives a chain whose tool is somewhere, or a message.
#![no_main]

use hilt_kinematics::Chain;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Chain::from_urdf(text, "base", "tip") {
        Ok(chain) => {
            let mut q = chain.zeros();
            chain.clamp(q.as_mut_slice());
            let tool = chain.base_from_tool(q.as_slice());
            // Numbers of 300 digits are finite one by one, and their sum need not be.
            assert!(tool.rotation.coords.iter().all(|v| v.is_finite()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
