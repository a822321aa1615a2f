//! Writes the digest of the engine's sources into the extension, so that a stale one is refused at start-up.
//! media/session.py computes the same: path, NUL, length, NUL, content of every file, in the order of the paths.

use std::error::Error;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let engine = manifest.parent().ok_or("the crate lies at the root")?.to_path_buf();
    let mut files = Vec::new();
    collect(&engine.join("src"), true, &mut files)?;
    collect(&manifest, false, &mut files)?;
    let mut named = Vec::new();
    for path in files {
        let name = path.strip_prefix(&engine)?.to_str().ok_or("a file name is not UTF-8")?.to_owned();
        named.push((name, path));
    }
    named.sort();
    let mut digest = Sha256::new();
    for (name, path) in &named {
        let content = std::fs::read(path)?;
        digest.update(name.as_bytes());
        digest.update(format!("\0{}\0", content.len()).as_bytes());
        digest.update(&content);
    }
    let text: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=ENGINE_SOURCE_DIGEST={text}");
    println!("cargo::rerun-if-changed={}", engine.join("src").display());
    println!("cargo::rerun-if-changed={}", manifest.display());
    Ok(())
}

fn collect(folder: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if deep {
                collect(&path, deep, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
