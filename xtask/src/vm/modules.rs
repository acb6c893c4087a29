//! Which kernel modules have to be loaded, and in which order: what `depmod` and `modprobe` would
//! say, read from the modules themselves.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result, bail};

/// A module's own name: the kernel takes a hyphen for an underscore.
pub fn name(file: &str) -> Option<String> {
    let stem = file.split_once(".ko").map(|(stem, _)| stem)?;
    Some(stem.replace('-', "_"))
}

/// The modules that a module says it needs (`depends=` among its `.modinfo`).
pub fn depends(module: &[u8]) -> Result<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    // The first entry of the section has no NUL of its own before it, but padding has.
    let Some(at) = module.windows(KEY.len()).position(|bytes| bytes == KEY) else {
        bail!("it does not say what it depends on, so it is no kernel module");
    };
    let value = &module[at + KEY.len()..];
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let value = std::str::from_utf8(value).context("what it depends on is no text")?;
    let names = value.split(',').filter(|name| !name.is_empty());
    Ok(names.map(|name| name.replace('-', "_")).collect())
}

/// Everything that `wanted` needs and then `wanted` itself, each after what it needs.
///
/// `needs` is asked for what a module depends on; a module that `files` does not have is part of
/// the kernel itself when another depends on it, and an error when it was wanted.
pub fn in_order(
    wanted: &str,
    files: &BTreeMap<String, PathBuf>,
    needs: &mut impl FnMut(&str) -> Result<Vec<String>>,
) -> Result<Vec<String>> {
    if !files.contains_key(wanted) {
        bail!("the kernel has no module {wanted}");
    }
    let mut order = Vec::new();
    visit(wanted, files, needs, &mut order)?;
    Ok(order)
}

fn visit(
    module: &str,
    files: &BTreeMap<String, PathBuf>,
    needs: &mut impl FnMut(&str) -> Result<Vec<String>>,
    order: &mut Vec<String>,
) -> Result<()> {
    if order.iter().any(|other| other == module) || !files.contains_key(module) {
        return Ok(());
    }
    // The kernel's build refuses modules that need each other, so this ends.
    for needed in needs(module)? {
        visit(&needed, files, needs, order)?;
    }
    order.push(module.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_is_read_from_it() {
        assert_eq!(name("cdc-acm.ko").as_deref(), Some("cdc_acm"));
        assert_eq!(name("vivid.ko.xz").as_deref(), Some("vivid"));
        assert_eq!(name("modules.order"), None);
        let module = b"\x7fELF..\0license=GPL\0depends=videodev,v4l2-tpg\0retpoline=Y\0";
        assert_eq!(depends(module).unwrap(), ["videodev", "v4l2_tpg"]);
        assert!(depends(b"..\0depends=\0name=uhid\0").unwrap().is_empty());
        assert!(depends(b"not a module").is_err());
    }

    #[test]
    fn each_comes_once_and_after_what_it_needs() {
        let tree = [
            ("vivid", vec!["videobuf2_v4l2", "tpg", "mc"]),
            ("videobuf2_v4l2", vec!["videodev", "mc"]),
            ("videodev", vec!["mc", "built_in"]),
            ("mc", vec![]),
            ("tpg", vec![]),
        ];
        let files = tree.iter().map(|(n, _)| (n.to_string(), PathBuf::new()));
        let files = files.collect();
        let mut needs = |module: &str| {
            let (_, needs) = tree.iter().find(|(name, _)| *name == module).unwrap();
            Ok(needs.iter().map(|name| name.to_string()).collect())
        };
        let order = in_order("vivid", &files, &mut needs).unwrap();
        assert_eq!(order, ["mc", "videodev", "videobuf2_v4l2", "tpg", "vivid"]);
        assert!(in_order("v4l2loopback", &files, &mut needs).is_err());
    }
}
